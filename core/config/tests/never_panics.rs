//! Whatever bytes come in, an answer comes out: seeded damage to good files.

use std::net::IpAddr;

use config::{Severity, add_node, line_column, parse, remove_node};
use model::{NodeConfig, NodeName};

const EXAMPLE: &str = include_str!("../../../examples/floating-web/cluster.toml");
const EVERYTHING: &str = include_str!("diagnostics/everything_at_once.toml");
const TWO_RACKS: &str = include_str!("../../../examples/two-racks/cluster.toml");
const ROUNDS: u64 = 4_000;

/// xorshift64*: small, seeded, the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).expect("31 bits fit") % limit.max(1)
    }
}

const PIECES: [&str; 34] = [
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\n",
    ".",
    ",",
    "#",
    "[[",
    "\"\"\"",
    "\\u0000",
    "ü",
    "\u{FEFF}",
    "\0",
    "\r",
    "-1",
    "9223372036854775808",
    "1979-05-27",
    "nan",
    "\"99999999999999999999s\"",
    "[nodes.a]\n",
    "[groups.site]\n",
    "after = [\"site\"]\n",
    "role = \"witness\"\n",
    "fence = []\n",
    "links = []\n",
    "a.b.c = 1\n",
    "with = { shop = \"promoted\" }\n",
    "only = []\n",
    "apart = { db = { by = 5 } }\n",
    "copies = 0\n",
];

fn damaged(text: &str, chance: &mut Chance) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=chance.below(4) {
        let at = chance.below(chars.len());
        let length = chance.below(40).min(chars.len() - at);
        match chance.below(5) {
            0 => drop(chars.drain(at..at + length)),
            1 => {
                let piece = PIECES[chance.below(PIECES.len())];
                drop(chars.splice(at..at, piece.chars()));
            }
            2 => {
                let copied: Vec<char> = chars[at..at + length].to_vec();
                let to = chance.below(chars.len());
                drop(chars.splice(to..to, copied));
            }
            3 => chars.truncate(at),
            _ => {
                // Two lines change places: keys under the wrong table.
                let lines: String = chars.iter().collect();
                let mut lines: Vec<&str> = lines.lines().collect();
                let (one, other) = (chance.below(lines.len()), chance.below(lines.len()));
                if !lines.is_empty() {
                    lines.swap(one, other);
                }
                chars = lines.join("\n").chars().collect();
            }
        }
        if chars.is_empty() {
            chars.push(' ');
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_text_makes_it_panic_and_every_place_is_in_the_text() {
    let node =
        NodeConfig { links: vec![IpAddr::from([10, 77, 1, 9]), IpAddr::from([10, 77, 2, 9])], ..NodeConfig::default() };
    let mut accepted = 0;
    for seed in 1..=ROUNDS {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let good = [EXAMPLE, EVERYTHING, TWO_RACKS][chance.below(3)];
        let text = damaged(good, &mut chance);
        let findings = match parse(&text) {
            Ok(parsed) => {
                accepted += 1;
                assert!(parsed.warnings.iter().all(|f| f.severity == Severity::Warning), "seed {seed}");
                parsed.warnings
            }
            Err(findings) => {
                assert!(findings.iter().any(|f| f.severity == Severity::Error), "seed {seed}");
                findings
            }
        };
        for finding in findings {
            assert!(!finding.message.is_empty() && !finding.message.contains('\n'), "seed {seed}: {finding:?}");
            if let Some(span) = finding.span {
                assert!(text.get(span.clone()).is_some(), "seed {seed}: {span:?} is no place");
                line_column(&text, span.start);
            }
        }
        let edits = [add_node(&text, &NodeName::from("d"), &node), remove_node(&text, &NodeName::from("c"))];
        for edited in edits.into_iter().flatten() {
            assert!(parse(&edited).is_ok(), "seed {seed}: an edit made a bad file");
        }
    }
    assert!(accepted > ROUNDS / 20, "the damage is too heavy to reach the checks: {accepted} accepted");
}

#[test]
fn hostile_texts_end_soon() {
    let node = NodeName::from("a");
    for text in [
        "[".repeat(1 << 19),
        format!("a = {}", "[".repeat(1 << 19)),
        format!("a = {}", "{a=".repeat(1 << 18)),
        format!("{} = 1", vec!["a"; 1 << 18].join(".")),
        format!("cluster = \"{}\"", "x".repeat(1 << 19)),
        (0..60_000).map(|i| format!("k{i} = 1\n")).collect(),
        format!("cluster = \"c\"\n[groups.g]\nmembers = [{}]", "\"nobody\",".repeat(100_000)),
        "x".repeat((1 << 20) + 1),
    ] {
        let findings = parse(&text).expect_err("no cluster");
        assert!(findings.len() <= 100, "more than a person reads");
        assert!(remove_node(&text, &node).is_err());
    }
}

/// Valid texts at the limits: a chain of units as long as there may be resources, and one more.
#[test]
fn a_cluster_may_have_a_thousand_resources_and_no_more() {
    let file = |count: usize| {
        let mut text = "cluster = \"c\"\n[nodes.a]\nlinks = [\"10.0.0.1\"]\n".to_owned();
        for number in 0..count {
            text += &format!("[resources.r{number}]\nagent = \"ocf:heartbeat:Dummy\"\nclass = \"best-effort\"\n");
            if number > 0 {
                text += &format!("after = [\"r{}\"]\n", number - 1);
            }
        }
        text
    };
    assert_eq!(parse(&file(1000)).expect("at the limit").config.resources.len(), 1000);
    let findings = parse(&file(1001)).expect_err("beyond the limit");
    assert!(findings.iter().all(|f| f.code == "config::too_many"), "{findings:?}");
}
