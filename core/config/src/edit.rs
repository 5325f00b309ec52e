//! How is a node written into the file, or out of it, without touching what a person wrote?
//!
//! Comments, order and spelling of everything else stay as they are. Each edit is checked like a file: what it would
//! make invalid is refused, with findings that point at no place, for the edited text is not the caller's.

use model::{NodeConfig, NodeName, NodeRole};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use crate::diagnostic::{Diagnostic, Severity};
use crate::file::parse;
use crate::words::{shown, suggestion};

/// The file of a new cluster with its first node.
///
/// The names are written as they are: `parse` the result, which says what is wrong with them.
pub fn initial(cluster: &str, profile: &str, name: &NodeName, node: &NodeConfig) -> String {
    let mut document = DocumentMut::new();
    document["cluster"] = value(cluster);
    document["profile"] = value(profile);
    if let Some(mut key) = document.key_mut("cluster") {
        key.leaf_decor_mut().set_prefix(
            "# The cluster file: what should run, and on which machines. `cardea check FILE` explains what is wrong\n\
             # with a changed copy, `cardea plan FILE` shows what it would do, `cardea apply FILE` does it.\n",
        );
    }
    let mut nodes = Table::new();
    nodes.set_implicit(true);
    nodes.insert(name.as_str(), Item::Table(node_table(node)));
    document.insert("nodes", Item::Table(nodes));
    document.to_string()
}

/// Writes a node into the file; what is there of it is brought up to date.
///
/// For a node that the file has, an empty `links` or `fence` keeps what is written, and so does the role `Member`.
///
/// # Errors
/// The text is not valid, or would no longer be.
pub fn add_node(text: &str, name: &NodeName, node: &NodeConfig) -> Result<String, Vec<Diagnostic>> {
    let before = parse(text)?.config;
    let mut document = document(text)?;
    let inline = document.get("nodes").is_some_and(Item::is_value);
    if !document.contains_key("nodes") {
        let mut nodes = Table::new();
        nodes.set_implicit(true);
        document.insert("nodes", Item::Table(nodes));
    }
    let nodes = document.get_mut("nodes").and_then(Item::as_table_like_mut);
    let nodes = nodes.ok_or_else(|| vec![not_editable("`nodes` is not a table")])?;
    match nodes.get_mut(name.as_str()).and_then(Item::as_table_like_mut) {
        Some(table) => {
            let known = before.nodes.get(name).cloned().unwrap_or_default();
            if !node.links.is_empty() && node.links != known.links {
                set(table, "links", value(links(node)));
            }
            if !node.fence.is_empty() && node.fence != known.fence {
                set(table, "fence", value(fence(node)));
            }
            if node.role == NodeRole::Witness && known.role != NodeRole::Witness {
                set(table, "role", value("witness"));
            }
        }
        None if inline => _ = nodes.insert(name.as_str(), value(node_table(node).into_inline_table())),
        None => _ = nodes.insert(name.as_str(), Item::Table(node_table(node))),
    }
    checked(document)
}

/// Writes a node out of the file: its table, and its name in every `prefer`, `avoid`, `only` and `plugs`.
///
/// # Errors
/// The text is not valid, has no such node, or would no longer be valid without it.
pub fn remove_node(text: &str, name: &NodeName) -> Result<String, Vec<Diagnostic>> {
    let before = parse(text)?.config;
    if !before.nodes.contains_key(name) {
        let members: Vec<&str> = before.nodes.keys().map(NodeName::as_str).collect();
        return Err(vec![
            Diagnostic::error(
                "config::unknown_node",
                format!("the cluster file has no node `{}`", shown(name.as_str())),
            )
            .help(suggestion(name.as_str(), "members", &members)),
        ]);
    }
    let mut document = document(text)?;
    let sections = |document: &mut DocumentMut, section: &str, edit: &mut dyn FnMut(&mut dyn TableLike)| {
        let Some(parent) = document.get_mut(section).and_then(Item::as_table_like_mut) else { return };
        for (_, item) in parent.iter_mut() {
            if let Some(table) = item.as_table_like_mut() {
                edit(table);
            }
        }
    };
    let mut forget = |table: &mut dyn TableLike| {
        forget_node(table, name);
        let Some(promoted) = table.get_mut("promoted").and_then(Item::as_table_like_mut) else { return };
        forget_node(promoted, name);
        if promoted.is_empty() {
            table.remove("promoted");
        }
    };
    sections(&mut document, "resources", &mut forget);
    sections(&mut document, "groups", &mut forget);
    sections(&mut document, "fence", &mut |device| {
        if let Some(plugs) = device.get_mut("plugs").and_then(Item::as_table_like_mut) {
            plugs.remove(name.as_str());
        }
    });
    if let Some(nodes) = document.get_mut("nodes").and_then(Item::as_table_like_mut) {
        nodes.remove(name.as_str());
    }
    checked(document)
}

/// Strikes a node out of the words that name nodes; a word that named no other goes. `only` stays without a node, and
/// is refused: without the word the unit would run anywhere.
fn forget_node(table: &mut dyn TableLike, name: &NodeName) {
    for word in ["prefer", "avoid", "only"] {
        let Some(item) = table.get_mut(word) else { continue };
        let is_empty = if let Some(list) = item.as_array_mut() {
            list.retain(|node| node.as_str() != Some(name.as_str()));
            list.is_empty()
        } else if let Some(weighed) = item.as_table_like_mut() {
            weighed.remove(name.as_str());
            weighed.is_empty()
        } else {
            false
        };
        if is_empty && word != "only" {
            table.remove(word);
        }
    }
}

fn document(text: &str) -> Result<DocumentMut, Vec<Diagnostic>> {
    text.parse::<DocumentMut>().map_err(|error| vec![not_editable(error.message())])
}

fn not_editable(why: &str) -> Diagnostic {
    Diagnostic::error("config::not_editable", format!("the cluster file cannot be edited in place: {why}"))
        .help("edit it by hand and run `cardea apply FILE`")
}

fn checked(document: DocumentMut) -> Result<String, Vec<Diagnostic>> {
    let text = document.to_string();
    match parse(&text) {
        Ok(_) => Ok(text),
        Err(mut findings) => {
            findings.retain(|finding| finding.severity == Severity::Error);
            for finding in &mut findings {
                finding.span = None;
            }
            Err(findings)
        }
    }
}

/// Replaces the value and keeps the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, mut item: Item) {
    match table.get_mut(key) {
        Some(old) => {
            if let (Some(old), Some(new)) = (old.as_value(), item.as_value_mut()) {
                *new.decor_mut() = old.decor().clone();
            }
            *old = item;
        }
        None => _ = table.insert(key, item),
    }
}

fn node_table(node: &NodeConfig) -> Table {
    let mut table = Table::new();
    table.insert("links", value(links(node)));
    match node.role {
        NodeRole::Member => {}
        NodeRole::Witness => _ = table.insert("role", value("witness")),
    }
    if !node.fence.is_empty() {
        table.insert("fence", value(fence(node)));
    }
    table
}

fn links(node: &NodeConfig) -> Array {
    node.links.iter().map(ToString::to_string).collect()
}

fn fence(node: &NodeConfig) -> Array {
    node.fence.iter().map(|device| device.as_str()).collect()
}
