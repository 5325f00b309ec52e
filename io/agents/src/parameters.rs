//! What does an agent get to read for a parameter?
//!
//! A secret stays in its file until the call: it is in no state, no log and no command line. What a start has read is
//! kept for its checks and its stop, so that a secret that vanishes takes nothing down: in `RUNTIME_DIR/parameters/`,
//! where nobody else may read, until the resource has stopped or the machine boots.
//!
//! Nothing is started with a secret that every user of the node may read. What runs is checked and stopped all the same,
//! and a node is cut off: nothing that must end waits for a `chmod`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use host::supervise::{private_folder, replace_private_file};
use model::{ParameterValue, ResourceName};

use crate::{AgentsConfig, mark};

/// Longest file of a parameter.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What was read of a file for a parameter.
type Kept = BTreeMap<String, (String, String)>;

/// Which of two contents of a file is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// What the file holds at present.
    File,
    /// What it held when the resource was started.
    Kept,
}

/// The parameters as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) texts: BTreeMap<String, String>,
    /// Those that nobody can read any more, and why.
    pub(crate) unreadable: BTreeMap<String, String>,
    /// Those that everybody can read, and what to do.
    pub(crate) exposed: BTreeMap<String, String>,
}

impl Resolved {
    /// Why nothing may be started with these.
    pub(crate) fn why_refused(&self) -> Option<&String> {
        self.unreadable.values().chain(self.exposed.values()).next()
    }
}

/// The parameters as text; an error says which file cannot be read, and why. Of a test, also which file everybody can
/// read.
pub(crate) fn resolve(
    parameters: &BTreeMap<String, ParameterValue>,
    is_test: bool,
) -> Result<BTreeMap<String, String>, String> {
    let resolved = look_up(parameters, &Kept::new(), Prefer::File)?;
    if let Some(why) = resolved.unreadable.values().next() {
        return Err(why.clone());
    }
    match resolved.exposed.values().next() {
        Some(why) if is_test => Err(why.clone()),
        why => {
            why.into_iter().for_each(|why| warn_once(why));
            Ok(resolved.texts)
        }
    }
}

/// The parameters as text, as far as they can be had. An error says which can never be one.
pub(crate) fn look_up(
    parameters: &BTreeMap<String, ParameterValue>,
    kept: &Kept,
    prefer: Prefer,
) -> Result<Resolved, String> {
    let mut resolved = Resolved::default();
    for (name, value) in parameters {
        let text = match value {
            ParameterValue::Text(text) => text.clone(),
            ParameterValue::File { file } => {
                let kept = kept.get(name).filter(|(from, _)| from == file).map(|(_, text)| text.clone());
                let mut read = |file: &String| -> Result<String, String> {
                    let Content { text, is_exposed } = read(file)?;
                    if is_exposed {
                        let why = format!(
                            "parameter `{name}`: every user of this node may read {file}: `chmod o-rwx {file}`, and \
                             change the secret if somebody may have read it"
                        );
                        resolved.exposed.insert(name.clone(), why);
                    }
                    Ok(text)
                };
                let found = match (prefer, kept) {
                    (Prefer::Kept, Some(text)) => Ok(text),
                    (Prefer::File, kept) => read(file).or_else(|why| kept.ok_or(why)),
                    (Prefer::Kept, None) => read(file),
                };
                match found {
                    Ok(text) => text,
                    Err(why) => {
                        let why = format!("parameter `{name}`: cannot read {file}: {why}");
                        resolved.unreadable.insert(name.clone(), why);
                        continue;
                    }
                }
            }
        };
        if text.contains('\0') {
            return Err(format!("parameter `{name}` contains a zero byte"));
        }
        resolved.texts.insert(name.clone(), text);
    }
    Ok(resolved)
}

fn path_of(config: &AgentsConfig, resource: &ResourceName) -> PathBuf {
    config.runtime_dir.join("parameters").join(mark::file_name(resource.as_str()))
}

/// Keeps what a start has read from files, before it begins.
pub(crate) fn keep(
    config: &AgentsConfig,
    resource: &ResourceName,
    parameters: &BTreeMap<String, ParameterValue>,
    texts: &BTreeMap<String, String>,
) {
    let kept: Kept = parameters
        .iter()
        .filter_map(|(name, value)| match value {
            ParameterValue::Text(_) => None,
            ParameterValue::File { file } => Some((name.clone(), (file.clone(), texts.get(name)?.clone()))),
        })
        .collect();
    if kept.is_empty() {
        return forget(config, resource);
    }
    let path = path_of(config, resource);
    let written = private_folder(&config.runtime_dir.join("parameters"))
        .and_then(|()| serde_json::to_vec(&kept).map_err(io::Error::from))
        .and_then(|bytes| replace_private_file(&path, &bytes));
    if let Err(error) = written {
        tracing::warn!(
            "cannot write {}: {error}; the checks and the stop of {resource} need its files",
            path.display()
        );
    }
}

