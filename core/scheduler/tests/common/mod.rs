//! What several tests need: chance that every run repeats, and stories in folders.

#![allow(dead_code, clippy::disallowed_methods)] // no test needs all of it; goldens are files

use std::path::Path;

/// Xorshift: the same numbers in every run.
pub struct Dice(pub u64);

impl Dice {
    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Once in so many.
    pub fn is(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Compares the story of each folder below `tests/FOLDER` with its `plan.txt`: `tell` makes it of the cluster file (its
/// own, or the one of all) and of the file `facts`. `UPDATE_GOLDENS=1` writes them anew.
pub fn compare_stories(folder: &str, at_least: usize, facts: &str, tell: impl Fn(&str, &str) -> String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut stories: Vec<_> = std::fs::read_dir(&root)
        .expect("the stories are there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    stories.sort();
    assert!(stories.len() >= at_least, "only {} stories", stories.len());
    let mut changed = Vec::new();
    for story in stories {
        let read = |name: &str| std::fs::read_to_string(story.join(name)).ok();
        let file = read("cluster.toml").or_else(|| std::fs::read_to_string(root.join("cluster.toml")).ok());
        let told = tell(&file.expect("a cluster file"), &read(facts).expect(facts));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(story.join("plan.txt"), told).expect("a writable plan.txt");
        } else if read("plan.txt").as_deref() != Some(&told) {
            changed.push(format!("== {}\n{told}", story.display()));
        }
    }
    assert!(changed.is_empty(), "plans changed (UPDATE_GOLDENS=1 writes them anew):\n{}", changed.join("\n"));
}

/// The situation of a CIB below `tests/sentences`.
pub fn cib(name: &str) -> model::situation::Situation {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sentences").join(name).with_extension("xml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    import::cib(&text, import::Time::At(1_700_000_100)).unwrap_or_else(|error| panic!("{name}: {error}")).situation
}
