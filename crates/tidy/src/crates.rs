//! The crates' manifests: which crate may know which, versions in one place only, no dependency unused or
//! undocumented.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::repo::File;

/// Which crates of the workspace a crate may depend on. Source: `docs/ARCHITECTURE.md`, Crates. Dev-dependencies may
/// be wider.
pub const ARROWS: [(&str, &[&str]); 11] = [
    ("roomcast-protocol", &[]),
    ("roomcast-router", &["roomcast-protocol"]),
    ("roomcast-dialects", &["roomcast-protocol"]),
    ("roomcast-store", &["roomcast-protocol"]),
    ("roomcast-broker", &["roomcast-protocol", "roomcast-store"]),
    (
        "roomcast-gateway",
        &["roomcast-protocol", "roomcast-router", "roomcast-dialects", "roomcast-broker"],
    ),
    ("roomcast", &["roomcast-gateway", "roomcast-client", "roomcast-protocol"]),
    ("roomcast-client", &["roomcast-protocol"]),
    (
        "roomcast-sim",
        &["roomcast-protocol", "roomcast-router", "roomcast-dialects", "roomcast-store"],
    ),
    ("xtask", &[]),
    ("tidy", &[]),
];

/// Differences between [`ARROWS`] and the table in `docs/ARCHITECTURE.md`, Code map.
#[must_use]
pub fn undrawn(page: &str) -> Vec<String> {
    let short = |name: &str| match name {
        "roomcast" => "cli".to_owned(),
        name => name.strip_prefix("roomcast-").unwrap_or(name).to_owned(),
    };
    let mut rows: Vec<(String, BTreeSet<String>)> = Vec::new();
    let section = page.split("\n## ").find(|part| part.starts_with("Code map\n"));
    for line in section.unwrap_or_default().lines() {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(name), [_, _, arrows]) = (cells.first(), cells.as_slice()) else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            continue;
        };
        let arrows = match *arrows {
            "nothing of ours" => BTreeSet::new(),
            list => list.split(", ").map(str::to_owned).collect(),
        };
        rows.push((name.to_owned(), arrows));
    }
    let drawn = |(name, arrows): &(&str, &[&str])| {
        let wanted = arrows.iter().map(|name| short(name)).collect();
        rows.iter().any(|(row, drawn)| *row == short(name) && *drawn == wanted)
    };
    let missing = ARROWS.iter().filter(|entry| !drawn(entry));
    missing
        .map(|(name, _)| {
            format!("docs/ARCHITECTURE.md, Code map: no right row for `{}`", short(name))
        })
        .collect()
}

/// Crates that do no IO and read no clock (INV-1), by their folder.
pub const PURE: [&str; 5] =
    ["crates/protocol/", "crates/router/", "crates/dialects/", "crates/store/", "crates/sim/"];

/// What a pure crate's source must not name.
pub const IMPURE_PATHS: [&str; 19] = [
    "tokio",
    "hyper",
    "hyper_util",
    "getrandom",
    "rand",
    "socket2",
    "rustix",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::hash::RandomState",
];

/// What of [`IMPURE_PATHS`] is only data.
pub const PURE_DATA: [&str; 4] =
    ["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::net::SocketAddr"];

/// Crates that a pure crate must not depend on.
const IMPURE_CRATES: [&str; 10] = [
    "tokio",
    "hyper",
    "hyper-util",
    "getrandom",
    "rand",
    "socket2",
    "rustix",
    "mio",
    "uuid",
    "fred",
];

/// A crate of the workspace by its manifest.
#[derive(Debug)]
pub struct Manifest {
    path: String,
    table: Table,
}

impl Manifest {
    /// Reads the text of a `Cargo.toml`.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn read(file: &File) -> Result<Self, String> {
        let table = file.text.parse().map_err(|cause| format!("{}: {cause}", file.path))?;
        Ok(Self { path: file.path.clone(), table })
    }

    /// The folder of the crate, with `/` at its end.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.path.strip_suffix("Cargo.toml").unwrap_or(&self.path)
    }

    fn name(&self) -> &str {
        let package = self.table.get("package").and_then(|package| package.get("name"));
        package.and_then(Value::as_str).unwrap_or_default()
    }

    /// Tables of dependencies whose name is one of `kinds`, for all targets.
    fn dependencies(&self, kinds: &[&str]) -> Vec<(&String, &Value)> {
        let targets = self.table.get("target").and_then(Value::as_table);
        let targets = targets.into_iter().flat_map(|targets| targets.values());
        let places = targets.filter_map(Value::as_table).chain([&self.table]);
        let tables = places.flat_map(|place| kinds.iter().filter_map(|kind| place.get(*kind)));
        tables.filter_map(Value::as_table).flatten().collect()
    }
}

