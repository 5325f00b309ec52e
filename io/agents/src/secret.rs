//! By what does a mark prove that it was set by this daemon?
//!
//! Every user of a machine can start a process with any environment. So a mark holds a token that only this daemon can
//! make: a hash of the resource's name under a key that is drawn once and kept where nobody else may read. It is another
//! one for each resource, since a service may read its own environment.
//!
//! What an older version started bears no token. Where processes with our mark run before there is a key, marks are
//! believed without one until the next boot.

use std::fs;
use std::hash::Hasher;
use std::io;
use std::path::Path;

use host::process::{Marks, Process, StartTime, find_marked};
use host::supervise::replace_private_file;
use rustix::rand::{GetRandomFlags, getrandom};
use siphasher::sip128::{Hasher128, SipHasher24};

const FILE: &str = "mark-secret";
const STRICT: &str = "strict";
const LENIENT: &str = "lenient";

/// The key of the tokens.
#[derive(Clone, Default)]
pub(crate) struct Secret {
    key: [u8; 16],
    is_strict: bool,
    /// When the first process that could set a mark in this boot began.
    since: StartTime,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("is_strict", &self.is_strict).finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads the key of this boot that is kept in `runtime_dir`, or draws one. `own` is the mark that all of this
    /// daemon's processes bear.
    pub(crate) fn load(runtime_dir: &Path, own: &str) -> io::Result<Secret> {
        let (path, boot) = (runtime_dir.join(FILE), host::identity::boot_id()?);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
                match text.trim().split_once(' ').ok_or_else(damaged)? {
                    (of, rest) if of == boot => Secret::parse(rest).ok_or_else(damaged),
                    _ => Secret::draw(&path, &boot, own),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Secret::draw(&path, &boot, own),
            Err(error) => Err(error),
        }
    }

    fn draw(path: &Path, boot: &str, own: &str) -> io::Result<Secret> {
        let since = Process::open(std::process::id())?.started();
        // Older versions could not see what may not be looked at either, and never ended it.
        let all = Some(StartTime(u64::MAX));
        let marks = Marks { environment: vec![own.to_owned()], oldest: all, ..Marks::default() };
        let mut secret = Secret { key: [0; 16], is_strict: find_marked(&marks)?.is_empty(), since };
        getrandom(&mut secret.key, GetRandomFlags::empty())?;
        if !secret.is_strict {
            tracing::info!("an older version started what runs here; its marks are believed until the next boot");
        }
        replace_private_file(path, format!("{boot} {}\n", secret.show()).as_bytes())?;
        Ok(secret)
    }

    fn parse(text: &str) -> Option<Secret> {
        let mut words = text.split(' ');
        let (key, how, since) = (words.next()?, words.next()?, words.next()?);
        let key = u128::from_str_radix(key, 16).ok().filter(|_| key.len() == 32)?.to_be_bytes();
        let is_strict = match how {
            STRICT => true,
            LENIENT => false,
            _ => return None,
        };
        Some(Secret { key, is_strict, since: StartTime(since.parse().ok()?) })
    }

    fn show(&self) -> String {
        let how = if self.is_strict { STRICT } else { LENIENT };
        format!("{:032x} {how} {}", u128::from_be_bytes(self.key), self.since.0)
    }

    /// What is older cannot bear a mark.
    pub(crate) fn since(&self) -> StartTime {
        self.since
    }

    /// Is a mark without its token none?
    pub(crate) fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// What proves that a process was started for this.
    pub(crate) fn token(&self, what: &str) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(what.as_bytes());
        format!("{:032x}", hasher.finish128().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_drawn_once_and_nobody_else_may_read_it() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let own = format!("CARDEA_RUN={}", folder.path().display());
        let first = Secret::load(folder.path(), &own).unwrap();
        let second = Secret::load(folder.path(), &own).unwrap();
        assert_eq!(first.token("web"), second.token("web"));
        assert_ne!(first.token("web"), first.token("db"));
        assert!(second.is_strict());
        assert_eq!(folder.path().join(FILE).metadata().unwrap().mode() & 0o777, 0o600);
        fs::write(folder.path().join(FILE), "another-boot 1 strict 7\n").unwrap();
        assert_ne!(Secret::load(folder.path(), &own).unwrap().token("web"), first.token("web"), "one for each boot");
        fs::write(folder.path().join(FILE), "garbage").unwrap();
        assert!(Secret::load(folder.path(), &own).is_err(), "a lost key is not replaced in silence");
    }
}
