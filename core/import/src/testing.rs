//! Small CIBs for the tests of this crate.

use model::situation::{Primitive, Resource, ResourceKind};

use crate::{Imported, cib};

/// Two members, `a` and `b`, with these sections of configuration and this status.
pub(crate) fn read(sections: &str, status: &str) -> Imported {
    let text = format!(
        r#"<cib have-quorum="1" dc-uuid="2"><configuration><nodes><node id="1" uname="a"/><node id="2" uname="b"/></nodes>
           {sections}</configuration><status>{status}</status></cib>"#
    );
    cib(&text, crate::Time::Recorded { otherwise: 0 }).expect("a CIB")
}

/// As `read`, without status, with three primitives and these constraints.
pub(crate) fn constrained(constraints: &str) -> Imported {
    let names = ["x", "y", "z"];
    let resources: String = names.iter().map(|name| dummy(name, "")).collect();
    let clone = format!(r#"<clone id="c">{}</clone>"#, dummy("inner", ""));
    read(&format!("<resources>{resources}{clone}</resources><constraints>{constraints}</constraints>"), "")
}

/// A primitive with this inside.
pub(crate) fn dummy(name: &str, inside: &str) -> String {
    format!(r#"<primitive id="{name}" class="ocf" provider="pacemaker" type="Dummy">{inside}</primitive>"#)
}

/// A block of values.
pub(crate) fn block(kind: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!(r#"<nvpair name="{name}" value="{value}"/>"#));
    format!("<{kind}>{}</{kind}>", pairs.collect::<String>())
}

/// The primitive of a resource that is one.
pub(crate) fn primitive(resource: &Resource) -> &Primitive {
    match &resource.kind {
        ResourceKind::Primitive(primitive) => primitive,
        other => panic!("{} is no primitive: {other:?}", resource.name),
    }
}
