//! What is an agent told? Free text for foreign agents; for our own, only what they know.
//!
//! `cardea:process` is stored as its agent reads it: `command` as a JSON array of strings, `environment` as a JSON
//! object of strings, everything else as written.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use model::ParameterValue;
use toml::de::DeValue;

use crate::diagnostic::{Diagnostic, Findings};
use crate::secrets::is_secret;
use crate::section::{Placed, Section, Value, wrong_type};
use crate::words::{shown, suggestion};

/// A parameter as it stands in the file: name, place of the name, value.
pub(crate) type Raw<'a> = (&'a str, Range<usize>, &'a Value<'a>);

/// The agents that are built in.
pub(crate) const NATIVE_AGENTS: [&str; 2] = ["cardea:ip", "cardea:process"];

/// Longest name of a network device on Linux, in bytes.
const DEVICE_BYTES_MAX: usize = 15;

/// Parameters of a foreign agent: strings, whole numbers and truth values become text, `{ file = "/…" }` a secret.
///
/// `one_line` where the agent reads lines, so that a value cannot smuggle in another parameter.
pub(crate) fn free(
    of: &str,
    raw: &[Raw<'_>],
    one_line: bool,
    findings: &mut Findings,
) -> BTreeMap<String, ParameterValue> {
    let mut parameters = BTreeMap::new();
    for (name, span, value) in raw {
        let what = format!("`{}` of {of}", shown(name));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            findings.push(
                Diagnostic::error("config::bad_parameter", format!("{what} cannot name a parameter"))
                    .at(span.clone(), "only letters, digits, `-`, `_` and `.`"),
            );
        } else if is_secret(name) && is_written_out(value) {
            findings.push(
                Diagnostic::error("config::open_secret", format!("{what} is a secret, and the cluster file is no place for it"))
                    .at(value.span(), "everybody who may look at the cluster could read it")
                    .help(format!(
                        "put it into a file that only root can read, on every node, and write {} = {{ file = \"/etc/cardea/secrets/NAME\" }}",
                        shown(name)
                    )),
            );
        } else if let Some(found) = free_value(&what, value, one_line, findings) {
            parameters.insert((*name).to_owned(), found);
        }
    }
    parameters
}

/// Is a value there, and not only where to find it?
fn is_written_out(value: &Value<'_>) -> bool {
    match value.get_ref() {
        DeValue::String(text) => !text.is_empty(),
        DeValue::Integer(_) => true,
        DeValue::Boolean(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => false,
    }
}

fn free_value(what: &str, value: &Value<'_>, one_line: bool, findings: &mut Findings) -> Option<ParameterValue> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Table(_) => {
            let section = Section::of(what.to_owned(), value.span(), value, findings)?;
            return secret_file(&section, findings);
        }
        other @ (DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_)) => {
            findings.push(
                wrong_type(
                    what,
                    "a string, a whole number, a truth value or { file = \"/path\" }",
                    other,
                    value.span(),
                )
                .help("put it in quotes: the agent is told text"),
            );
            return None;
        }
    };
    if text.contains('\0') || (one_line && text.contains(['\n', '\r'])) {
        findings.push(
            Diagnostic::error("config::bad_parameter", format!("{what} cannot be told to an agent"))
                .at(value.span(), if one_line { "must be a single line" } else { "contains a NUL character" }),
        );
        return None;
    }
    Some(ParameterValue::Text(text))
}

fn secret_file(section: &Section<'_>, findings: &mut Findings) -> Option<ParameterValue> {
    section.refuse_unknown_keys(&["file"], findings);
    section.require("file", "{ file = \"/etc/cardea/secrets/NAME\" }", findings);
    let file = section.string("file", findings)?;
    if let Some(fault) = path_fault(file.value) {
        findings.push(
            Diagnostic::error("config::bad_path", format!("{} cannot be read from there", section.what))
                .at(file.span, fault),
        );
        return None;
    }
    Some(ParameterValue::File { file: file.value.to_owned() })
}

/// Why a text is no absolute path; none if it is one.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    if path.contains('\0') {
        Some("contains a NUL character")
    } else if !path.starts_with('/') {
        Some("must be an absolute path")
    } else {
        None
    }
}

/// What `cardea:ip` may be told.
pub(crate) struct Address {
    pub(crate) address: Ipv4Addr,
    pub(crate) span: Range<usize>,
}

