//! Are the programs there that tests talk to?
//!
//! Where we may (root, with apt-get), missing Debian packages are installed. Where we may not, the tests that need them
//! say that they skip.

use std::path::Path;
use std::process::{Command, Stdio};

/// nginx is the service of the demo, nftables loses packets, resource-agents are agents of others, stress-ng is the
/// noisy neighbour, postgresql the database with which a site is switched off, ip and setpriv come with iproute2 and util-linux, python3 compares placements.
const PACKAGES: [&str; 8] =
    ["nginx-light", "nftables", "iproute2", "postgresql", "python3", "resource-agents", "stress-ng", "util-linux"];

/// Installs what is missing, if it may. Never fails: who needs a missing program skips, and says so.
pub(crate) fn install_missing(is_root: bool) {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        return;
    }
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return;
    }
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        println!("packages: {} missing, and only root may install them", missing.join(", "));
        return;
    }
    println!("packages: installing {}", missing.join(", "));
    let is_done = apt_get(&["update", "--quiet"])
        && apt_get(&[&["install", "--quiet", "--yes", "--no-install-recommends"], missing.as_slice()].concat());
    if !is_done {
        println!("packages: could not be installed; tests that need them skip");
    }
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"install ok installed")
}

fn apt_get(arguments: &[&str]) -> bool {
    Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Tests start nginx themselves; the package must not.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
