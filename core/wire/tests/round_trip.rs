//! What was said is what is heard, also between different versions.

mod samples;

use minicbor::{Decoder, Encoder};
use wire::{
    Announce, DATAGRAM_BYTES_MAX, HEADER_BYTES, Message, WireError, decode, decode_beat, decode_header, encode,
    encode_beat, encode_header,
};

/// Begins a list with one element, in CBOR.
const LIST_OF_ONE: u8 = 0x81;
/// Nothing, in CBOR.
const NULL: u8 = 0xf6;
/// More fields than any struct has today.
const NEW_FIELDS_FROM: u64 = 20;

fn beat_bytes(beat: &liveness::Beat) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_beat(beat, &mut bytes);
    bytes
}

#[test]
fn every_message_survives_the_wire() {
    for (name, message) in samples::messages() {
        assert_eq!(decode(&encode(&message)).as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn ids_that_would_not_fit_the_log_are_refused() {
    let (_, message) = samples::messages()
        .into_iter()
        .find(|(_, message)| matches!(message, Message::Announce(_)))
        .expect("there is a sample");
    let Message::Announce(announce) = message else { panic!("{message:?}") };
    let long = Message::Announce(Announce { boot_id: "x".repeat(16 * 1024 * 1024), ..announce });
    assert!(matches!(decode(&encode(&long)), Err(WireError::Damaged { .. })));
}

#[test]
fn every_beat_survives_the_wire() {
    for (name, beat) in samples::beats() {
        assert_eq!(decode_beat(&beat_bytes(&beat)).as_ref(), Ok(&beat), "{name}");
    }
}

#[test]
fn a_header_survives_the_wire_and_leaves_the_sealed_rest() {
    let mut datagram = encode_header(&samples::header()).to_vec();
    assert_eq!(datagram.len(), HEADER_BYTES);
    datagram.extend_from_slice(b"sealed");
    assert_eq!(decode_header(&datagram), Ok((samples::header(), &b"sealed"[..])));
}

#[test]
fn an_encoded_beat_is_appended_to_what_is_there() {
    let (_, beat) = samples::beats().remove(0);
    let mut bytes = b"before".to_vec();
    encode_beat(&beat, &mut bytes);
    assert_eq!(bytes.strip_prefix(b"before"), Some(&beat_bytes(&beat)[..]));
}

#[test]
fn everything_that_is_urgent_fits_into_a_datagram() {
    for (name, message) in samples::messages() {
        assert!(encode(&message).len() <= DATAGRAM_BYTES_MAX, "{name}");
    }
}

#[test]
fn another_version_is_foreign_and_nothing_is_guessed() {
    let (_, message) = samples::messages().remove(0);
    let mut bytes = encode(&message);
    bytes[0] = 9;
    assert_eq!(decode(&bytes), Err(WireError::Foreign { what: "message", known: 1 }));
    let mut datagram = encode_header(&samples::header());
    datagram[2] = 9;
    assert_eq!(decode_header(&datagram), Err(WireError::Foreign { what: "heartbeat", known: 1 }));
    datagram[2] = 1;
    datagram[0] = b'x';
    assert_eq!(decode_header(&datagram), Err(WireError::Foreign { what: "heartbeat", known: 1 }));
}

#[test]
fn too_few_bytes_say_how_few_they_were() {
    assert_eq!(decode(&[]), Err(WireError::Short { found: 0 }));
    let datagram = encode_header(&samples::header());
    assert_eq!(decode_header(&datagram[..55]), Err(WireError::Short { found: 55 }));
}

/// A later version adds fields, anywhere: this one skips them, however deep they nest.
#[test]
fn fields_of_a_later_version_are_skipped() {
    for (name, message) in samples::messages() {
        let bytes = encode(&message);
        let structs: &[&[usize]] = match name.as_str() {
            "append" => &[&[1], &[1, 0], &[1, 0, 10, 1]],
            "snapshot" => &[&[1, 0], &[1, 0, 11], &[1, 0, 11, 2]],
            "op-start" => &[&[1, 0, 1], &[1, 0, 1, 0], &[1, 0, 1, 0, 0], &[1, 0, 1, 0, 8]],
            "result-failed" => &[&[1, 0, 1, 0]],
            "changed" => &[&[1, 0, 1, 0], &[1, 0, 1, 0, 2]],
            "ack" | "ask-inventory" => &[&[1, 0, 1]],
            "inventory" => &[&[1, 0, 1], &[1, 0, 1, 1], &[1, 0, 1, 1, 3, 4], &[1, 0, 1, 1, 3, 4, 3]],
            "announce" => &[&[1, 0]],
            "leave" | "ask-state" | "state" => &[&[1]],
            _ => &[],
        };
        for path in structs {
            let later = with_more_fields(&bytes[1..], path);
            let heard = decode(&[&bytes[..1], &later[..]].concat());
            assert_eq!(heard.as_ref(), Ok(&message), "{name} at {path:?}");
        }
    }
    for (name, beat) in samples::beats() {
        for path in [&[][..], &[7], &[9, 0], &[10]] {
            let later = with_more_fields(&beat_bytes(&beat), path);
            assert_eq!(decode_beat(&later).as_ref(), Ok(&beat), "{name} at {path:?}");
        }
    }
}

/// A message of a later version is refused and does no harm: it is dropped like one that was lost.
#[test]
fn a_message_of_a_later_version_is_refused() {
    let later = minicbor::to_vec((200u8, ("something new",))).expect("a vector takes it");
    let heard = decode(&[&[1][..], &later[..]].concat());
    assert!(matches!(heard, Err(WireError::Damaged { what: "message", .. })), "{heard:?}");
}

/// The same value with unknown fields at the end of the struct at `path`; structs and lists are arrays, and the path
/// says which element to enter at each level.
fn with_more_fields(bytes: &[u8], path: &[usize]) -> Vec<u8> {
    let mut decoder = Decoder::new(bytes);
    let length = decoder.array().expect("an array").expect("of definite length");
    let elements: Vec<&[u8]> = (0..length)
        .map(|_| {
            let start = decoder.position();
            decoder.skip().expect("an element");
            &bytes[start..decoder.position()]
        })
        .collect();
    let mut out = Vec::new();
    let Some((enter, path)) = path.split_first() else {
        // Optional fields at the end of a struct are left out; in front of new ones they are said to be missing.
        Encoder::new(&mut out).array(NEW_FIELDS_FROM + 3).expect("a vector takes it");
        out.extend(elements.concat());
        out.extend((length..NEW_FIELDS_FROM).map(|_| NULL));
        Encoder::new(&mut out).str("new").and_then(|e| e.u64(u64::MAX)).expect("a vector takes it");
        out.extend(std::iter::repeat_n(LIST_OF_ONE, 10_000));
        out.push(0);
        return out;
    };
    Encoder::new(&mut out).array(length).expect("a vector takes it");
    for (position, element) in elements.iter().enumerate() {
        if position == *enter {
            out.extend(with_more_fields(element, path));
        } else {
            out.extend_from_slice(element);
        }
    }
    out
}
