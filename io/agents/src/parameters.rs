//! What does an agent get to read for a parameter?
//!
//! A secret stays in its file until the call: it is in no state, no log and no command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use model::ParameterValue;

/// Longest file of a parameter.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The parameters as text; an error says which file cannot be read, and why.
pub(crate) fn resolve(parameters: &BTreeMap<String, ParameterValue>) -> Result<BTreeMap<String, String>, String> {
    parameters
        .iter()
        .map(|(name, value)| {
            let text = match value {
                ParameterValue::Text(text) => text.clone(),
                ParameterValue::File { file } => {
                    read(file).map_err(|error| format!("parameter `{name}`: cannot read {file}: {error}"))?
                }
            };
            if text.contains('\0') {
                return Err(format!("parameter `{name}` contains a zero byte"));
            }
            Ok((name.clone(), text))
        })
        .collect()
}

fn read(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|error| error.to_string())?;
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    let end = text.strip_suffix('\n').map_or(text.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    text.truncate(end);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_for_its_content_without_the_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "two\nlines\n").unwrap();
        let given = BTreeMap::from([
            ("password".to_owned(), ParameterValue::File { file: file.display().to_string() }),
            ("ip".to_owned(), ParameterValue::Text("10.0.0.1".to_owned())),
        ]);
        let resolved = resolve(&given).unwrap();
        assert_eq!(resolved["password"], "two\nlines");
        assert_eq!(resolved["ip"], "10.0.0.1");
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let given =
            BTreeMap::from([("password".to_owned(), ParameterValue::File { file: "/nowhere/secret".to_owned() })]);
        let error = resolve(&given).unwrap_err();
        assert!(error.contains("`password`") && error.contains("/nowhere/secret"), "{error}");
    }

    #[test]
    fn an_endless_file_is_refused() {
        let given = BTreeMap::from([("x".to_owned(), ParameterValue::File { file: "/dev/zero".to_owned() })]);
        assert!(resolve(&given).is_err());
    }
}
