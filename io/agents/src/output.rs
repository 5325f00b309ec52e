//! What do services and agents print, and how much of it is kept?
//!
//! Each resource has one file that its service and its agents append to. A file, not a pipe: a pipe would end with the
//! worker. It never grows without limit; the newest part stays.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use model::ResourceName;

use crate::{AgentsConfig, mark};

/// Beyond this a file is cut down.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What stays of it then.
const KEPT_BYTES: u64 = 64 * 1024;

/// The output of one resource from one point on.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    from: u64,
}

impl Output {
    /// What is printed from here on.
    pub(crate) fn of(config: &AgentsConfig, resource: &ResourceName) -> Output {
        let path = config.output_dir.join(format!("{}.log", mark::file_name(resource.as_str())));
        let from = path.metadata().map_or(0, |about| about.len());
        Output { path, from }
    }

    /// Opens it for a process to append to. A process whose output cannot be kept runs without (`None`).
    pub(crate) fn open(&self) -> Option<File> {
        match OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!("cannot write {}: {error}; the output is lost", self.path.display());
                None
            }
        }
    }

    /// The end of what was printed since.
    pub(crate) fn tail(&self) -> String {
        tail(&self.path, self.from).unwrap_or_default()
    }

    /// The last line that was printed since, if there is one.
    pub(crate) fn last_line(&self) -> Option<String> {
        last_line(&self.tail())
    }

    /// Cuts it down if it has grown too long.
    pub(crate) fn trim(&self) {
        trim(&self.path);
    }
}

/// The last line that is not blank, shortened to what fits into a sentence.
pub(crate) fn last_line(text: &str) -> Option<String> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(shorten)
}

/// At most 300 characters, none of them a control character.
pub(crate) fn shorten(line: &str) -> String {
    let plain: String = line.chars().filter(|c| !c.is_control()).take(301).collect();
    match plain.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

fn tail(path: &Path, from: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    // Cut down meanwhile: everything that is there is new enough.
    let from = if from > length { 0 } else { from };
    let from = from.max(length.saturating_sub(KEPT_BYTES));
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writers append, so they go on at the new end whatever happens here.
fn trim(path: &Path) {
    let cut = || -> io::Result<()> {
        if path.metadata()?.len() <= FILE_BYTES_MAX {
            return Ok(());
        }
        let kept = tail(path, 0)?;
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(0)?;
        file.write_at(kept.as_bytes(), 0)?;
        Ok(())
    };
    if let Err(error) = cut()
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot cut {} down: {error}", path.display());
    }
}

/// Cuts down every file of the folder that has grown too long.
pub(crate) fn trim_all(output_dir: &Path) {
    for entry in std::fs::read_dir(output_dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            trim(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_output_without_end_is_cut_down_to_its_newest_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(&vec![b'a'; 2 * 1024 * 1024]).unwrap();
        writer.write_all(b"\nthe newest line\n").unwrap();
        let output = Output { path: path.clone(), from: 100 };
        trim_all(folder.path());
        assert!(path.metadata().unwrap().len() <= KEPT_BYTES);
        assert_eq!(output.last_line().unwrap(), "the newest line");
        writer.write_all(b"after it\n").unwrap();
        assert_eq!(output.last_line().unwrap(), "after it");
    }

    #[test]
    fn only_what_was_printed_since_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        std::fs::write(&path, "an old line\n").unwrap();
        assert_eq!(Output { path, from: 12 }.last_line(), None);
    }

    #[test]
    fn a_line_of_garbage_becomes_a_short_sentence() {
        assert_eq!(shorten("a\u{1b}[31mred"), "a[31mred");
        assert_eq!(shorten(&"ä".repeat(1000)).chars().count(), 301);
        assert_eq!(last_line("first\n\n  second  \n \n"), Some("second".to_owned()));
    }
}
