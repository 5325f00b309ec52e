//! How do small files get written without the worker's loop waiting for the disk?
//!
//! A thread of its own writes them. Only the newest content of each file counts: what waits is replaced.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::node_file::PulseFile;
use super::paths::Paths;

/// Root and nobody else but its group reads the cluster file: older versions may hold secrets.
const CLUSTER_FILE_MODE: u32 = 0o640;

/// Hands contents to the thread that writes them.
#[derive(Debug)]
pub struct FileWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    pulse: Option<PulseFile>,
    cluster: Option<String>,
    is_writing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileWriter {
    /// Starts the thread; it lives as long as the process.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(paths: &Paths) -> std::io::Result<FileWriter> {
        let shared = Arc::new(Shared::default());
        let (own, paths) = (shared.clone(), paths.clone());
        std::thread::Builder::new().name("files".into()).stack_size(256 * 1024).spawn(move || serve(&own, &paths))?;
        Ok(FileWriter(shared))
    }

    /// Writes what the next worker needs to be heard at once.
    pub fn save_pulse(&self, file: PulseFile) {
        self.0.lock().pulse = Some(file);
        self.0.changed.notify_all();
    }

    /// Writes a copy of the cluster file for reading; the truth is in the agreed state.
    pub fn save_cluster_file(&self, text: String) {
        self.0.lock().cluster = Some(text);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most this long.
    pub fn finish(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut waiting = self.0.lock();
        while waiting.is_writing || waiting.pulse.is_some() || waiting.cluster.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("the disk is slow: the last changes of the small files of this node are not written");
                return;
            }
            waiting = self.0.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn serve(shared: &Shared, paths: &Paths) {
    loop {
        let mut waiting = shared.lock();
        while waiting.pulse.is_none() && waiting.cluster.is_none() {
            waiting = shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let (pulse, cluster) = (waiting.pulse.take(), waiting.cluster.take());
        waiting.is_writing = true;
        drop(waiting);
        if let Some(file) = pulse
            && let Err(cause) = file.save(paths)
        {
            tracing::error!("{cause:#}; a restarted worker would be heard late");
        }
        if let Some(text) = cluster
            && let Err(cause) = write_cluster_file(&paths.cluster_file(), &text)
        {
            tracing::warn!("cannot write {}: {cause}", paths.cluster_file().display());
        }
        shared.lock().is_writing = false;
        shared.changed.notify_all();
    }
}

fn write_cluster_file(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    storage::state_file::save(path, text.as_bytes())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(CLUSTER_FILE_MODE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_newest_content_is_written_and_only_root_reads_the_cluster_file() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let writer = FileWriter::start(&paths).expect("a thread");
        for number in 0..100 {
            writer.save_cluster_file(format!("version {number}"));
        }
        writer.finish(Duration::from_secs(20));
        let path = paths.cluster_file();
        assert_eq!(std::fs::read_to_string(&path).expect("it is written"), "version 99");
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o640);
    }
}
