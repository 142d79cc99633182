//! What keys there are: read from the commented example, so that a key, its default and its text cannot drift apart.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The commented example, which is also the layer of defaults.
pub(super) const EXAMPLE: &str = include_str!("../../assets/roomcast.toml");

/// The keys of [`EXAMPLE`].
pub(super) static SCHEMA: LazyLock<Section> = LazyLock::new(|| Section::read(EXAMPLE));

/// Keys that the design knows and this version does not serve: a key that is accepted and does nothing would be a
/// promise (decision 6).
const LATER: [&str; 9] = [
    "audit",
    "console",
    "filter",
    "ingest",
    "last_value",
    "memory_max",
    "replay",
    "tls",
    "tracing",
];

/// What the example says about one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyDoc {
    pub(super) meaning: String,
    pub(super) unit: String,
    pub(super) bounds: String,
    /// In Markdown.
    pub(super) default: String,
    pub(super) memory: String,
}

/// One place of the tree of keys.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A value.
    Key(KeyDoc),
    /// `[name]`.
    Section(Section),
    /// `[[name]]`.
    Tables(Section),
}

/// A section's entries, in the order of the example.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) text: String,
    pub(super) entries: Vec<(String, Node)>,
}

/// What a path leads to.
pub(super) enum Found<'a> {
    Key,
    Section,
    /// Into `[[name]]`.
    Tables(&'a str),
    Nothing,
}

impl Section {
    fn read(example: &str) -> Self {
        let mut root = Self::default();
        let mut path: Vec<String> = Vec::new();
        let mut prose = String::new();
        for line in example.lines() {
            if let Some(text) = line.strip_prefix("# ") {
                prose.push_str(if prose.is_empty() { "" } else { " " });
                prose.push_str(text);
                continue;
            }
            let line = line.trim_start_matches('#');
            if let Some(name) = line.strip_prefix("[[").and_then(|it| it.strip_suffix("]]")) {
                path = name.split('.').map(str::to_owned).collect();
                root.describe(&path, true, &mut prose);
            } else if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                path = name.split('.').map(str::to_owned).collect();
                root.describe(&path, false, &mut prose);
            } else if let Some((name, default)) = line.split_once(" = ") {
                let doc = KeyDoc::read(&std::mem::take(&mut prose), default);
                if let Some(section) = root.open(&path, false) {
                    section.entries.push((name.to_owned(), Node::Key(doc)));
                }
            } else {
                prose.clear();
            }
        }
        root
    }

    fn describe(&mut self, path: &[String], tables: bool, prose: &mut String) {
        if let Some(section) = self.open(path, tables) {
            section.text = std::mem::take(prose);
        }
    }

    /// The section at a path, made where it is new.
    fn open(&mut self, path: &[String], tables: bool) -> Option<&mut Self> {
        let Some((name, rest)) = path.split_first() else { return Some(self) };
        let at = self.entries.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            let section = Self::default();
            let is_last = rest.is_empty() && tables;
            let node = if is_last { Node::Tables(section) } else { Node::Section(section) };
            self.entries.push((name.clone(), node));
            self.entries.len() - 1
        });
        match &mut self.entries.get_mut(at)?.1 {
            Node::Section(section) | Node::Tables(section) => section.open(rest, tables),
            Node::Key(_) => None,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(other, _)| other == name).map(|(_, node)| node)
    }

    /// Whether a key's value is never written out: it is one that can be kept elsewhere.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        ["env", "file"].iter().all(|kept| self.get(&format!("{name}_{kept}")).is_some())
    }

    /// What a dotted path leads to.
    pub(super) fn find<'a>(&self, path: &'a str) -> Found<'a> {
        let mut section = self;
        let mut end = 0;
        for name in path.split('.') {
            end += name.len();
            match section.get(name) {
                None => return Found::Nothing,
                Some(Node::Tables(_)) => return Found::Tables(path.get(..end).unwrap_or(path)),
                Some(Node::Key(_)) if end == path.len() => return Found::Key,
                Some(Node::Key(_)) => return Found::Nothing,
                Some(Node::Section(inner)) => section = inner,
            }
            end += 1;
        }
        Found::Section
    }

    /// Every key with its path, in order.
    pub(super) fn keys(&self) -> Vec<(String, &KeyDoc)> {
        let mut all = Vec::new();
        self.walk("", &mut all);
        all
    }

    fn walk<'a>(&'a self, path: &str, all: &mut Vec<(String, &'a KeyDoc)>) {
        for (name, node) in &self.entries {
            let path = join(path, name);
            match node {
                Node::Key(doc) => all.push((path, doc)),
                Node::Section(section) | Node::Tables(section) => section.walk(&path, all),
            }
        }
    }
}

impl KeyDoc {
    /// Reads `Meaning. Unit: .. Bounds: .. Default: .. Memory: ..`.
    fn read(prose: &str, default: &str) -> Self {
        let labels = ["Unit:", "Bounds:", "Default:", "Memory:"];
        let mut places: Vec<_> =
            labels.into_iter().filter_map(|label| Some((prose.find(label)?, label))).collect();
        places.sort_unstable();
        let ends = places.iter().skip(1).map(|(at, _)| *at).chain([prose.len()]);
        let found: BTreeMap<_, _> = places
            .iter()
            .zip(ends)
            .map(|((at, label), end)| {
                let text = prose.get(at + label.len()..end).unwrap_or_default().trim();
                (*label, text.strip_suffix('.').unwrap_or(text).to_owned())
            })
            .collect();
        let of = |label| found.get(label).cloned().unwrap_or_default();
        let meaning = prose.get(..places.first().map_or(prose.len(), |(at, _)| *at));
        let told = of("Default:");
        Self {
            meaning: meaning.unwrap_or_default().trim().to_owned(),
            unit: of("Unit:"),
            bounds: of("Bounds:"),
            default: if told.is_empty() { format!("`{default}`") } else { told },
            memory: of("Memory:"),
        }
    }
}

