//! How do writes become durable together? As one transaction of one redb file.
//!
//! Log, single records and journal share the file, so that one commit moves them together. The
//! file is read whole when it is opened; afterwards it is only written to, so its cache is small.
//!
//! In: lists of [`Write`]. Out: durable, or an error that ends the database's life.
//! Not here: who waits for it (`disk_thread.rs`), what keys and values mean (`core/consensus`, `core/executor`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use model::{Table, Write};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;

type Records = TableDefinition<'static, u64, &'static [u8]>;

const LOG: Records = TableDefinition::new("log");
const META: Records = TableDefinition::new("meta");
const JOURNAL: Records = TableDefinition::new("journal");
/// Says how the rest is to be read.
const ABOUT: TableDefinition<'static, &'static str, u64> = TableDefinition::new("about");
const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;

/// Room for pages between two commits. What is stored is read once, so more would only be kept for nothing.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Room reserved beyond the end of the file: a disk that fills up must not stop the cluster manager first.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;

/// Everything that a database holds, as it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Single records by key.
    pub meta: BTreeMap<u64, Vec<u8>>,
    /// Log entries, lowest key first.
    pub log: Vec<(u64, Vec<u8>)>,
    /// Journal records, lowest key first.
    pub journal: Vec<(u64, Vec<u8>)>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Nothing is there.
    #[error("there is no database at {path}: `cardea init` or `cardea join` makes one")]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{path} exists already; it holds the state of a node and is never overwritten: move it away first")]
    Exists {
        /// The database.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("another daemon uses {path}: stop that one first")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// It cannot be read as a database.
    #[error(
        "{path} is damaged ({what}): keep a copy of it, remove the node from the cluster and let it join again; \
         never copy the database of another node"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer release wrote it.
    #[error(
        "{path} has format {found}, and this release reads up to format {FORMAT_NOW}: install the newer release again"
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The disk or the file system refused.
    #[error("could not {what} {path}")]
    Io {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// An earlier commit failed, and that is final.
    #[error("an earlier write to {path} failed; nothing is written any more until a restart")]
    Ended {
        /// The database.
        path: PathBuf,
    },
}

impl StorageError {
    /// May the disk have lost what was written to it? Then what the kernel gives to readers proves nothing until the
    /// next boot. A disk that is full refuses, and loses nothing.
    pub fn is_disk_fault(&self) -> bool {
        match self {
            StorageError::Io { cause, .. } => {
                // EIO, a file system that was damaged, went read-only or away.
                let faults = [Errno::IO, Errno::UCLEAN, Errno::ROFS, Errno::NODEV, Errno::NXIO, Errno::REMOTEIO];
                cause.raw_os_error().is_some_and(|code| faults.contains(&Errno::from_raw_os_error(code)))
            }
            StorageError::Missing { .. }
            | StorageError::Exists { .. }
            | StorageError::InUse { .. }
            | StorageError::Damaged { .. }
            | StorageError::TooNew { .. }
            | StorageError::Ended { .. } => false,
        }
    }
}

/// The open database of a node; the file is locked while this lives.
#[derive(Debug)]
pub struct Storage {
    database: Database,
    path: PathBuf,
    has_failed: bool,
}

/// Makes a database that holds `writes`, readable by its owner alone.
///
/// It appears under its name only when it is complete and durable.
///
/// # Errors
/// [`StorageError::Exists`] if something has the name already: the state of a node is never overwritten.
pub fn create(path: &Path, writes: &[Write]) -> Result<(), StorageError> {
    if path.symlink_metadata().is_ok() {
        return Err(StorageError::Exists { path: path.to_owned() });
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match std::fs::remove_file(&unfinished) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failure("replace", &unfinished, cause)),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|cause| failure("create", &unfinished, cause))?;
    let database = builder().create(&unfinished).map_err(|error| not_opened(error, &unfinished))?;
    let mut storage = Storage { database, path: unfinished.clone(), has_failed: false };
    storage.transact("fill", |transaction| {
        transaction.open_table(ABOUT)?.insert(FORMAT, FORMAT_NOW)?;
        for table in [LOG, META, JOURNAL] {
            transaction.open_table(table)?;
        }
        writes.iter().try_for_each(|write| apply(transaction, write))
    })?;
    drop(storage);
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(|cause| failure("make durable", &unfinished, cause))?;
    rustix::fs::renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE).map_err(|errno| match errno {
        rustix::io::Errno::EXIST => StorageError::Exists { path: path.to_owned() },
        other => failure("name", path, other.into()),
    })?;
    crate::state_file::sync_directory_of(path).map_err(|cause| failure("make durable", path, cause))
}

