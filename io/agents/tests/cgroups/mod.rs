//! A folder of cgroup v2 in which a test may make cgroups, on any machine whose kernel gives this user one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder, below the cgroup of this process; its cgroup and its mount are gone when it is dropped.
pub struct Tree {
    pub path: PathBuf,
    _mount: Option<Mount>,
}

impl Tree {
    /// In the tree that is mounted, or else in one that is mounted for it; `None` if neither takes in a process.
    pub fn new() -> Option<Tree> {
        host::cgroup::own().and_then(|own| Tree::below(own, None)).or_else(Tree::mounted)
    }

    fn mounted() -> Option<Tree> {
        let mount = Mount::new()?;
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Tree::below(mount.path.join(own), Some(mount))
    }

    fn below(own: PathBuf, mount: Option<Mount>) -> Option<Tree> {
        let path = own.join(format!("cardea-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let tree = Tree { path, _mount: mount };
        tree.takes_in_a_process().then_some(tree)
    }

    fn takes_in_a_process(&self) -> bool {
        let entrance = self.path.join("cgroup.procs");
        let mut enters = Command::new("/bin/sh");
        enters.args(["-c", "echo 0 > \"$0\""]).arg(entrance);
        enters.output().is_ok_and(|output| output.status.success())
    }

    /// The names of the cgroups in it.
    pub fn children(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // A test that fails may leave cgroups in it.
        for name in self.children() {
            let _ = fs::remove_dir(self.path.join(name));
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// A mount of cgroup v2 in a temporary folder.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn new() -> Option<Mount> {
        // The folder is never removed with what is in it: that would be the cgroups of this machine.
        let path = tempfile::tempdir().ok()?.keep();
        if run("mount", &["-t", "cgroup2", "cgroup2"], &path) {
            return Some(Mount { path });
        }
        let _ = fs::remove_dir(&path);
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["--lazy"], &self.path);
        let _ = fs::remove_dir(&self.path);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
}
