//! A CIB as it lies in a file: plain, or packed by gzip or bzip2, as Pacemaker keeps the inputs of its decisions.
//!
//! How it is packed follows from its first bytes, whatever it is called.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Longer documents are refused, packed or not: a few kilobytes may unpack to more than there is memory.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How each packing begins (RFC 1952; the bzip2 format has no standard but its program).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BZIP2: &[u8; 3] = b"BZh";

/// The text of the CIB in a file.
///
/// # Errors
/// If it cannot be read, is cut off, is longer than 256 MiB, or is no text.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    text_of(file, BYTES_MAX).with_context(|| format!("cannot read {}", path.display()))
}

fn text_of(mut file: impl Read, bytes_max: u64) -> anyhow::Result<String> {
    let mut begin = Vec::new();
    file.by_ref().take(BZIP2.len() as u64).read_to_end(&mut begin)?;
    let is_gzip = begin.starts_with(&GZIP);
    let is_bzip2 = begin.starts_with(BZIP2);
    let whole = std::io::Cursor::new(begin).chain(file);
    let bytes = if is_gzip {
        up_to(flate2::read::MultiGzDecoder::new(whole), bytes_max).context("its gzip data is cut off or damaged")
    } else if is_bzip2 {
        up_to(bzip2::read::MultiBzDecoder::new(whole), bytes_max).context("its bzip2 data is cut off or damaged")
    } else {
        up_to(whole, bytes_max).map_err(anyhow::Error::from)
    }?;
    if bytes.len() as u64 > bytes_max {
        bail!("it holds more than {} MiB, more than any CIB; name another file", bytes_max / 1024 / 1024);
    }
    String::from_utf8(bytes).map_err(|_| {
        anyhow::anyhow!("it is no text in UTF-8, nor packed by gzip or bzip2; save the CIB with `cibadmin --query`")
    })
}

/// One byte more than may be says that it is too much.
fn up_to(from: impl Read, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const CIB: &str = "<cib><configuration/></cib>\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn packed_files_are_read_by_their_content() {
        let two = [gzip(b"<cib>"), gzip(b"</cib>")].concat();
        for packed in [CIB.as_bytes().to_vec(), gzip(CIB.as_bytes()), bzip2(CIB.as_bytes())] {
            assert_eq!(text_of(&packed[..], BYTES_MAX).unwrap(), CIB);
        }
        assert_eq!(text_of(&two[..], BYTES_MAX).unwrap(), "<cib></cib>");
        assert_eq!(text_of(&b""[..], BYTES_MAX).unwrap(), "");
    }

    #[test]
    fn cut_off_and_damaged_files_are_errors() {
        let text: String = (0..2000).map(|line| format!("<node id=\"{line}\"/>\n")).collect();
        for packed in [gzip(text.as_bytes()), bzip2(text.as_bytes())] {
            for end in [3, packed.len() / 2, packed.len() - 1] {
                let error = text_of(&packed[..end], BYTES_MAX).unwrap_err().to_string();
                assert!(error.contains("cut off"), "{end}: {error}");
            }
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            assert!(text_of(&damaged[..], BYTES_MAX).is_err());
        }
        let error = text_of(&[0xff, 0xfe, b'<'][..], BYTES_MAX).unwrap_err().to_string();
        assert!(error.contains("cibadmin --query"), "{error}");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused_before_it_fills_the_memory() {
        let bomb = vec![b' '; 3 * 1024 * 1024];
        for packed in [gzip(&bomb), bzip2(&bomb), bomb.clone()] {
            let error = text_of(&packed[..], 2 * 1024 * 1024).unwrap_err().to_string();
            assert!(error.contains("more than 2 MiB"), "{error}");
        }
        assert!(text_of(&gzip(&bomb)[..], 3 * 1024 * 1024).is_ok());
    }
}
