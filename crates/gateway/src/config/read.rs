//! Reads one value at a time as its key's type and notes what is wrong, with the place it came from, so that all
//! problems are told at once.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};

use super::raw::Scalar;
use super::units::{bytes, millis, show_bytes, show_millis};
use super::{DEFAULT_PLACE, Problem, Secret};

/// Reads values, keeps problems.
pub(super) struct Reader<'a> {
    values: &'a Map<String, Value>,
    pub(super) problems: Vec<Problem>,
    env: &'a [(String, String)],
    /// The folder of the configuration's file.
    folder: PathBuf,
}

/// The three ways to give a secret: `name`, `name_env` and `name_file`.
pub(super) struct SecretKeys<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<&'a Scalar>,
    pub(super) env: Option<&'a Scalar>,
    pub(super) file: Option<&'a Scalar>,
    pub(super) bytes_min: usize,
}

impl SecretKeys<'_> {
    /// The ends of the names of those that are given.
    fn given(&self) -> Vec<&'static str> {
        let keys = [(self.value, ""), (self.env, "_env"), (self.file, "_file")];
        keys.iter().filter_map(|(value, end)| value.map(|_| *end)).collect()
    }

    fn names(&self) -> String {
        let name = self.name;
        format!("{name}, {name}_env and {name}_file")
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        values: &'a Map<String, Value>,
        env: &'a [(String, String)],
        file: Option<&Path>,
    ) -> Self {
        let folder = file.and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        Self { values, problems: Vec::new(), env, folder }
    }

    /// Notes a problem with a key: `limits.ping`, `rooms[0].match`.
    pub(super) fn problem(&mut self, key: &str, text: impl Display) {
        let place = origin(self.values, key).unwrap_or_default();
        self.problems.push(Problem::new(place, format!("{} {text}", without_indices(key))));
    }

    /// Where a key's value came from.
    pub(super) fn comes_from(&self, key: &str) -> String {
        origin(self.values, key).unwrap_or_default()
    }

    /// A whole number.
    pub(super) fn count(&mut self, key: &str, value: &Scalar, bounds: RangeInclusive<u64>) -> u64 {
        let number = match value {
            Scalar::Int(it) => u64::try_from(*it).ok(),
            Scalar::Text(it) => it.trim().parse().ok(),
            Scalar::Bool(_) | Scalar::Float(_) | Scalar::List(_) => None,
        };
        let Some(number) = number else {
            self.problem(key, format!("is {}, which is no whole number", show(value)));
            return *bounds.start();
        };
        self.bounded(key, number, &bounds, |it| it.to_string())
    }

    /// A size. Units: bytes.
    pub(super) fn size(&mut self, key: &str, value: &Scalar, bounds: RangeInclusive<u64>) -> usize {
        let size = match value {
            Scalar::Int(it) => u64::try_from(*it).ok(),
            Scalar::Text(it) => bytes(it),
            Scalar::Bool(_) | Scalar::Float(_) | Scalar::List(_) => None,
        };
        let Some(size) = size else {
            let text = "which is no size; write bytes, or for example \"64 KiB\" or \"1 MiB\"";
            self.problem(key, format!("is {}, {text}", show(value)));
            return usize::try_from(*bounds.start()).unwrap_or(usize::MAX);
        };
        usize::try_from(self.bounded(key, size, &bounds, show_bytes)).unwrap_or(usize::MAX)
    }

    /// A time. Units: milliseconds.
    pub(super) fn time(&mut self, key: &str, value: &Scalar, bounds: RangeInclusive<u64>) -> u64 {
        let ms = match value {
            Scalar::Text(it) => millis(it),
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::List(_) => None,
        };
        let Some(ms) = ms else {
            let text = "which is no time; write its unit, for example \"500ms\", \"5s\" or \"2m\"";
            self.problem(key, format!("is {}, {text}", show(value)));
            return *bounds.start();
        };
        self.bounded(key, ms, &bounds, show_millis)
    }

    fn bounded(
        &mut self,
        key: &str,
        value: u64,
        bounds: &RangeInclusive<u64>,
        show: impl Fn(u64) -> String,
    ) -> u64 {
        if bounds.contains(&value) {
            return value;
        }
        let (min, max) = (show(*bounds.start()), show(*bounds.end()));
        self.problem(key, format!("is {}, allowed are {min} to {max}", show(value)));
        *bounds.start()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, value: &Scalar) -> bool {
        match value {
            Scalar::Bool(it) => *it,
            Scalar::Text(it) if it == "true" => true,
            Scalar::Text(it) if it == "false" => false,
            Scalar::Text(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::List(_) => {
                self.problem(key, format!("is {}, write true or false", show(value)));
                false
            }
        }
    }

    /// A text, not empty.
    pub(super) fn text(&mut self, key: &str, value: &Scalar) -> Option<String> {
        match value {
            Scalar::Text(it) if it.is_empty() => self.problem(key, "is empty"),
            Scalar::Text(it) => return Some(it.clone()),
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::List(_) => {
                self.problem(key, "is no text; put it in quotes");
            }
        }
        None
    }

    /// A text that must be given.
    pub(super) fn required(&mut self, key: &str, value: Option<&Scalar>) -> Option<String> {
        if let Some(value) = value {
            return self.text(key, value);
        }
        let (section, _) = key.rsplit_once('.').unwrap_or_default();
        let place = self.comes_from(section);
        self.problems.push(Problem::new(place, format!("{} is missing", without_indices(key))));
        None
    }

    /// A list of texts; from the environment separated by commas.
    pub(super) fn texts(&mut self, key: &str, value: &Scalar) -> Vec<String> {
        match value {
            Scalar::Text(it) => {
                it.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
            }
            Scalar::List(items) => items.iter().filter_map(|item| self.text(key, item)).collect(),
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => {
                self.problem(key, "is no list of texts, for example [\"a\", \"b\"]");
                Vec::new()
            }
        }
    }

    /// An address with a port.
    pub(super) fn address(&mut self, key: &str, value: &Scalar) -> SocketAddr {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let Some(text) = self.text(key, value) else { return nowhere };
        text.parse().unwrap_or_else(|_| {
            let text = format!(
                "is {text:?}; write an IP address and a port, for example \"127.0.0.1:8080\" or \"[::]:8080\""
            );
            self.problem(key, text);
            nowhere
        })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Scalar,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key, value)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let (last, before) = words.split_last()?;
            let before: Vec<_> = before.iter().map(|(word, _)| format!("{word:?}")).collect();
            let mend = format!("write {} or {:?}", before.join(", "), last.0);
            self.problem(key, format!("is {text:?}; {mend}"));
        }
        found.map(|(_, value)| *value)
    }

    /// A file's name and what is in it.
    pub(super) fn file(&mut self, key: &str, value: &Scalar) -> Option<(String, Vec<u8>)> {
        let name = self.text(key, value)?;
        match std::fs::read(self.folder.join(&name)) {
            Ok(bytes) => Some((name, bytes)),
            Err(error) => {
                let text = format!("names the file {name}, which cannot be read: {error}");
                self.problem(key, text);
                None
            }
        }
    }

    /// A file of certificates in PEM.
    pub(super) fn certificates(&mut self, key: &str, value: &Scalar) -> Option<Vec<u8>> {
        let (name, pem) = self.file(key, value)?;
        let begin = b"-----BEGIN CERTIFICATE-----";
        if !pem.windows(begin.len()).any(|it| it == begin) {
            self.problem(key, format!("names the file {name}, which holds no certificate in PEM"));
        }
        Some(pem)
    }

    /// A secret, given as itself, by an environment variable or by a file. It is in no problem's text.
    pub(super) fn secret(&mut self, section: &str, keys: &SecretKeys<'_>) -> Option<Secret> {
        if keys.given().len() != 1 {
            self.problem(section, format!("needs exactly one of {}", keys.names()));
            return None;
        }
        self.given_secret(section, keys)
    }

    /// The same where there may be none.
    pub(super) fn optional_secret(
        &mut self,
        section: &str,
        keys: &SecretKeys<'_>,
    ) -> Option<Secret> {
        if let [_, end, ..] = keys.given()[..] {
            let text = format!("is one too many: give one of {}", keys.names());
            self.problem(&format!("{section}.{}{end}", keys.name), text);
            return None;
        }
        self.given_secret(section, keys)
    }

    fn given_secret(&mut self, section: &str, keys: &SecretKeys<'_>) -> Option<Secret> {
        let of = |end: &str| format!("{section}.{}{end}", keys.name);
        let (key, secret) = if let Some(value) = keys.value {
            let key = of("");
            let Scalar::Text(secret) = value else {
                self.problem(&key, "is no text; put it in quotes");
                return None;
            };
            (key, secret.clone().into_bytes())
        } else if let Some(value) = keys.env {
            let key = of("_env");
            let name = self.text(&key, value)?;
            let Some((_, secret)) = self.env.iter().find(|(other, _)| *other == name) else {
                let text = format!("names the environment variable {name}, which is not set");
                self.problem(&key, text);
                return None;
            };
            (key, secret.clone().into_bytes())
        } else {
            let key = of("_file");
            let (_, mut secret) = self.file(&key, keys.file?)?;
            while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                secret.pop();
            }
            (key, secret)
        };
        if secret.len() < keys.bytes_min {
            let (has, min) = (secret.len(), keys.bytes_min);
            let text = match min {
                1 => "is empty; leave it out where there is none".to_owned(),
                _ => format!(
                    "has {has} bytes, at least {min} are needed; `openssl rand -base64 48` makes some"
                ),
            };
            self.problem(&key, text);
            return None;
        }
        Some(Secret::new(secret))
    }

    /// Whether any key of a section was given, rather than left at its default.
    pub(super) fn is_given(&self, section: &str) -> bool {
        let Some(ValueKind::Table(values)) = self.values.get(section).map(|it| &it.kind) else {
            return false;
        };
        values.values().any(|value| value.origin() != Some(DEFAULT_PLACE))
    }
}

fn show(value: &Scalar) -> String {
    match value {
        Scalar::Bool(it) => it.to_string(),
        Scalar::Int(it) => it.to_string(),
        Scalar::Float(it) => it.to_string(),
        Scalar::Text(it) => format!("{it:?}"),
        Scalar::List(_) => "a list".to_owned(),
    }
}

/// `rooms[0].match` as people call it: `rooms.match`.
fn without_indices(key: &str) -> String {
    key.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// Where the value at a path, or the nearest section around it, came from.
fn origin(values: &Map<String, Value>, path: &str) -> Option<String> {
    let mut values = values;
    let mut place = None;
    for part in path.split('.') {
        let (name, index) = part.split_once('[').map_or((part, None), |(name, index)| {
            (name, index.strip_suffix(']').and_then(|it| it.parse::<usize>().ok()))
        });
        let Some(mut value) = values.get(name) else { break };
        if let (Some(index), ValueKind::Array(items)) = (index, &value.kind) {
            value = items.get(index)?;
        }
        place = value.origin().or(place);
        let ValueKind::Table(inner) = &value.kind else { break };
        values = inner;
    }
    place.map(str::to_owned)
}
