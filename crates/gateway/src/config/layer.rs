//! One source of configuration as a layer for the `config` crate: its values, each with the place it came from. What
//! no version could understand is told here, with file, line and column, and left out.

use config::{Map, Source, Value, ValueKind};
use toml_edit::{Document, Item, TableLike};

use super::Problem;
use super::schema::{Found, Node, SCHEMA, Section, join, unknown};

/// The beginning of the environment variables that are ours.
pub(super) const ENV_PREFIX: &str = "ROOMCAST__";

/// One source's values, by section.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// How a source's places are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places<'a> {
    /// `name:line:column`.
    Lines(&'a str),
    /// The name alone.
    Whole(&'a str),
}

impl Layer {
    /// Reads TOML.
    pub(super) fn toml(text: &str, places: Places<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut reader = TomlReader { text, places, problems };
        match Document::parse(text) {
            Ok(document) => Self(reader.table(document.as_table(), &SCHEMA, "")),
            Err(error) => {
                // Not `error` itself: it quotes the line, which may hold a secret.
                let place = reader.place(error.span().map(|it| it.start));
                let text = error.message().replace('\n', ", ");
                reader.problems.push(Problem::new(place, format!("is not TOML: {text}")));
                Self::default()
            }
        }
    }

    /// Takes the environment variables that are ours; each value stays text until its key's type is known.
    pub(super) fn environment(env: &[(String, String)], problems: &mut Vec<Problem>) -> Self {
        let ours = env.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(ENV_PREFIX)?.to_lowercase().replace("__", ".");
            Some((name.clone(), key, value))
        });
        Self::pairs(ours, "the environment", problems)
    }

    /// Takes `--set key=value`.
    pub(super) fn overrides(pairs: &[(String, String)], problems: &mut Vec<Problem>) -> Self {
        let pairs = pairs.iter().map(|(key, value)| (format!("--set {key}"), key.clone(), value));
        Self::pairs(pairs, "the command line", problems)
    }

    fn pairs<'a>(
        pairs: impl Iterator<Item = (String, String, &'a String)>,
        from: &str,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut layer = Self::default();
        for (place, key, value) in pairs {
            match SCHEMA.find(&key) {
                Found::Key => {
                    let value = Value::new(Some(&place), ValueKind::String(value.clone()));
                    layer.0.insert(key, value);
                }
                Found::Section => {
                    problems.push(Problem::new(place, format!("{key} is a section, not a key")));
                }
                Found::Tables(name) => {
                    let text = format!("[[{name}]] cannot come from {from}; write it in the file");
                    problems.push(Problem::new(place, text));
                }
                Found::Nothing => problems.push(Problem::new(place, unknown(&key))),
            }
        }
        layer
    }
}

struct TomlReader<'a> {
    text: &'a str,
    places: Places<'a>,
    problems: &'a mut Vec<Problem>,
}

impl TomlReader<'_> {
    fn place(&self, offset: Option<usize>) -> String {
        match self.places {
            Places::Whole(name) => name.to_owned(),
            Places::Lines(name) => {
                let (line, column) = line_and_column(self.text, offset.unwrap_or_default());
                format!("{name}:{line}:{column}")
            }
        }
    }

    fn problem(&mut self, place: String, text: String) {
        self.problems.push(Problem::new(place, text));
    }

    fn table(
        &mut self,
        table: &dyn TableLike,
        section: &Section,
        path: &str,
    ) -> Map<String, Value> {
        let mut found = Map::new();
        for (name, item) in table.iter() {
            let path = join(path, name);
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            let place = self.place(span.map(|it| it.start));
            let value = match section.get(name) {
                None => {
                    self.problem(place, unknown(&path));
                    continue;
                }
                Some(Node::Section(inner)) => match item.as_table_like() {
                    Some(table) => Some(ValueKind::Table(self.table(table, inner, &path))),
                    None => {
                        self.problem(place.clone(), format!("{path} is a section: write [{path}]"));
                        None
                    }
                },
                Some(Node::Tables(inner)) => self.tables(item, inner, &path, &place),
                Some(Node::Key(_)) => self.leaf(item.as_value(), &path, &place),
            };
            if let Some(value) = value {
                found.insert(name.to_owned(), Value::new(Some(&place), value));
            }
        }
        found
    }

    /// `[[name]]` once or more, or a list of inline tables.
    fn tables(
        &mut self,
        item: &Item,
        section: &Section,
        path: &str,
        place: &str,
    ) -> Option<ValueKind> {
        let inline = |item: &toml_edit::Value| item.as_inline_table().cloned();
        let mut found = Vec::new();
        if let Some(tables) = item.as_array_of_tables() {
            for table in tables {
                let place = self.place(table.span().map(|it| it.start));
                let table = ValueKind::Table(self.table(table, section, path));
                found.push(Value::new(Some(&place), table));
            }
        } else if let Some(list) = item.as_array()
            && list.iter().all(|it| it.as_inline_table().is_some())
        {
            for table in list.iter().filter_map(inline) {
                let place = self.place(table.span().map(|it| it.start));
                let table = ValueKind::Table(self.table(&table, section, path));
                found.push(Value::new(Some(&place), table));
            }
        } else {
            let text = format!("{path} is a list of sections: write [[{path}]] before each");
            self.problem(place.to_owned(), text);
            return None;
        }
        Some(ValueKind::Array(found))
    }

    fn leaf(
        &mut self,
        value: Option<&toml_edit::Value>,
        path: &str,
        place: &str,
    ) -> Option<ValueKind> {
        match value {
            Some(toml_edit::Value::String(it)) => Some(ValueKind::String(it.value().clone())),
            Some(toml_edit::Value::Integer(it)) => Some(ValueKind::I64(*it.value())),
            Some(toml_edit::Value::Float(it)) => Some(ValueKind::Float(*it.value())),
            Some(toml_edit::Value::Boolean(it)) => Some(ValueKind::Boolean(*it.value())),
            Some(toml_edit::Value::Array(list)) => {
                let mut found = Vec::new();
                for item in list {
                    let at = self.place(item.span().map(|it| it.start));
                    let kind = self.leaf(Some(item), path, &at)?;
                    found.push(Value::new(Some(&at), kind));
                }
                Some(ValueKind::Array(found))
            }
            Some(toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_)) | None => {
                let text = format!("{path} takes a value, neither a section nor a date");
                self.problem(place.to_owned(), text);
                None
            }
        }
    }
}

/// Both count from 1; columns count characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
