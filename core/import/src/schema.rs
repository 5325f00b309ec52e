//! What in a CIB would no cluster of Pacemaker accept? It is planned all the same, and an operator should know.
//!
//! In: the text of a CIB. Out: remarks on ids that are given twice and schemas that nobody knows.
//! Not here: the schema itself; what an element means has its reader.

use std::collections::BTreeMap;

use roxmltree::Document;

use crate::cib;
use crate::source::{Remark, Source};

/// The newest schemas that are known, by their first number.
const NEWEST: [(u32, u32); 5] = [(0, 7), (1, 3), (2, 10), (3, 10), (4, 0)];

/// What the schema forbids in a CIB that can be read: remarks. None for what is no CIB at all.
pub fn against_schema(text: &str) -> Vec<Remark> {
    let Ok(document) = Document::parse(text) else { return Vec::new() };
    let Ok((source, root)) = cib::source(&document, crate::Time::At(0)) else { return Vec::new() };
    if let Some(schema) = root.attribute("validate-with").filter(|schema| !is_known(schema)) {
        source
            .remark(root, format!("the schema {schema:?} is not known; its words are read as those of pacemaker-3.10"));
    }
    remark_doubles(&source);
    source.into_remarks()
}

fn is_known(schema: &str) -> bool {
    if matches!(schema, "none" | "pacemaker-next" | "pacemaker-0.6" | "transitional-0.6") {
        return true;
    }
    let Some((first, second)) = schema.strip_prefix("pacemaker-").and_then(|version| version.split_once('.')) else {
        return false;
    };
    let number = |text: &str| text.parse::<u32>().ok();
    match (number(first), number(second)) {
        (Some(first), Some(second)) => NEWEST.iter().any(|(known, newest)| first == *known && second <= *newest),
        (_, None) | (None, _) => false,
    }
}

/// Every id of the configuration is given once. What refers to an id, and the ids of nodes, are no ids of their own;
/// resources that share a name have a remark from their reader.
fn remark_doubles(source: &Source<'_>) {
    let refers = |name: &str| matches!(name, "resource_ref" | "obj_ref" | "node" | "role" | "acl_role");
    let is_resource = |name: &str| matches!(name, "primitive" | "group" | "clone" | "master" | "bundle" | "template");
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for element in source.configuration.iter().flat_map(|c| c.descendants()) {
        let name = element.tag_name().name();
        let Some(id) = element.attribute("id").filter(|_| !refers(name)) else { continue };
        match first.get(id) {
            None => {
                first.insert(id, name);
            }
            Some(other) if is_resource(other) && is_resource(name) => {}
            Some(other) => {
                source.remark(element, format!("a {other} has the id {id} already; Pacemaker refuses such a CIB"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(validate_with: &str, constraints: &str) -> Vec<String> {
        let text = format!(
            r#"<cib validate-with="{validate_with}"><configuration><nodes><node id="1" uname="a"/></nodes><resources>
               <primitive id="x" class="ocf" provider="pacemaker" type="Dummy"/></resources>
               <constraints>{constraints}</constraints></configuration></cib>"#
        );
        against_schema(&text).into_iter().map(|remark| format!("{}: {}", remark.place, remark.what)).collect()
    }

    #[test]
    fn an_id_is_given_once() {
        let one = r#"<rsc_location id="l" rsc="x" node="a" score="1"/>"#;
        assert_eq!(remarks("pacemaker-3.9", one), Vec::<String>::new());
        let set = r#"<rsc_order id="o"><resource_set id="s"><resource_ref id="x"/></resource_set></rsc_order>"#;
        assert_eq!(remarks("pacemaker-3.9", set), Vec::<String>::new());
        let said = remarks("pacemaker-3.9", &format!("{one}{one}"));
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("a rsc_location has the id l already"), "{said:?}");
        assert!(
            remarks("pacemaker-3.9", r#"<rsc_location id="x" rsc="x" node="a" score="1"/>"#)[0]
                .contains("a primitive has")
        );
    }

    #[test]
    fn a_schema_is_one_that_there_is() {
        for known in ["pacemaker-1.2", "pacemaker-2.10", "pacemaker-3.10", "pacemaker-4.0", "none", "pacemaker-next"] {
            assert_eq!(remarks(known, ""), Vec::<String>::new(), "{known}");
        }
        for unknown in ["pacemaker-9.9", "pacemaker-3.11", "pacemaker-", "heartbeat-1.0", "", "pacemaker--1.-1"] {
            assert_eq!(remarks(unknown, "").len(), 1, "{unknown}");
        }
        assert_eq!(against_schema("no xml"), Vec::new());
    }
}
