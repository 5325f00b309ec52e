//! How is a situation written down? Words where a number or a type would say less, and what need not be said.
//!
//! For the expert part of cluster files. Not here: where the parts of a situation stand in a file (`config`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{OrderAction, OrderKind, Role};

/// A score as it is written: a number, or a word at the ends.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Score {
    Number(i64),
    Word(String),
}

impl From<super::Score> for Score {
    fn from(score: super::Score) -> Score {
        if score.is_must() {
            Score::Word("must".to_owned())
        } else if score.is_must_not() {
            Score::Word("must not".to_owned())
        } else {
            Score::Number(i64::from(score.value()))
        }
    }
}

impl TryFrom<Score> for super::Score {
    type Error = String;

    fn try_from(written: Score) -> Result<super::Score, String> {
        match written {
            Score::Number(number) => Ok(super::Score::of(number)),
            Score::Word(word) => match word.as_str() {
                "must" => Ok(super::Score::MUST),
                "must not" => Ok(super::Score::MUST_NOT),
                _ => Err(format!("`{word}` is no score; write a number, \"must\" or \"must not\"")),
            },
        }
    }
}

/// What may be there or not: a value, or the word "none".
pub(super) mod or_none {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Nothing {
        None,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged, expecting = "a value that fits, or \"none\"")]
    enum Written<T> {
        None(Nothing),
        Some(T),
    }

    pub(in crate::situation) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            None => Nothing::None.serialize(to),
            Some(value) => value.serialize(to),
        }
    }

    pub(in crate::situation) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::None(Nothing::None) => None,
            Written::Some(value) => Some(value),
        })
    }
}

/// Roles in small letters, or "none".
pub(super) mod role {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        None,
        Unknown,
        Stopped,
        Started,
        Unpromoted,
        Promoted,
    }

    pub(in crate::situation) fn serialize<S: Serializer>(role: &Option<Role>, to: S) -> Result<S::Ok, S::Error> {
        let word = match role {
            None => Word::None,
            Some(Role::Unknown) => Word::Unknown,
            Some(Role::Stopped) => Word::Stopped,
            Some(Role::Started) => Word::Started,
            Some(Role::Unpromoted) => Word::Unpromoted,
            Some(Role::Promoted) => Word::Promoted,
        };
        word.serialize(to)
    }

    pub(in crate::situation) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Role>, D::Error> {
        Ok(match Word::deserialize(from)? {
            Word::None => None,
            Word::Unknown => Some(Role::Unknown),
            Word::Stopped => Some(Role::Stopped),
            Word::Started => Some(Role::Started),
            Word::Unpromoted => Some(Role::Unpromoted),
            Word::Promoted => Some(Role::Promoted),
        })
    }
}

/// Scores by node: `{ a = 100, b = "must not" }`.
pub(super) mod scores {
    use std::collections::BTreeMap;

    use super::*;
    use crate::NodeName;

    pub(in crate::situation) fn serialize<S: Serializer>(
        scores: &[(NodeName, super::super::Score)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut by_node: BTreeMap<&NodeName, super::super::Score> = BTreeMap::new();
        for (node, score) in scores {
            *by_node.entry(node).or_default() += *score;
        }
        by_node.serialize(to)
    }

    pub(in crate::situation) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(NodeName, super::super::Score)>, D::Error> {
        Ok(BTreeMap::deserialize(from)?.into_iter().collect())
    }
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn is_yes(value: &bool) -> bool {
    *value
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The attribute that tells nodes apart.
pub(super) fn uname() -> String {
    "#uname".to_owned()
}

pub(super) fn is_uname(attribute: &str) -> bool {
    attribute == "#uname"
}

pub(super) fn start() -> OrderAction {
    OrderAction::Start
}

pub(super) fn is_start(action: &OrderAction) -> bool {
    *action == OrderAction::Start
}

pub(super) fn mandatory() -> OrderKind {
    OrderKind::Mandatory
}

pub(super) fn is_mandatory(kind: &OrderKind) -> bool {
    *kind == OrderKind::Mandatory
}
