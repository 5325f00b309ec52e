//! What are the nodes' disks made of? The file system below a folder, and how fast it makes things durable.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use serde::{Deserialize, Serialize};

/// What lies below a lab's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// The file system, for example `ext4`.
    pub file_system: String,
    /// Median time of 50 writes of 4 KiB, each made durable, in milliseconds.
    pub fsync_ms: f64,
}

/// How many writes the median rests on.
const SAMPLES: usize = 50;

/// Looks at the disk below `folder`: writes and removes one file there.
pub fn measure(folder: &Path) -> io::Result<Disk> {
    let path = folder.join("fsync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        rustix::fs::fdatasync(&file)?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    let median: Duration = times[SAMPLES / 2];
    Ok(Disk { file_system: file_system(folder)?, fsync_ms: median.as_secs_f64() * 1000.0 })
}

/// Name of the file system below a folder.
pub fn file_system(folder: &Path) -> io::Result<String> {
    let kind = u64::try_from(statfs(folder)?.f_type).unwrap_or(0);
    Ok(match kind {
        0x0102_1994 => "tmpfs".to_owned(),
        0x8584_58f6 => "ramfs".to_owned(),
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0xf2f5_2010 => "f2fs".to_owned(),
        other => format!("{other:#x}"),
    })
}

/// Does what is written there vanish with the power?
pub fn is_volatile(file_system: &str) -> bool {
    matches!(file_system, "tmpfs" | "ramfs")
}
