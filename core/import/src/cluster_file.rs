//! Which cluster file decides as a Pacemaker cluster does?
//!
//! ```text
//!   CIB ─► Situation ─► plain.rs: what plain words can say ─► ClusterConfig ─┬─► text.rs ─► the file
//!                 └──── config::Expert::difference: everything else ─────────┘
//! ```
//!
//! What the plain words come to is told by whoever decides (`lower`), so that nothing is said twice and nothing is
//! forgotten: the expert part holds exactly what the plain words leave unsaid.
//!
//! Not here: what a CIB means (`cib.rs`), how plain words are read (`config`).

mod plain;
mod text;

use config::Expert;
use model::ClusterConfig;
use model::situation::Situation;

use crate::cib::{self, CibError, Time};
use crate::source::{Remark, Source};

/// A cluster file, and what it does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFile {
    /// The file: readable, with comments, ready to be filled in.
    pub text: String,
    /// What was not understood, or means something else here; in the order of reading.
    pub not_understood: Vec<Remark>,
}

/// Writes a cluster file from a CIB; `lower` says what plain words come to for the scheduler.
///
/// What depends on time or on attributes of nodes is settled as it is at `time`; remarks say so.
///
/// # Errors
/// As [`cib`](crate::cib).
pub fn cluster_file(
    cib: &str,
    time: Time,
    lower: impl Fn(&ClusterConfig) -> Situation,
) -> Result<ClusterFile, CibError> {
    let document = cib::parse(cib)?;
    let (source, root) = cib::source(&document, time)?;
    let full = cib::situation(&source, cib, root);
    let (mut unreported, _) = cib::source(&document, time)?;
    unreported.status = None;
    let configured = cib::situation(&unreported, cib, root);
    let mut wanted = full;
    // Attributes that only the status section has are no business of a file.
    wanted.nodes = configured.nodes;
    let standby: Vec<String> =
        wanted.nodes.iter().filter(|node| node.is_standby).map(|node| node.name.0.clone()).collect();
    remark_settled(&source);
    let plain = plain::plain(&source, &mut wanted);
    let expert = Expert::difference(&plain.config, &lower, &wanted, plain.assumes_fencing);
    let not_understood = source.into_remarks();
    let text = text::write(&plain, &expert, &standby, &not_understood);
    Ok(ClusterFile { text, not_understood })
}

/// What a rule asks for may change; a file says what holds once.
fn remark_settled(source: &Source<'_>) {
    for element in source.configuration.iter().flat_map(|c| c.descendants()) {
        let name = element.tag_name().name();
        if name == "date_expression" {
            source.remark(element, "a rule with a date: the file says what holds at the time of the import");
        } else if name == "expression" && element.ancestors().any(|above| above.has_tag_name("rsc_location")) {
            let attribute = element.attribute("attribute").unwrap_or_default();
            if !attribute.starts_with("#uname") && !attribute.starts_with("#id") && !attribute.starts_with("#kind") {
                let what = format!(
                    "a rule about the attribute {attribute} of nodes: the file says what holds for the values of now"
                );
                source.remark(element, what);
            }
        } else if name == "nvpair"
            && element.attribute("name") == Some("node-health-strategy")
            && element.attribute("value").is_some_and(|value| value != "none")
        {
            source.remark(element, "the health of nodes has no words here; with `--status` it is taken from the CIB");
        }
    }
}
