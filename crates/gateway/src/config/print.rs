//! The configuration in words: what is in force and where it came from, and the table of all keys.

use config::{Map, Value, ValueKind};

use roomcast_broker::redis::{Address, Servers};

use super::schema::{KeyDoc, Node, SCHEMA, Section, join};
use super::{RedisConfig, RelayConfig};

/// What stands for a secret.
const MASK: &str = "\"********\"";

/// Writes the effective values as TOML, each with the place it came from; secrets are masked.
pub(super) fn effective(values: &Map<String, Value>) -> String {
    let mut out = String::new();
    section(&mut out, values, &SCHEMA, "");
    out
}

fn section(out: &mut String, values: &Map<String, Value>, schema: &Section, path: &str) {
    for (name, node) in &schema.entries {
        let Some(value) = values.get(name) else { continue };
        if matches!(node, Node::Key(_)) {
            let text = if schema.is_secret(name) { MASK.to_owned() } else { toml(value) };
            let line = format!("{name} = {text}");
            line_with_origin(out, &line, value);
        }
    }
    for (name, node) in &schema.entries {
        let Some(value) = values.get(name) else { continue };
        let path = join(path, name);
        match (node, &value.kind) {
            (Node::Section(inner), ValueKind::Table(values)) => {
                let mut keys =
                    inner.entries.iter().filter(|(_, node)| matches!(node, Node::Key(_)));
                // An empty section says something as well: `history = {}`.
                if keys.any(|(name, _)| values.is_empty() || values.contains_key(name)) {
                    heading(out, &format!("[{path}]"), None);
                }
                section(out, values, inner, &path);
            }
            (Node::Tables(inner), ValueKind::Array(items)) => {
                for item in items {
                    heading(out, &format!("[[{path}]]"), Some(item));
                    if let ValueKind::Table(values) = &item.kind {
                        section(out, values, inner, &path);
                    }
                }
            }
            _ => {}
        }
    }
}

fn heading(out: &mut String, text: &str, value: Option<&Value>) {
    if !out.is_empty() {
        out.push('\n');
    }
    match value {
        Some(value) => line_with_origin(out, text, value),
        None => {
            out.push_str(text);
            out.push('\n');
        }
    }
}

fn line_with_origin(out: &mut String, line: &str, value: &Value) {
    let origin = value.origin().unwrap_or_default();
    out.push_str(&format!("{line:<40} # {origin}\n"));
}

fn toml(value: &Value) -> String {
    match &value.kind {
        ValueKind::Boolean(it) => it.to_string(),
        ValueKind::I64(it) => it.to_string(),
        ValueKind::Float(it) => it.to_string(),
        ValueKind::String(it) => toml_edit::Value::from(it.as_str()).to_string(),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Nil
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Table(_) => String::new(),
    }
}

/// Where Redis is and how rooms travel through it, without secrets.
pub(super) fn redis(redis: &RedisConfig, relay: &RelayConfig) -> String {
    let shown = |(host, port): &Address| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    let all = |servers: &[Address]| servers.iter().map(shown).collect::<Vec<_>>().join(", ");
    let place = match &redis.servers {
        Servers::Standalone(server) => format!("standalone {}", shown(server)),
        Servers::Sentinel { sentinels, service } => {
            format!("sentinel {} ({service})", all(sentinels))
        }
        Servers::Cluster(servers) => format!("cluster {}", all(servers)),
    };
    let tls = if redis.tls.is_some() { ", tls" } else { "" };
    format!("redis: {place}{tls}, relay {} {}", relay.mode.name(), relay.format.name())
}

/// What the page says before its tables.
const PREFACE: &str = include_str!("../../assets/configuration.md");

/// Writes what `docs/CONFIGURATION.md` holds below its heading: the preface, and a table for each section.
pub(super) fn reference() -> String {
    let mut out = PREFACE.to_owned();
    reference_section(&mut out, &SCHEMA, "");
    out
}

fn reference_section(out: &mut String, section: &Section, path: &str) {
    let keys: Vec<(&str, &KeyDoc)> = section
        .entries
        .iter()
        .filter_map(|(name, node)| match node {
            Node::Key(doc) => Some((name.as_str(), doc)),
            Node::Section(_) | Node::Tables(_) => None,
        })
        .collect();
    if !keys.is_empty() {
        out.push_str("| key | meaning | unit | bounds | default | memory |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
    }
    for (name, doc) in keys {
        let KeyDoc { meaning, unit, bounds, default, memory } = doc;
        let cells = [meaning, unit, bounds, default, memory];
        let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).into();
        out.push_str(&format!("| `{name}` | {} |\n", cells.join(" | ")));
    }
    for (name, node) in &section.entries {
        let path = join(path, name);
        let (inner, title) = match node {
            Node::Key(_) => continue,
            Node::Section(inner) => (inner, format!("[{path}]")),
            Node::Tables(inner) => (inner, format!("[[{path}]]")),
        };
        if inner.entries.iter().any(|(_, node)| matches!(node, Node::Key(_))) {
            out.push_str(&format!("\n### `{title}`\n\n"));
            if !inner.text.is_empty() {
                out.push_str(&format!("{}\n\n", inner.text));
            }
        }
        reference_section(out, inner, &path);
    }
}
