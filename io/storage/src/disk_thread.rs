//! How does the core write without waiting? A thread owns the database and tells what became durable.
//!
//! While one transaction is on its way to the disk, whatever else is submitted queues up and goes
//! into the next one together: the busier the disk, the more one fsync carries.
//!
//! In: lists of writes with tokens. Out: tokens that are durable, in order; or one failure, and silence.

use std::sync::mpsc;
use std::thread::JoinHandle;

use model::Write;

use crate::{Storage, StorageError};

struct Job {
    token: u64,
    writes: Vec<Write>,
    /// Is the disk written to even if there is nothing to write?
    is_try: bool,
}

/// Hands writes to the disk thread. Dropping it lets the queue finish, then closes the database.
#[derive(Debug)]
pub struct DiskHandle {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl DiskHandle {
    /// Queues `writes`; never blocks. `token` comes back when they and everything before them are durable.
    ///
    /// After a failure nothing is written and no token comes back.
    pub fn submit(&self, token: u64, writes: Vec<Write>) {
        if let Some(jobs) = &self.jobs {
            // The other end is gone only after a failure, which has been told.
            let _ = jobs.send(Job { token, writes, is_try: false });
        }
    }

    /// Tries the disk: `token` comes back when it has taken a write of nothing, and everything before it.
    pub fn try_it(&self, token: u64) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job { token, writes: Vec::new(), is_try: true });
        }
    }
}

impl Drop for DiskHandle {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Storage {
    /// Moves the database into a thread of its own.
    ///
    /// `done` gets the tokens whose writes are durable, in the order of their submission. `failed` is called at
    /// most once, and `done` never after it. Both run on the disk thread and must not wait.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn into_thread(
        self,
        done: impl Fn(Vec<u64>) + Send + 'static,
        failed: impl FnOnce(StorageError) + Send + 'static,
    ) -> Result<DiskHandle, StorageError> {
        let (jobs, queue) = mpsc::channel();
        let path = self.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                if let Err(error) = serve(self, &queue, done) {
                    failed(error);
                }
            })
            .map_err(|cause| StorageError::Io { what: "start a thread for", path, cause })?;
        Ok(DiskHandle { jobs: Some(jobs), thread: Some(thread) })
    }
}

