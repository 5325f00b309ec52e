//! How does the expert part stand in a file? As tables that a person can read and change.

use std::fmt::Write as _;

use serde::Serialize;
use toml::{Table, Value};

use super::{Expert, ExpertResource, Shape, table_of};

impl Expert {
    /// The part as text; empty if there is nothing to say.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        if self.is_empty() {
            return out;
        }
        out += "[expert]\n";
        if self.assumes_fencing {
            out += "# Resources run wherever Pacemaker let them, whatever the fence devices cover.\nassumes_fencing = true\n";
        }
        if !self.order_of_choice.is_empty() {
            out += "# Who chooses a node first among equals, first to last.\n";
            lines(&mut out, "order_of_choice", self.order_of_choice.iter().map(|name| quoted(name.as_str())));
        }
        constraints(&mut out, "locations", "What may, must or must not run where.", &self.locations);
        constraints(&mut out, "colocations", "What belongs together (score above 0) or apart.", &self.colocations);
        constraints(
            &mut out,
            "orders",
            "What is done after what; and_back: the reverse on the way back.",
            &self.orders,
        );
        constraints(&mut out, "tickets", "What runs only with a ticket.", &self.ticket_rules);
        if !self.options.is_empty() {
            out += "\n# The whole cluster.\n[expert.options]\n";
            pairs(&mut out, &self.options);
        }
        if !self.fence_levels.is_empty() {
            out += "\n# Fence devices by node: the devices of one level are used together, the next level if one of them fails.\n";
            out += "[expert.fence_levels]\n";
            pairs(&mut out, &table_of(&self.fence_levels));
        }
        for (name, table) in &self.nodes {
            let _ = write!(out, "\n[expert.nodes.{}]\n", key(name.as_str()));
            pairs(&mut out, table);
        }
        for (name, said) in &self.resources {
            resource(&mut out, name.as_str(), said);
        }
        out
    }
}

fn resource(out: &mut String, name: &str, said: &ExpertResource) {
    let ExpertResource { settings, service, shape } = said;
    if shape.is_some() || !settings.is_empty() || service.is_empty() {
        let _ = write!(out, "\n[expert.resources.{}]\n", key(name));
    }
    match shape {
        Some(Shape::Members(members)) => {
            let _ = writeln!(out, "members = {}", inline(&written(members)));
        }
        Some(Shape::CopiesOf(inner)) => {
            let _ = writeln!(out, "copies_of = {}", quoted(inner.as_str()));
        }
        Some(Shape::Bundle(_)) | None => {}
    }
    pairs(out, settings);
    if let Some(Shape::Bundle(bundle)) = shape {
        let _ = writeln!(out, "[expert.resources.{}.bundle]", key(name));
        pairs(out, &table_of(bundle));
    }
    if !service.is_empty() {
        let gap = if settings.is_empty() && shape.is_none() { "\n" } else { "" };
        let _ = writeln!(out, "{gap}[expert.resources.{}.service]", key(name));
        pairs(out, service);
    }
}

fn constraints<T: Serialize>(out: &mut String, name: &str, what: &str, all: &[T]) {
    if !all.is_empty() {
        let _ = writeln!(out, "# {what}");
        lines(out, name, all.iter().map(|one| inline(&written(one))));
    }
}

fn written<T: Serialize>(value: &T) -> Value {
    Value::try_from(value).unwrap_or(Value::Boolean(false))
}

/// A list, one entry a line.
fn lines(out: &mut String, name: &str, entries: impl Iterator<Item = String>) {
    let _ = writeln!(out, "{} = [", key(name));
    for entry in entries {
        let _ = writeln!(out, "  {entry},");
    }
    *out += "]\n";
}

fn pairs(out: &mut String, table: &Table) {
    for (name, value) in table {
        match value {
            Value::Array(entries) if entries.iter().any(Value::is_table) => {
                lines(out, name, entries.iter().map(inline));
            }
            _ => _ = writeln!(out, "{} = {}", key(name), inline(value)),
        }
    }
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            // What something is called comes first.
            let is_name = |name: &str| matches!(name, "id" | "name");
            let (first, rest): (Vec<_>, Vec<_>) = table.iter().partition(|(name, _)| is_name(name));
            let pairs = first.into_iter().chain(rest);
            let pairs: Vec<String> = pairs.map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(entries) => {
            format!("[{}]", entries.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => quoted(text),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}

/// A text in quotes, on one line.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A name as a key: bare where it can be.
pub fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_bare { name.to_owned() } else { quoted(name) }
}
