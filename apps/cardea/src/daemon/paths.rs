//! Where does a node keep its things? Everything hangs below one root.

use std::path::{Path, PathBuf};

/// The folders and files of a node.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Everything below `root`.
    pub fn new(root: &Path) -> Self {
        Paths { root: root.to_owned() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cluster file as it was last applied, for reading.
    pub fn cluster_file(&self) -> PathBuf {
        self.root.join("etc/cardea/cluster.toml")
    }

    /// Lasting things: log, identity.
    pub fn lib(&self) -> PathBuf {
        self.root.join("var/lib/cardea")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.lib().join("state.redb")
    }

    /// What happened on this node lately.
    pub fn events(&self) -> PathBuf {
        self.lib().join("events.jsonl")
    }

    /// How the worker before this one ended, if it ended by an error.
    pub fn last_end(&self) -> PathBuf {
        self.run().join("worker-ended")
    }

    /// Keys and certificates.
    pub fn identity(&self) -> PathBuf {
        self.lib().join("identity")
    }

    /// Who this node is.
    pub fn node_file(&self) -> PathBuf {
        self.lib().join("node.json")
    }

    /// What the pulse needs before the database is open.
    pub fn pulse_file(&self) -> PathBuf {
        self.lib().join("pulse.json")
    }

    /// Which machine this is.
    pub fn machine(&self) -> PathBuf {
        self.lib().join("machine")
    }

    /// Things of this boot.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/cardea")
    }

    /// Says that the disk lost something in this boot.
    pub fn storage_failed(&self) -> PathBuf {
        self.run().join("storage-failed")
    }

    /// Where commands talk to the daemon.
    pub fn socket(&self) -> PathBuf {
        self.run().join("api.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_hangs_below_the_root() {
        let paths = Paths::new(Path::new("/tmp/x"));
        let all = [
            paths.cluster_file(),
            paths.lib(),
            paths.database(),
            paths.events(),
            paths.last_end(),
            paths.identity(),
            paths.node_file(),
            paths.pulse_file(),
            paths.machine(),
            paths.run(),
            paths.storage_failed(),
            paths.socket(),
        ];
        assert!(all.iter().all(|path| path.starts_with("/tmp/x")), "{all:?}");
        assert_eq!(Paths::new(Path::new("/")).cluster_file(), Path::new("/etc/cardea/cluster.toml"));
    }
}