/// `path.name`, or `name` at the root.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What to say about a key that nobody knows: that it is not served yet, or what was probably meant.
pub(super) fn unknown(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    if path.split('.').any(|name| LATER.contains(&name)) {
        return format!("unknown key {path}: this version does not serve it");
    }
    let near = |max: usize, other: &str| Some(distance(name, other)).filter(|far| *far <= max);
    let max = (name.chars().count() / 3).max(1);
    let keys = SCHEMA.keys();
    let sections = SCHEMA.entries.iter().map(|(name, _)| name.clone());
    let here = section_at(section).into_iter().flat_map(|it| &it.entries);
    let inner: Vec<_> = sections.chain(here.map(|(name, _)| join(section, name))).collect();
    let all = keys.iter().map(|(path, _)| path.as_str()).chain(inner.iter().map(String::as_str));
    let best = all
        .filter_map(|other| {
            let (other_section, other_name) = other.rsplit_once('.').unwrap_or(("", other));
            let is_here = other_section == section;
            let far = if is_here { near(max, other_name) } else { near(0, other_name) }?;
            Some(((far, !is_here), if is_here { other_name } else { other }))
        })
        .min();
    match best {
        Some((_, meant)) => format!("unknown key {path}, did you mean {meant}?"),
        None => {
            let here = match section {
                "" => Some(&*SCHEMA),
                _ => section_at(section),
            };
            let names: Vec<_> =
                here.iter().flat_map(|it| &it.entries).map(|(name, _)| name.as_str()).collect();
            if names.is_empty() {
                return format!("unknown key {path}");
            }
            format!("unknown key {path}; known here: {}", names.join(", "))
        }
    }
}

/// The section at a dotted path, be it `[..]` or `[[..]]`.
pub(super) fn section_at(path: &str) -> Option<&'static Section> {
    path.split('.').try_fold(&*SCHEMA, |section, name| match section.get(name)? {
        Node::Section(inner) | Node::Tables(inner) => Some(inner),
        Node::Key(_) => None,
    })
}

/// Insertions, deletions, replacements and swaps of neighbours that make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    let mut last = None;
    for (at, from) in one.chars().enumerate() {
        let mut next = vec![at + 1];
        for (column, to) in other.iter().enumerate() {
            let cost = |row: &[usize], back: usize| {
                (column + 1).checked_sub(back).and_then(|it| row.get(it)).copied()
            };
            let replace = cost(&row, 1).map(|it| it + usize::from(from != *to));
            let insert = next.last().map(|it| it + 1);
            let delete = cost(&row, 0).map(|it| it + 1);
            let swaps = last == Some(*to) && column > 0 && other.get(column - 1) == Some(&from);
            let swap = if swaps { cost(&before, 2).map(|it| it + 1) } else { None };
            next.extend([replace, insert, delete, swap].into_iter().flatten().min());
        }
        before = std::mem::replace(&mut row, next);
        last = Some(from);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scope::Action;

    #[test]
    fn distance_counts_slips_of_the_pen() {
        for (one, other, expected) in [
            ("ping", "ping", 0),
            ("pong", "ping", 1),
            ("pnig", "ping", 1),
            ("messages_per_minut", "messages_per_minute", 1),
            ("", "ping", 4),
            ("ping", "", 4),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (path, told) in [
            ("limits.pnig", "unknown key limits.pnig, did you mean ping?"),
            ("limit", "unknown key limit, did you mean limits?"),
            ("limits.lanes", "unknown key limits.lanes, did you mean node.lanes?"),
            ("auth.issuers.keys.kdi", "unknown key auth.issuers.keys.kdi, did you mean kid?"),
            ("agents.zzz", "unknown key agents.zzz; known here: leave_grace"),
            ("rooms.audit", "unknown key rooms.audit: this version does not serve it"),
            ("rooms.histroy", "unknown key rooms.histroy, did you mean history?"),
            (
                "rooms.history.bytes",
                "unknown key rooms.history.bytes; known here: size, bytes_max, ttl",
            ),
            ("rooms.ttl", "unknown key rooms.ttl, did you mean rooms.history.ttl?"),
            ("webhooks.url", "unknown key webhooks.url, did you mean upstream.targets.url?"),
            ("console.url", "unknown key console.url: this version does not serve it"),
        ] {
            assert_eq!(unknown(path), told);
        }
    }

    #[test]
    fn the_actions_of_a_key_are_all_named() {
        let keys = SCHEMA.keys();
        let (_, doc) = keys.iter().find(|(path, _)| path == "api.keys.actions").unwrap();
        let all = Action::ALL.map(Action::name).join(", ");
        assert!(doc.meaning.contains(&format!("some of {all}.")), "{}", doc.meaning);
    }

    #[test]
    fn every_key_says_its_meaning_unit_default_and_memory() {
        let keys = SCHEMA.keys();
        assert!(keys.len() > 50, "the example was not read");
        for (path, doc) in keys {
            for (what, text) in [
                ("meaning", &doc.meaning),
                ("unit", &doc.unit),
                ("default", &doc.default),
                ("memory", &doc.memory),
            ] {
                assert!(!text.is_empty(), "{path} does not say its {what}");
            }
        }
    }
}