const ALL_KINDS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

/// Arrows between crates that the table does not have, and crates that are not in the table.
#[must_use]
pub fn wrong_arrows(manifest: &Manifest) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == manifest.name()) else {
        return vec![format!(
            "{}: `{}` is not in the table of crates",
            manifest.path,
            manifest.name()
        )];
    };
    let named = manifest.dependencies(&["dependencies", "build-dependencies"]).into_iter();
    let ours = named.filter(|(name, _)| ARROWS.iter().any(|(ours, _)| ours == name));
    ours.filter(|(name, _)| !allowed.contains(&name.as_str()))
        .map(|(name, _)| format!("{}: `{}` must not know `{name}`", manifest.path, manifest.name()))
        .collect()
}

/// Dependencies of a pure crate that do IO or read a clock.
#[must_use]
pub fn impure_dependencies(manifest: &Manifest) -> Vec<String> {
    if !PURE.contains(&manifest.folder()) {
        return Vec::new();
    }
    let named = manifest.dependencies(&["dependencies", "build-dependencies"]).into_iter();
    named
        .filter(|(name, _)| IMPURE_CRATES.contains(&name.as_str()))
        .map(|(name, _)| format!("{}: a pure crate depends on `{name}`", manifest.path))
        .collect()
}

/// Dependencies whose version or path does not come from the workspace's table.
#[must_use]
pub fn own_versions(manifest: &Manifest) -> Vec<String> {
    let is_own = |value: &Value| value.get("workspace").and_then(Value::as_bool) != Some(true);
    let named = manifest.dependencies(&ALL_KINDS).into_iter();
    named
        .filter(|(_, value)| is_own(value))
        .map(|(name, _)| format!("{}: `{name}` is not `workspace = true`", manifest.path))
        .collect()
}

/// Dependencies that no source file of the crate names.
#[must_use]
pub fn unused(manifest: &Manifest, files: &[File]) -> Vec<String> {
    let sources: Vec<_> = files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with(manifest.folder()))
        .collect();
    let named = manifest.dependencies(&ALL_KINDS).into_iter();
    named
        .map(|(name, _)| (name, name.replace('-', "_")))
        .filter(|(_, ident)| !sources.iter().any(|file| has_word(&file.text, ident)))
        .map(|(name, _)| format!("{}: `{name}` is not used", manifest.path))
        .collect()
}

/// Entries of the workspace's table that no crate takes.
#[must_use]
pub fn not_taken(workspace: &Table, manifests: &[Manifest]) -> Vec<String> {
    let taken: BTreeSet<_> = manifests
        .iter()
        .flat_map(|manifest| manifest.dependencies(&ALL_KINDS))
        .map(|(name, _)| name.as_str())
        .collect();
    let entries = outside(workspace).into_iter().filter(|name| !taken.contains(name));
    entries.map(|name| format!("Cargo.toml: no crate takes `{name}`")).collect()
}

/// Differences between the workspace's table and the rows of `docs/DEPENDENCIES.md` under `## Crates`.
#[must_use]
pub fn undocumented(workspace: &Table, page: &str) -> Vec<String> {
    let section = page.split("\n## ").find(|part| part.starts_with("Crates\n")).unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: BTreeSet<_> = cells
        .filter(|(_, reasons)| reasons.split('|').filter(|cell| cell.trim().len() > 4).count() >= 2)
        .map(|(name, _)| name)
        .collect();
    let entries: BTreeSet<_> = outside(workspace).into_iter().collect();
    let lacking = entries.difference(&rows);
    let lacking = lacking.map(|name| format!("docs/DEPENDENCIES.md lacks a full row for `{name}`"));
    let left = rows.difference(&entries);
    let left =
        left.map(|name| format!("docs/DEPENDENCIES.md has a row for `{name}`, which is gone"));
    lacking.chain(left).collect()
}