/// Parameters of `cardea:ip`, and the address that it keeps.
pub(crate) fn ip(
    of: &Section<'_>,
    raw: &[Raw<'_>],
    findings: &mut Findings,
) -> (BTreeMap<String, ParameterValue>, Option<Address>) {
    let known = ["address", "device"];
    refuse_unknown(of, raw, &known, findings);
    require(of, raw, "address", "address = \"192.0.2.10/24\"", findings);
    let mut parameters = BTreeMap::new();
    let mut kept = None;
    if let Some(text) = text(of, raw, "address", findings) {
        match address(text.value) {
            Ok(address) => {
                kept = Some(Address { address, span: text.span });
                parameters.insert("address".to_owned(), ParameterValue::Text(text.value.to_owned()));
            }
            Err(fault) => findings.push(
                Diagnostic::error(
                    "config::bad_address",
                    format!("{} cannot keep the address \"{}\"", of.what, shown(text.value)),
                )
                .at(text.span, fault)
                .help("write an IPv4 address and its prefix length: \"192.0.2.10/24\""),
            ),
        }
    }
    if let Some(text) = text(of, raw, "device", findings) {
        let is_device = !text.value.is_empty()
            && text.value.len() <= DEVICE_BYTES_MAX
            && !matches!(text.value, "." | "..")
            && text.value.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
        if is_device {
            parameters.insert("device".to_owned(), ParameterValue::Text(text.value.to_owned()));
        } else {
            findings.push(
                Diagnostic::error("config::bad_device", format!("\"{}\" is no network device", shown(text.value)))
                    .at(text.span, "not a name such as \"eth0\"")
                    .help("leave `device` out: the device whose network holds the address is used"),
            );
        }
    }
    (parameters, kept)
}

/// Reads `IP/PREFIX`; the error is why it cannot be kept on an interface.
fn address(text: &str) -> Result<Ipv4Addr, &'static str> {
    let (ip, prefix) = text.split_once('/').ok_or("the prefix length is missing")?;
    if ip.contains(':') {
        return Err("only IPv4 addresses can be kept");
    }
    let ip: Ipv4Addr = ip.parse().map_err(|_| "not an IPv4 address")?;
    let is_number = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix = prefix.parse::<u32>().ok().filter(|p| is_number && (1..=32).contains(p));
    let prefix = prefix.ok_or("the prefix length must be from 1 to 32")?;
    let host_mask = u32::MAX.checked_shr(prefix).unwrap_or(0);
    let host = u32::from(ip) & host_mask;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_loopback() {
        Err("not the address of a machine on a network")
    } else if prefix <= 30 && host == 0 {
        Err("this is the network itself")
    } else if prefix <= 30 && host == host_mask {
        Err("this is the network's broadcast address")
    } else {
        Ok(ip)
    }
}

/// Parameters of `cardea:process`.
pub(crate) fn process(of: &Section<'_>, raw: &[Raw<'_>], findings: &mut Findings) -> BTreeMap<String, ParameterValue> {
    let known = ["command", "directory", "environment", "tcp", "http"];
    refuse_unknown(of, raw, &known, findings);
    require(of, raw, "command", "command = [\"/usr/sbin/NAME\", \"--foreground\"]", findings);
    let mut parameters = BTreeMap::new();
    let mut put = |name: &str, text: String| parameters.insert(name.to_owned(), ParameterValue::Text(text));
    if let Some(words) = command(of, raw, findings) {
        put("command", json_array(&words));
    }
    if let Some(text) = text(of, raw, "directory", findings) {
        match path_fault(text.value) {
            None => _ = put("directory", text.value.to_owned()),
            Some(fault) => findings.push(
                Diagnostic::error("config::bad_path", format!("{} cannot run there", of.what)).at(text.span, fault),
            ),
        }
    }
    if let Some(variables) = environment(of, raw, findings) {
        put("environment", json_object(&variables));
    }
    let probes = [("tcp", "IP:PORT", probe_tcp as fn(&str) -> bool), ("http", "http://IP:PORT/path", probe_http)];
    for (name, form, is_valid) in probes {
        if let Some(text) = text(of, raw, name, findings) {
            if is_valid(text.value) {
                put(name, text.value.to_owned());
            } else {
                let message = format!("`{name}` of {} cannot be \"{}\"", of.what, shown(text.value));
                findings.push(
                    Diagnostic::error("config::bad_probe", message)
                        .at(text.span, format!("must be \"{form}\""))
                        .help("an IP and not a name: a probe must not wait for a name server"),
                );
            }
        }
    }
    let probes = (find(raw, "tcp"), find(raw, "http"));
    if let (Some(_), Some((_, span, _))) = probes {
        findings.push(
            Diagnostic::error("config::two_probes", format!("{} has two probes", of.what))
                .at(span.clone(), "beside `tcp`")
                .help("keep `http`: who answers a page also accepts connections"),
        );
    }
    parameters
}

fn probe_tcp(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok_and(|a| a.port() != 0)
}

fn probe_http(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    probe_tcp(address) && path.chars().all(|c| c.is_ascii_graphic())
}

