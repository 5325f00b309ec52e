//! Which one? A newtype for every number and name that identifies something.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The longest name that is read, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Can a name from the log or the network do no harm in a path, a message or a log?
///
/// What a name is, the cluster file decides; this holds also for names that no file has.
fn is_harmless(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !matches!(name, "." | "..") && !name.contains(|c: char| c == '/' || c.is_control())
}

/// Boot ids, machine ids and the identities of storage are not longer than this.
pub const IDENTITY_BYTES_MAX: usize = 128;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Serialize, Deserialize)]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] pub String);

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let name = decoder.str()?;
                match is_harmless(name) {
                    true => Ok($name(name.to_owned())),
                    false => Err(minicbor::decode::Error::message("not a name")),
                }
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A member: the log index of the entry that admitted it; the founder is 1. Never reused. Also its Raft id.
    NodeId
);
number!(
    /// A position in the agreed log; the first entry has 1.
    LogIndex
);
number!(
    /// An election period of Raft.
    Term
);
number!(
    /// The log index of the current leader's `Coordinator` entry: orders leaders at the executors.
    Epoch
);
number!(
    /// The log index of a grant: the fencing token of the unit.
    GrantId
);
number!(
    /// One life of a node's kernel: a hash over boot id and storage id. Zero means "none known".
    Incarnation
);
number!(
    /// The log index of the entry that made this configuration current.
    ConfigVersion
);

/// Position of a link in a node's `links`, counted from 0: the same position is the same network on all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct LinkId(#[n(0)] pub u8);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

name!(
    /// The name of a node in the cluster file.
    NodeName
);
name!(
    /// The name of a resource in the cluster file.
    ResourceName
);
name!(
    /// The name of a group in the cluster file.
    GroupName
);
name!(
    /// What is granted, released and fenced as one: the name of a group, or of a resource that is in none.
    UnitName
);
name!(
    /// The name of a fence device in the cluster file.
    FenceName
);
