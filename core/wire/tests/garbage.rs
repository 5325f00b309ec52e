//! Bytes come from the network: whatever they are, there is a value or an error.

mod samples;

use wire::{decode, decode_beat, decode_header, encode, encode_beat, encode_header};

/// A small generator (SplitMix64): a test must be able to repeat itself.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("less than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn valid() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = samples::messages().iter().map(|(_, message)| encode(message)).collect();
    all.extend(samples::beats().iter().map(|(_, beat)| {
        let mut bytes = encode_header(&samples::header()).to_vec();
        encode_beat(beat, &mut bytes);
        bytes
    }));
    all
}

/// Everything that reads bytes from the network.
fn hear(bytes: &[u8]) {
    if let Ok(message) = decode(bytes) {
        let again = encode(&message);
        assert!(again.len() <= 4 * bytes.len() + 64, "{} bytes became {}", bytes.len(), again.len());
        assert_eq!(decode(&again), Ok(message), "what was understood can be said again");
    }
    let beat = decode_header(bytes).map_or(bytes, |(_, rest)| rest);
    if let Ok(beat) = decode_beat(beat) {
        let mut again = Vec::new();
        encode_beat(&beat, &mut again);
        assert_eq!(decode_beat(&again), Ok(beat));
    }
}

/// A member that lies about itself cannot fill the log of all.
#[test]
fn an_endless_identity_is_no_announcement() {
    for (length, is_fine) in [(128, true), (129, false), (1 << 20, false)] {
        let announce = wire::Announce {
            incarnation: Default::default(),
            boot_id: "x".repeat(length),
            machine_id: String::new(),
            storage_uuid: String::new(),
            last_term: Default::default(),
            last_index: Default::default(),
        };
        let bytes = wire::encode(&wire::Message::Announce(announce));
        assert_eq!(wire::decode(&bytes).is_ok(), is_fine, "{length}");
    }
}

#[test]
fn a_truncated_message_is_no_message() {
    for bytes in valid() {
        for end in 0..bytes.len() {
            hear(&bytes[..end]);
        }
    }
    for (name, message) in samples::messages() {
        let bytes = encode(&message);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{name}, {end} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn every_byte_may_have_every_value() {
    for bytes in valid() {
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                hear(&damaged);
            }
        }
    }
}

#[test]
fn damaged_messages_are_heard_without_harm() {
    let valid = valid();
    let mut chance = Chance(1);
    for _ in 0..50_000 {
        let mut bytes = valid[chance.below(valid.len())].clone();
        for _ in 0..=chance.below(6) {
            let at = chance.below(bytes.len());
            match chance.below(5) {
                0 => bytes[at] = chance.byte(),
                1 => bytes[at] ^= 1 << chance.below(8),
                2 => bytes.insert(at, chance.byte()),
                3 => bytes.truncate(at + 1),
                _ => {
                    let other = &valid[chance.below(valid.len())];
                    bytes.splice(at.., other[chance.below(other.len())..].iter().copied());
                }
            }
        }
        hear(&bytes);
    }
}

#[test]
fn noise_is_heard_without_harm() {
    let mut chance = Chance(2);
    for _ in 0..50_000 {
        let length = chance.below(120);
        let mut bytes: Vec<u8> = (0..length).map(|_| chance.byte()).collect();
        hear(&bytes);
        bytes.insert(0, 1);
        hear(&bytes);
    }
}

/// A length that a peer claims is not believed: reserving memory for it would end the process.
#[test]
fn a_claimed_length_reserves_nothing() {
    for major in [2_u8, 3, 4, 5] {
        for length in [1 << 32, 1 << 48, 1 << 60, u64::MAX] {
            let claim = [&[(major << 5) | 27][..], &u64::to_be_bytes(length)[..]].concat();
            for bytes in valid() {
                for at in 1..bytes.len() {
                    hear(&[&bytes[..at], &claim[..], &bytes[at + 1..]].concat());
                }
            }
        }
    }
}

/// Lists within lists do not use up the stack.
#[test]
fn deep_nesting_is_heard_without_harm() {
    for opener in [0x81, 0x82, 0x9f, 0xa1, 0xbf, 0xc1, 0xd8] {
        let deep = vec![opener; 200_000];
        hear(&[&[1][..], &deep[..]].concat());
        for bytes in valid() {
            hear(&[&bytes[..], &deep[..]].concat());
            let half = bytes.len() / 2;
            hear(&[&bytes[..half], &deep[..]].concat());
        }
    }
}