fn serve(mut storage: Storage, queue: &mpsc::Receiver<Job>, done: impl Fn(Vec<u64>)) -> Result<(), StorageError> {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let has_writes = batch.iter().any(|job| !job.writes.is_empty());
        if !has_writes && batch.iter().any(|job| job.is_try) {
            storage.touch()?;
        } else {
            storage.commit_all(batch.iter().map(|job| job.writes.as_slice()))?;
        }
        done(batch.iter().map(|job| job.token).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use model::Table;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn put(key: u64, value: u64) -> Vec<Write> {
        vec![Write::Put { table: Table::Log, key, value: value.to_le_bytes().to_vec() }]
    }

    #[test]
    fn tokens_come_back_in_order_and_everything_queued_goes_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        crate::create(&path, &[]).unwrap();
        let (storage, _) = Storage::open(&path).unwrap();
        let (told, tokens) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let disk = storage
            .into_thread(
                move |tokens| {
                    told.send(tokens).unwrap();
                    let _ = gate.recv();
                },
                |error| panic!("{error}"),
            )
            .unwrap();
        disk.submit(0, put(1, 0));
        assert_eq!(tokens.recv().unwrap(), [0]);
        // The thread waits in `done`; meanwhile these queue up, the last one with nothing to write.
        (1..500).for_each(|token| disk.submit(token, put(1, token)));
        disk.submit(500, Vec::new());
        drop(open);
        assert_eq!(tokens.recv().unwrap(), (1..=500).collect::<Vec<u64>>());
        drop(disk);
        let (_, contents) = Storage::open(&path).unwrap();
        assert_eq!(contents.log, [(1, 499_u64.to_le_bytes().to_vec())], "the last write of a key wins");
    }

    #[test]
    fn dropping_the_handle_lets_the_queue_finish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        crate::create(&path, &[]).unwrap();
        let disk = Storage::open(&path).unwrap().0.into_thread(|_| {}, |error| panic!("{error}")).unwrap();
        (0..300).for_each(|key| disk.submit(key, put(key, key)));
        drop(disk);
        assert_eq!(Storage::open(&path).unwrap().1.log.len(), 300);
    }

    /// A disk that can be made to refuse every write.
    #[derive(Debug, Default)]
    struct Disk {
        memory: InMemoryBackend,
        is_broken: Arc<AtomicBool>,
        syncs: Arc<AtomicU64>,
    }

    impl Disk {
        fn check(&self) -> Result<(), std::io::Error> {
            if self.is_broken.load(Ordering::SeqCst) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> Result<u64, std::io::Error> {
            self.memory.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
            self.memory.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
            self.check()?;
            self.memory.set_len(len)
        }
        fn sync_data(&self) -> Result<(), std::io::Error> {
            self.check()?;
            self.syncs.fetch_add(1, Ordering::SeqCst);
            self.memory.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
            self.check()?;
            self.memory.write(offset, data)
        }
    }

    #[test]
    fn a_try_writes_to_the_disk_although_there_is_nothing_to_write() {
        let disk = Disk::default();
        let (is_broken, syncs) = (Arc::clone(&disk.is_broken), Arc::clone(&disk.syncs));
        let (told, events) = mpsc::channel();
        let failures = told.clone();
        let disk = Storage::on(disk)
            .into_thread(
                move |tokens| told.send(Ok(tokens)).unwrap(),
                move |error| failures.send(Err(error.to_string())).unwrap(),
            )
            .unwrap();
        let before = syncs.load(Ordering::SeqCst);
        disk.submit(1, Vec::new());
        assert_eq!(events.recv().unwrap(), Ok(vec![1]));
        assert_eq!(syncs.load(Ordering::SeqCst), before, "nothing to write is nothing to wait for");
        disk.try_it(2);
        assert_eq!(events.recv().unwrap(), Ok(vec![2]));
        assert!(syncs.load(Ordering::SeqCst) > before);
        is_broken.store(true, Ordering::SeqCst);
        disk.try_it(3);
        assert!(events.recv().unwrap().is_err(), "a disk that refuses shows although nothing is written");
    }

    #[test]
    fn after_a_failed_commit_nothing_is_acknowledged() {
        let is_broken = Arc::new(AtomicBool::new(false));
        let storage = Storage::on(Disk { is_broken: Arc::clone(&is_broken), ..Disk::default() });
        let (told, events) = mpsc::channel();
        let failures = told.clone();
        let disk = storage
            .into_thread(
                move |tokens| told.send(Ok(tokens)).unwrap(),
                move |error| failures.send(Err(error.to_string())).unwrap(),
            )
            .unwrap();
        disk.submit(1, put(1, 1));
        assert_eq!(events.recv().unwrap(), Ok(vec![1]));
        is_broken.store(true, Ordering::SeqCst);
        disk.submit(2, put(2, 2));
        assert!(events.recv().unwrap().is_err());
        is_broken.store(false, Ordering::SeqCst);
        disk.submit(3, put(3, 3));
        drop(disk);
        assert!(events.recv().is_err(), "one failure, then silence");
    }

    #[test]
    fn a_failed_commit_is_final() {
        let is_broken = Arc::new(AtomicBool::new(false));
        let mut storage = Storage::on(Disk { is_broken: Arc::clone(&is_broken), ..Disk::default() });
        storage.commit(&put(1, 1)).unwrap();
        is_broken.store(true, Ordering::SeqCst);
        assert!(matches!(storage.commit(&put(2, 2)), Err(StorageError::Io { .. })));
        is_broken.store(false, Ordering::SeqCst);
        assert!(matches!(storage.commit(&put(3, 3)), Err(StorageError::Ended { .. })));
    }
}