fn command(of: &Section<'_>, raw: &[Raw<'_>], findings: &mut Findings) -> Option<Vec<String>> {
    let (_, _, value) = find(raw, "command")?;
    let words: Vec<String> = match value.get_ref() {
        DeValue::String(text) if text.contains(['"', '\'', '\\', '$', '|', ';', '&', '<', '>', '`']) => {
            let message = format!("{} cannot run this command: no shell reads it", of.what);
            findings.push(
                Diagnostic::error("config::bad_command", message)
                    .at(value.span(), "a character that only a shell understands")
                    .help("write a list: command = [\"/usr/sbin/NAME\", \"an argument with blanks\"]"),
            );
            return None;
        }
        DeValue::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        DeValue::Array(items) => {
            let what = format!("an item of `command` of {}", of.what);
            let mut words = Vec::new();
            for item in items {
                match item.get_ref() {
                    DeValue::String(text) => words.push(text.to_string()),
                    other => {
                        findings.push(wrong_type(&what, "a string", other, item.span()).help("put it in quotes"));
                        return None;
                    }
                }
            }
            words
        }
        other => {
            let what = format!("`command` of {}", of.what);
            findings.push(wrong_type(&what, "a list of strings", other, value.span()));
            return None;
        }
    };
    let fault = match words.first() {
        None => "nothing to run",
        Some(program) if program.is_empty() => "the program has no name",
        Some(_) if words.iter().any(|w| w.contains('\0')) => "contains a NUL character",
        Some(_) => return Some(words),
    };
    let message = format!("{} cannot run this command", of.what);
    findings.push(Diagnostic::error("config::bad_command", message).at(value.span(), fault));
    None
}

fn environment(of: &Section<'_>, raw: &[Raw<'_>], findings: &mut Findings) -> Option<BTreeMap<String, String>> {
    let (_, span, value) = find(raw, "environment")?;
    let section = Section::of(format!("`environment` of {}", of.what), span.clone(), value, findings)?;
    let mut variables = BTreeMap::new();
    for (name, span, value) in section.entries() {
        let what = format!("`{}` of {}", shown(name), section.what);
        if name.is_empty() || name.contains(['=', '\0']) {
            findings.push(
                Diagnostic::error("config::bad_parameter", format!("{what} cannot name a variable"))
                    .at(span, "empty, or with `=`"),
            );
            continue;
        }
        match value.get_ref() {
            DeValue::String(text) if !text.contains('\0') => _ = variables.insert(name.to_owned(), text.to_string()),
            other => findings.push(wrong_type(&what, "a string without NUL", other, value.span())),
        }
    }
    Some(variables)
}

fn find<'r, 'a>(raw: &'r [Raw<'a>], name: &str) -> Option<&'r Raw<'a>> {
    raw.iter().find(|(n, _, _)| *n == name)
}

fn text<'a>(of: &Section<'_>, raw: &[Raw<'a>], name: &str, findings: &mut Findings) -> Option<Placed<&'a str>> {
    let (_, _, value) = find(raw, name)?;
    match value.get_ref() {
        DeValue::String(text) => Some(Placed { value: text.as_ref(), span: value.span() }),
        other => {
            findings.push(wrong_type(&format!("`{name}` of {}", of.what), "a string", other, value.span()));
            None
        }
    }
}

fn require(of: &Section<'_>, raw: &[Raw<'_>], name: &str, example: &str, findings: &mut Findings) {
    if find(raw, name).is_none() {
        findings.push(
            Diagnostic::error("config::missing_key", format!("{} has no `{name}`", of.what))
                .at(of.span.clone(), format!("`{name}` is missing"))
                .help(format!("write {example}")),
        );
    }
}

fn refuse_unknown(of: &Section<'_>, raw: &[Raw<'_>], known: &[&str], findings: &mut Findings) {
    let valid: Vec<&str> = known.iter().copied().chain(crate::file::resource_keys()).collect();
    for (name, span, _) in raw.iter().filter(|(name, _, _)| !known.contains(name)) {
        if findings.is_full() {
            return;
        }
        findings.push(
            Diagnostic::error("config::unknown_key", format!("{} has no key `{}`", of.what, shown(name)))
                .at(span.clone(), "unknown key")
                .help(suggestion(name, "keys", &valid)),
        );
    }
}

fn json_array(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|w| json_string(w)).collect();
    format!("[{}]", words.join(","))
}

fn json_object(variables: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = variables.iter().map(|(n, v)| format!("{}:{}", json_string(n), json_string(v))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// A JSON string (RFC 8259 §7).
fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_a_machine() {
        for good in ["10.0.0.100/24", "10.0.0.1/32", "10.0.0.0/31", "10.1.255.255/8"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/0",
            "10.0.0.1/33",
            "10.0.0.1/+24",
            "10.0.0.256/24",
            "fd00::1/64",
            "0.0.0.0/8",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.1/24/3",
            "10.0.0.1 /24",
            "255.255.255.255/32",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_probe_is_an_address_and_never_a_name() {
        assert!(probe_http("http://10.0.0.1:80/"));
        assert!(probe_http("http://10.0.0.1:80"));
        assert!(probe_http("http://[fd00::1]:80/health?deep=1"));
        for bad in
            ["", "http://", "https://10.0.0.1:80/", "http://10.0.0.1/", "http://host:80/", "http://10.0.0.1:80/a b"]
        {
            assert!(!probe_http(bad), "{bad}");
        }
        assert!(probe_tcp("10.0.0.1:5432"));
        assert!(!probe_tcp("10.0.0.1:0"));
    }

    #[test]
    fn json_keeps_every_character() {
        assert_eq!(json_string("a\"b\\c\nü\u{1}"), "\"a\\\"b\\\\c\\u000aü\\u0001\"");
        assert_eq!(json_array(&["sh".to_owned(), "-c".to_owned()]), "[\"sh\",\"-c\"]");
    }
}