impl Storage {
    /// Opens the database at `path`, checks it whole, and reads everything in it.
    ///
    /// After a crash this repairs what the crash left half done: what was never acknowledged may be missing.
    ///
    /// # Errors
    /// Each says what to do about it; see [`StorageError`].
    pub fn open(path: &Path) -> Result<(Storage, Contents), StorageError> {
        let is_empty = match path.metadata() {
            Ok(found) => found.len() == 0,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::Missing { path: path.to_owned() });
            }
            Err(cause) => return Err(failure("open", path, cause)),
        };
        if is_empty {
            return Err(StorageError::Damaged { path: path.to_owned(), what: "it is empty".to_owned() });
        }
        // What an earlier life wrote and did not make durable must be so before it is read and claimed.
        File::open(path).and_then(|file| file.sync_all()).map_err(|cause| failure("make durable", path, cause))?;
        let database = builder().open(path).map_err(|error| not_opened(error, path))?;
        reserve_spare(path);
        let storage = Storage { database, path: path.to_owned(), has_failed: false };
        let contents = storage.read()?;
        Ok((storage, contents))
    }

    /// Makes `writes` durable, all or none, in their order; returns when they are.
    ///
    /// # Errors
    /// A failure is final: every later commit is refused with [`StorageError::Ended`].
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        self.commit_all(std::iter::once(writes))
    }

    /// Makes several lists durable in one transaction.
    pub(crate) fn commit_all<'a>(&mut self, lists: impl Iterator<Item = &'a [Write]>) -> Result<(), StorageError> {
        if self.has_failed {
            return Err(StorageError::Ended { path: self.path.clone() });
        }
        let mut lists = lists.filter(|list| !list.is_empty()).peekable();
        if lists.peek().is_none() {
            return Ok(());
        }
        self.transact("write to", |transaction| lists.flatten().try_for_each(|write| apply(transaction, write)))
    }

    /// Makes a transaction of nothing durable, to find out whether the disk still takes writes.
    pub(crate) fn touch(&mut self) -> Result<(), StorageError> {
        if self.has_failed {
            return Err(StorageError::Ended { path: self.path.clone() });
        }
        self.transact("write to", |_| Ok(()))
    }

    fn transact(
        &mut self,
        what: &'static str,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StorageError> {
        let outcome = self.database.begin_write().map_err(redb::Error::from).and_then(|transaction| {
            fill(&transaction)?;
            transaction.commit().map_err(redb::Error::from)
        });
        outcome.map_err(|error| {
            self.has_failed = true;
            failed(error, what, &self.path)
        })
    }

    fn read(&self) -> Result<Contents, StorageError> {
        let read = || -> Result<(u64, Contents), redb::Error> {
            let transaction = self.database.begin_read()?;
            let format = transaction.open_table(ABOUT)?.get(FORMAT)?.map_or(0, |found| found.value());
            if format != FORMAT_NOW {
                return Ok((format, Contents::default()));
            }
            Ok((
                format,
                Contents {
                    meta: all(&transaction, META)?.into_iter().collect(),
                    log: all(&transaction, LOG)?,
                    journal: all(&transaction, JOURNAL)?,
                },
            ))
        };
        match read() {
            Ok((FORMAT_NOW, contents)) => Ok(contents),
            Ok((0, _)) => Err(StorageError::Damaged { path: self.path.clone(), what: "it names no format".to_owned() }),
            Ok((found, _)) => Err(StorageError::TooNew { path: self.path.clone(), found }),
            Err(error) => Err(failed(error, "read", &self.path)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(crate) fn on(backend: impl redb::StorageBackend) -> Storage {
        let database = builder().create_with_backend(backend).unwrap();
        Storage { database, path: PathBuf::from("memory"), has_failed: false }
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn apply(transaction: &WriteTransaction, write: &Write) -> Result<(), redb::Error> {
    match write {
        Write::Put { table, key, value } => {
            transaction.open_table(records(*table))?.insert(key, value.as_slice())?;
        }
        Write::DeleteFrom { table, from } => {
            transaction.open_table(records(*table))?.retain_in(*from.., |_, _| false)?;
        }
        Write::DeleteBelow { table, below } => {
            transaction.open_table(records(*table))?.retain_in(..*below, |_, _| false)?;
        }
        Write::Delete { table, key } => {
            transaction.open_table(records(*table))?.remove(key)?;
        }
    }
    Ok(())
}

fn all(transaction: &ReadTransaction, table: Records) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let table = transaction.open_table(table)?;
    let mut all = Vec::new();
    for record in table.iter()? {
        let (key, value) = record?;
        all.push((key.value(), value.value().to_vec()));
    }
    Ok(all)
}

fn records(table: Table) -> Records {
    match table {
        Table::Log => LOG,
        Table::Meta => META,
        Table::Journal => JOURNAL,
    }
}

/// Reserves room beyond the end of the file; without it everything works until the disk is full.
fn reserve_spare(path: &Path) {
    let reserve = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let end = file.metadata()?.len();
        Ok(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, end, SPARE_BYTES)?)
    };
    if let Err(cause) = reserve() {
        tracing::warn!(path = %path.display(), %cause, "no spare room could be reserved for the database");
    }
}

fn failure(what: &'static str, path: &Path, cause: io::Error) -> StorageError {
    StorageError::Io { what, path: path.to_owned(), cause }
}

fn not_opened(error: DatabaseError, path: &Path) -> StorageError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StorageError::InUse { path: path.to_owned() }
        }
        DatabaseError::UpgradeRequired(version) => {
            StorageError::Damaged { path: path.to_owned(), what: format!("unknown file version {version}") }
        }
        other => failed(other.into(), "open", path),
    }
}

