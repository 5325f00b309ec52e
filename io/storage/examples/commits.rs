//! How long does a durable commit take, and how long an open after a crash? Prints both, in milliseconds.
//!
//! `cargo run --release -p storage --example commits -- FOLDER`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{Table, Write};
use storage::Storage;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("commits-{}.redb", std::process::id()));
    storage::create(&path, &[])?;
    let (mut storage, _) = Storage::open(&path)?;
    let mut took: Vec<Duration> = Vec::new();
    for key in 0..2000 {
        let before = Instant::now();
        storage.commit(&[
            Write::Put { table: Table::Log, key, value: vec![7; 300] },
            Write::Put { table: Table::Meta, key: 0, value: vec![7; 24] },
        ])?;
        took.push(before.elapsed());
    }
    took.sort();
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let at = |part: usize| milliseconds(took[(took.len() - 1) * part / 1000]);
    println!("commit: median {:.3}, p90 {:.3}, p99.9 {:.3}", at(500), at(900), at(999));
    // Forgotten, not dropped, as in a crash; the copy has no lock.
    let copy = path.with_extension("copy");
    std::fs::copy(&path, &copy)?;
    let before = Instant::now();
    let (_, contents) = Storage::open(&copy)?;
    println!("open after a crash: {:.3} for {} entries", milliseconds(before.elapsed()), contents.log.len());
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"))
        .for_each(|l| println!("{l}"));
    println!("file: {} KiB", path.metadata()?.len() / 1024);
    drop(storage);
    std::fs::remove_file(&path)?;
    std::fs::remove_file(&copy)?;
    Ok(())
}
