//! Small files that are replaced whole: a reader sees the old content or the new, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The largest file that [`load`] reads, in bytes.
pub const BYTES_MAX: u64 = 1024 * 1024;

/// Replaces the file at `path` by `bytes`, durably, readable by its owner alone.
///
/// # Errors
/// As the file system says; the old content is then still there.
pub fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&unfinished, path)?;
    sync_directory_of(path)
}

/// The content of the file at `path`; none if there is no such file.
///
/// # Errors
/// As the file system says; `InvalidData` if the file is longer than [`BYTES_MAX`].
pub fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {BYTES_MAX} bytes")));
    }
    Ok(Some(bytes))
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("order");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, b"a longer first content").unwrap();
        // What a crash left of an earlier attempt is in nobody's way.
        std::fs::write(folder.path().join("order.new"), [7; 4000]).unwrap();
        save(&path, b"second").unwrap();
        assert_eq!(load(&path).unwrap().unwrap(), b"second");
    }

    #[test]
    fn an_absurdly_long_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("order");
        File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        assert_eq!(load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
