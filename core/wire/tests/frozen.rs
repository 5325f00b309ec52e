//! What one version sent, every later one understands.
//!
//! `tests/frozen/NAME.hex` is what the first version that had it sent. `UPDATE_GOLDENS=1` writes the files that are
//! missing and never touches one that is there: a sample that no longer decodes is a broken upgrade, and is mended in
//! the code.

#![expect(clippy::disallowed_methods, reason = "the samples are files")]

mod samples;

use std::path::PathBuf;

use wire::{decode, decode_beat, decode_header, encode, encode_beat, encode_header};

/// The frozen bytes of this name; written from `current` if there are none yet and that was asked for.
fn frozen(name: &str, current: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(format!("{name}.hex"));
    match std::fs::read_to_string(&path) {
        Ok(text) => bytes_of(&text),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && std::env::var_os("UPDATE_GOLDENS").is_some() => {
            std::fs::write(&path, hex_of(current)).expect("the folder of the samples takes a file");
            current.to_vec()
        }
        Err(cause) => panic!("{}: {cause}; UPDATE_GOLDENS=1 writes samples that are missing", path.display()),
    }
}

/// Lines of 32 bytes.
fn hex_of(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
}

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("a hex digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn a_frozen_header_is_understood() {
    let bytes = frozen("header", &encode_header(&samples::header()));
    assert_eq!(decode_header(&bytes), Ok((samples::header(), &[][..])));
    assert_eq!(encode_header(&samples::header())[..], bytes[..], "an older node would not understand this one");
}

#[test]
fn frozen_beats_are_understood() {
    for (name, beat) in samples::beats() {
        let mut current = Vec::new();
        encode_beat(&beat, &mut current);
        assert_eq!(decode_beat(&frozen(name, &current)).as_ref(), Ok(&beat), "{name}");
    }
}

#[test]
fn frozen_messages_are_understood() {
    for (name, message) in samples::messages() {
        assert_eq!(decode(&frozen(&name, &encode(&message))).as_ref(), Ok(&message), "{name}");
    }
}