fn failed(error: redb::Error, what: &'static str, path: &Path) -> StorageError {
    match error {
        // redb reports a file that is no database, or ends too early, as invalid data.
        redb::Error::Io(cause) if matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            StorageError::Damaged { path: path.to_owned(), what: cause.to_string() }
        }
        redb::Error::Io(cause) => failure(what, path, cause),
        redb::Error::PreviousIo => StorageError::Ended { path: path.to_owned() },
        other => StorageError::Damaged { path: path.to_owned(), what: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn put(table: Table, key: u64, value: &[u8]) -> Write {
        Write::Put { table, key, value: value.to_vec() }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        (folder, path)
    }

    #[test]
    fn what_was_committed_is_there_after_a_reopen() {
        let (_folder, path) = place();
        create(&path, &[put(Table::Meta, 7, b"who I am")]).unwrap();
        let (mut storage, contents) = Storage::open(&path).unwrap();
        assert_eq!(contents.meta[&7], b"who I am");
        assert!(contents.log.is_empty() && contents.journal.is_empty());
        let entries: Vec<Write> = (1..=9).map(|key| put(Table::Log, key, &[key as u8])).collect();
        storage.commit(&entries).unwrap();
        storage
            .commit(&[
                Write::DeleteFrom { table: Table::Log, from: 8 },
                Write::DeleteBelow { table: Table::Log, below: 3 },
                Write::Delete { table: Table::Log, key: 5 },
                put(Table::Log, 8, b"again"),
                put(Table::Journal, u64::MAX, b""),
            ])
            .unwrap();
        drop(storage);
        let (_storage, contents) = Storage::open(&path).unwrap();
        let kept: Vec<u64> = contents.log.iter().map(|(key, _)| *key).collect();
        assert_eq!(kept, [3, 4, 6, 7, 8]);
        assert_eq!(contents.log[4].1, b"again");
        assert_eq!(contents.journal, [(u64::MAX, vec![])]);
    }

    #[test]
    fn a_database_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = place();
        create(&path, &[]).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_database_is_never_overwritten() {
        let (_folder, path) = place();
        create(&path, &[put(Table::Meta, 1, b"first")]).unwrap();
        assert!(matches!(create(&path, &[]), Err(StorageError::Exists { .. })));
        assert_eq!(Storage::open(&path).unwrap().1.meta[&1], b"first");
    }

    #[test]
    fn a_second_daemon_is_told_that_there_is_a_first() {
        let (_folder, path) = place();
        create(&path, &[]).unwrap();
        let first = Storage::open(&path).unwrap();
        assert!(matches!(Storage::open(&path), Err(StorageError::InUse { .. })));
        drop(first);
        Storage::open(&path).unwrap();
    }

    #[test]
    fn a_missing_database_is_no_empty_one() {
        let (_folder, path) = place();
        assert!(matches!(Storage::open(&path), Err(StorageError::Missing { .. })));
        assert!(!path.exists());
        File::create(&path).unwrap();
        assert!(matches!(Storage::open(&path), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn damage_is_named_and_never_trusted() {
        let (_folder, path) = place();
        create(&path, &(0..200).map(|key| put(Table::Log, key, &[7; 300])).collect::<Vec<_>>()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for place in (0..whole.len()).step_by(1009) {
            let mut damaged = whole.clone();
            for byte in damaged.iter_mut().skip(place).take(64) {
                *byte ^= 0x5a;
            }
            std::fs::write(&path, &damaged).unwrap();
            match Storage::open(&path) {
                // Free pages hold nothing: damage there is none.
                Ok((_, contents)) => assert!(contents.log.len() == 200 && contents.log.iter().all(|e| e.1 == [7; 300])),
                Err(StorageError::Damaged { .. } | StorageError::TooNew { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(refused > 20, "{refused}");
        std::fs::write(&path, b"not a database at all, but long enough to look at").unwrap();
        assert!(matches!(Storage::open(&path), Err(StorageError::Damaged { .. })));
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(Storage::open(&path), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_folder, path) = place();
        create(&path, &[]).unwrap();
        let database = builder().open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ABOUT).unwrap().insert(FORMAT, 2).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(matches!(Storage::open(&path), Err(StorageError::TooNew { found: 2, .. })));
    }

    const VICTIM: &str = "CARDEA_STORAGE_VICTIM";

    /// The child of the next test: commits numbers for ever and prints each when it is durable.
    #[test]
    fn victim() {
        let Some(path) = std::env::var_os(VICTIM) else { return };
        let (mut storage, contents) = Storage::open(Path::new(&path)).unwrap();
        for key in contents.log.len() as u64.. {
            storage
                .commit(&[put(Table::Log, key, &[key as u8; 700]), put(Table::Meta, 0, &key.to_le_bytes())])
                .unwrap();
            println!("durable {key}");
        }
    }

    #[test]
    fn what_was_acknowledged_survives_a_kill_in_the_middle_of_a_write() {
        use std::io::BufRead;
        let (_folder, path) = place();
        create(&path, &[]).unwrap();
        for round in 1..=5_u64 {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "database::tests::victim", "--nocapture"])
                .env(VICTIM, &path)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let number = |line: String| line.rsplit_once("durable ").and_then(|(_, key)| key.parse::<u64>().ok());
            let mut last = (&mut lines).filter_map(number).nth(10 + round as usize * 7).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            last = lines.filter_map(number).last().unwrap_or(last);
            let (_storage, contents) = Storage::open(&path).unwrap();
            let kept = contents.log.len() as u64;
            assert!(kept > last, "{kept} entries are left of {last}");
            assert!(
                contents
                    .log
                    .iter()
                    .enumerate()
                    .all(|(place, (key, value))| { *key == place as u64 && *value == [*key as u8; 700] })
            );
            assert_eq!(contents.meta[&0], (kept - 1).to_le_bytes(), "one transaction moves both");
        }
    }
}