/// What the last start has read.
pub(crate) fn kept(
    config: &AgentsConfig,
    resource: &ResourceName,
    parameters: &BTreeMap<String, ParameterValue>,
) -> Kept {
    if parameters.values().all(|value| matches!(value, ParameterValue::Text(_))) {
        return Kept::new();
    }
    let path = path_of(config, resource);
    let read = host::limits::with_reserve(|| fs::read(&path))
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
    read.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!("cannot read {}: {error}", path.display());
        }
        Kept::new()
    })
}

/// Keeps nothing for the resource any more.
pub(crate) fn forget(config: &AgentsConfig, resource: &ResourceName) {
    // The next start writes it anew, and nothing else reads it before.
    let _ = fs::remove_file(path_of(config, resource));
}

struct Content {
    text: String,
    /// May every user of this node read it?
    is_exposed: bool,
}

fn read(file: &str) -> Result<Content, String> {
    let mut text = String::new();
    let opened = host::limits::with_reserve(|| fs::File::open(file)).map_err(|error| error.to_string())?;
    let is_exposed = opened.metadata().is_ok_and(|about| about.is_file() && about.mode() & 0o004 != 0);
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    let end = text.strip_suffix('\n').map_or(text.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    text.truncate(end);
    Ok(Content { text, is_exposed })
}

fn warn_once(why: &str) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert(why.to_owned());
    if is_new {
        tracing::warn!("{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn write_secret(file: &Path, text: &str, mode: u32) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_that_every_user_may_read_starts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let shown = file.display().to_string();
        let given = BTreeMap::from([("password".to_owned(), ParameterValue::File { file: shown.clone() })]);
        for (mode, is_fine) in [(0o600, true), (0o640, true), (0o644, false), (0o604, false)] {
            write_secret(&file, "s3cret\n", mode);
            let resolved = look_up(&given, &Kept::new(), Prefer::File).unwrap();
            assert_eq!(resolved.texts["password"], "s3cret", "what runs is stopped with it");
            assert_eq!(resolved.why_refused().is_none(), is_fine, "{mode:o}");
            assert_eq!(resolve(&given, true).is_ok(), is_fine, "{mode:o}");
            assert!(resolve(&given, false).is_ok(), "a node is cut off all the same");
        }
        let why = resolve(&given, true).unwrap_err();
        assert!(why.contains("`password`") && why.contains(&format!("`chmod o-rwx {shown}`")), "{why}");
    }

    #[test]
    fn a_file_stands_for_its_content_without_the_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        write_secret(&file, "two\nlines\n", 0o600);
        let given = BTreeMap::from([
            ("password".to_owned(), ParameterValue::File { file: file.display().to_string() }),
            ("ip".to_owned(), ParameterValue::Text("10.0.0.1".to_owned())),
        ]);
        let resolved = resolve(&given, false).unwrap();
        assert_eq!(resolved["password"], "two\nlines");
        assert_eq!(resolved["ip"], "10.0.0.1");
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let given =
            BTreeMap::from([("password".to_owned(), ParameterValue::File { file: "/nowhere/secret".to_owned() })]);
        let error = resolve(&given, false).unwrap_err();
        assert!(error.contains("`password`") && error.contains("/nowhere/secret"), "{error}");
        let resolved = look_up(&given, &Kept::new(), Prefer::Kept).unwrap();
        assert!(resolved.texts.is_empty() && resolved.unreadable["password"].contains("/nowhere/secret"));
    }

    #[test]
    fn an_endless_file_is_refused() {
        let given = BTreeMap::from([("x".to_owned(), ParameterValue::File { file: "/dev/zero".to_owned() })]);
        assert!(resolve(&given, false).is_err());
    }

    #[test]
    fn what_a_start_has_read_outlives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = AgentsConfig::new(folder.path());
        let file = folder.path().join("secret");
        write_secret(&file, "old\n", 0o600);
        let given =
            BTreeMap::from([("password".to_owned(), ParameterValue::File { file: file.display().to_string() })]);
        let web = ResourceName::from("web");
        keep(&config, &web, &given, &resolve(&given, false).unwrap());
        assert_eq!(path_of(&config, &web).metadata().unwrap().mode() & 0o777, 0o600);
        let password =
            |prefer| look_up(&given, &kept(&config, &web, &given), prefer).unwrap().texts["password"].clone();
        fs::write(&file, "new\n").unwrap();
        assert_eq!(password(Prefer::Kept), "old");
        assert_eq!(password(Prefer::File), "new");
        fs::remove_file(&file).unwrap();
        assert_eq!(password(Prefer::File), "old");
        forget(&config, &web);
        assert!(kept(&config, &web, &given).is_empty());
    }
}