/// The names in the workspace's table that are not ours.
fn outside(workspace: &Table) -> Vec<&str> {
    let table = workspace.get("workspace").and_then(|it| it.get("dependencies"));
    let entries = table.and_then(Value::as_table).into_iter().flatten();
    entries
        .filter(|(_, value)| value.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Whether `word` is in `text` as a whole identifier.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(folder: &str, name: &str, rest: &str) -> Manifest {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        Manifest::read(&File::of(&format!("crates/{folder}/Cargo.toml"), &text)).unwrap()
    }

    #[test]
    fn an_arrow_against_the_table_is_found_in_each_kind_of_dependency() {
        for kind in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let rest =
                format!("[{kind}]\nroomcast-gateway.workspace = true\nserde.workspace = true\n");
            let found = wrong_arrows(&manifest("router", "roomcast-router", &rest));
            assert_eq!(
                found,
                ["crates/router/Cargo.toml: `roomcast-router` must not know `roomcast-gateway`"]
            );
        }
        let good = "[dependencies]\nroomcast-protocol.workspace = true\n\
                    [dev-dependencies]\nroomcast-gateway.workspace = true\n";
        assert!(wrong_arrows(&manifest("router", "roomcast-router", good)).is_empty());
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        assert_eq!(wrong_arrows(&manifest("extra", "extra", "")).len(), 1);
    }

    #[test]
    fn a_row_of_the_code_map_that_lacks_an_arrow_is_found() {
        let page =
            std::fs::read_to_string(crate::repo::root().join("docs/ARCHITECTURE.md")).unwrap();
        let wrong = page.replace("| gateway, client, protocol |", "| gateway, protocol |");
        let others = undrawn(&page);
        let found = undrawn(&wrong).into_iter().filter(|it| !others.contains(it));
        assert_eq!(
            found.collect::<Vec<_>>(),
            ["docs/ARCHITECTURE.md, Code map: no right row for `cli`"]
        );
        assert_eq!(undrawn("").len(), ARROWS.len());
    }

    #[test]
    fn a_runtime_in_a_pure_crate_is_found_and_in_a_test_of_it_is_not() {
        let rest = "[dependencies]\ntokio.workspace = true\n";
        assert_eq!(impure_dependencies(&manifest("router", "roomcast-router", rest)).len(), 1);
        assert!(impure_dependencies(&manifest("broker", "roomcast-broker", rest)).is_empty());
        let dev = "[dev-dependencies]\ntokio.workspace = true\n";
        assert!(impure_dependencies(&manifest("router", "roomcast-router", dev)).is_empty());
    }

    #[test]
    fn a_version_outside_the_workspace_table_is_found() {
        for own in ["\"1.0\"", "{ version = \"1.0\" }", "{ path = \"../x\" }"] {
            let rest = format!("[dev-dependencies]\nserde = {own}\n");
            assert_eq!(own_versions(&manifest("x", "x", &rest)).len(), 1, "{own}");
        }
        let rest = "[dependencies]\nserde = { workspace = true, features = [\"rc\"] }\n";
        assert!(own_versions(&manifest("x", "x", rest)).is_empty());
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let rest = "[dependencies]\nserde-json.workspace = true\n";
        let of = |path: &str| File::of(path, "use serde_json::Value;");
        assert!(unused(&manifest("x", "x", rest), &[of("crates/x/src/a.rs")]).is_empty());
        assert_eq!(unused(&manifest("x", "x", rest), &[of("crates/y/src/a.rs")]).len(), 1);
        let alike = File::of("crates/x/src/a.rs", "use serde_json_like::Value;");
        assert_eq!(unused(&manifest("x", "x", rest), &[alike]).len(), 1);
    }

    #[test]
    fn an_entry_that_no_crate_takes_is_found() {
        let workspace: Table =
            "[workspace.dependencies]\nslab = \"1\"\nours = { path = \"x\" }\n".parse().unwrap();
        let taker = manifest("x", "x", "[dependencies]\nslab.workspace = true\n");
        assert!(not_taken(&workspace, &[taker]).is_empty());
        assert_eq!(not_taken(&workspace, &[]), ["Cargo.toml: no crate takes `slab`"]);
    }

    #[test]
    fn rows_and_entries_must_match_both_ways_and_give_both_reasons() {
        let workspace: Table = "[workspace.dependencies]\nslab = \"1\"\n".parse().unwrap();
        let page =
            |rows: &str| format!("# Dependencies\n\n## Crates\n| crate | for | why |\n{rows}");
        let full = "| `slab` | ids of connections | the plain choice |\n";
        assert!(undocumented(&workspace, &page(full)).is_empty());
        assert_eq!(undocumented(&workspace, &page("")).len(), 1);
        assert_eq!(undocumented(&workspace, &page("| `slab` | ids of connections | |\n")).len(), 1);
        let old = "| `gone` | something | some reason |\n";
        assert_eq!(undocumented(&workspace, &page(&format!("{full}{old}"))).len(), 1);
    }
}
