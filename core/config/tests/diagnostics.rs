//! What an operator is told about a faulty file: every `diagnostics/CASE.toml` beside its `CASE.txt`.
//!
//! `UPDATE_GOLDENS=1 cargo test -p config` writes the texts anew; read their diff like code.
#![allow(clippy::disallowed_methods)] // goldens are files

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Diagnostic, Severity, line_column, parse};

#[test]
fn every_fault_points_at_its_place_and_says_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 12, "the cases went missing");
    let mut differing = Vec::new();
    for case in cases {
        let text = fs::read_to_string(&case).expect("a readable case");
        let found = match parse(&text) {
            Ok(parsed) => described("accepted", &parsed.warnings, &text),
            Err(findings) => described("refused", &findings, &text),
        };
        let golden = case.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&golden, &found).expect("a writable golden");
        } else if fs::read_to_string(&golden).unwrap_or_default() != found {
            differing.push(format!("--- {}\n{found}", golden.display()));
        }
    }
    assert!(differing.is_empty(), "these differ; UPDATE_GOLDENS=1 writes them anew\n{}", differing.join("\n"));
}

fn described(verdict: &str, findings: &[Diagnostic], text: &str) -> String {
    let mut out = format!("{verdict}\n");
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (place, marked) = match &finding.span {
            Some(span) => {
                let (line, column) = line_column(text, span.start);
                (format!("{line}:{column}"), text[span.clone()].escape_debug().to_string())
            }
            None => ("-".to_owned(), String::new()),
        };
        let help = finding.help.as_deref().unwrap_or("-");
        write!(
            out,
            "\n{severity} {place} {}\n  {}\n  at: {marked}\n  label: {}\n  help: {help}\n",
            finding.code, finding.message, finding.label
        )
        .expect("a string takes everything");
    }
    out
}
