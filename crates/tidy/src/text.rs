//! What no file may hold, whatever its language: unfinished work, this machine's paths, registry hosts, too many
//! bytes; and what each Rust module must begin with.

use crate::repo::File;

/// The largest file. Units: bytes.
pub const BYTES_MAX: u64 = 1 << 20;

/// Marks of unfinished work, put together here so that this file does not hold them itself.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[", "ignore"),
    concat!("FIX", "ME"),
    concat!("should", "_panic"),
];

/// Paths that exist on one machine only.
const MACHINE: [&str; 4] = [
    concat!("/work", "/main"),
    concat!("/work", "/shared"),
    concat!("/work", "/."),
    concat!("/ro", "ot/"),
];

/// Hosts that the ordinary clients know by themselves.
const REGISTRIES: [&str; 4] = [
    concat!("registry.npm", "js.org"),
    concat!("static.crates", ".io"),
    concat!("files.python", "hosted.org"),
    concat!("deb.deb", "ian.org"),
];

/// Whether a file is somebody else's text, kept as it is.
fn is_verbatim(file: &File) -> bool {
    file.path.contains("/seeds/") || file.path.contains("/vectors/") || file.path == "LICENSE"
}

/// Unfinished work: placeholders, tests that do not run, tests that pass by any panic.
#[must_use]
pub fn unfinished(file: &File) -> Vec<String> {
    let code = ["rs", "mjs", "ts", "js", "html", "sh", "md"];
    let is_code = code.iter().any(|end| file.path.rsplit('.').next() == Some(end));
    if is_verbatim(file) || !is_code { Vec::new() } else { holds(file, &UNFINISHED) }
}

/// Paths of one machine, and hosts of registries.
#[must_use]
pub fn foreign(file: &File) -> Vec<String> {
    if is_verbatim(file) {
        return Vec::new();
    }
    let mut found = holds(file, &MACHINE);
    found.extend(holds(file, &REGISTRIES));
    found
}

fn holds(file: &File, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in words.iter().filter(|word| stands_alone(line, word)) {
            found.push(format!("{}:{}: holds `{word}`", file.path, index + 1));
        }
    }
    found
}

/// Whether `word` is in `line` and does not merely continue a longer word or path.
fn stands_alone(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|it| it.is_alphanumeric() || matches!(it, '_' | '.' | '-' | '}'))
    })
}

/// A Rust file without a first line that says what the module is for.
#[must_use]
pub fn no_module_doc(file: &File) -> Vec<String> {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|text| text.trim().len() > 10);
    // `tests.rs` is the end of the module beside it, which has said what it is for.
    let is_end = file.path.rsplit('/').next().is_some_and(|name| name.ends_with("tests.rs"));
    if !file.is_rust() || is_end || says {
        return Vec::new();
    }
    vec![format!("{}:1: does not begin with `//!` and what the module is for", file.path)]
}

/// A file over the limit.
#[must_use]
pub fn too_big(file: &File) -> Vec<String> {
    if file.bytes <= BYTES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {} bytes, at most {BYTES_MAX}", file.path, file.bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_of_unfinished_work_is_found() {
        for mark in UNFINISHED {
            let file = File::of("crates/x/src/a.rs", &format!("fn a() {{\n    {mark}) }}\n"));
            assert_eq!(unfinished(&file).len(), 1, "{mark}");
        }
        assert!(unfinished(&File::of("crates/x/src/a.rs", "// ignored rows stay")).is_empty());
        assert!(unfinished(&File::of("crates/x/seeds/a.md", UNFINISHED[3])).is_empty());
    }

    #[test]
    fn machine_paths_and_registry_hosts_are_found_where_they_stand_alone() {
        for word in MACHINE.iter().chain(&REGISTRIES) {
            let file = File::of("docs/a.md", &format!("see {word}x\n"));
            assert_eq!(foreign(&file).len(), 1, "{word}");
        }
        let longer = format!("see ./some{}x, $HOME{}x\n", MACHINE[3], "/other");
        assert!(foreign(&File::of("docs/a.md", &longer)).is_empty());
    }

    #[test]
    fn a_module_without_a_word_about_itself_is_found() {
        assert_eq!(no_module_doc(&File::of("a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(no_module_doc(&File::of("a.rs", "//! X.\n")).len(), 1);
        assert_eq!(no_module_doc(&File::of("a.rs", "// A plain comment, long enough\n")).len(), 1);
        assert!(no_module_doc(&File::of("a.rs", "\n//! What this is for.\n")).is_empty());
        assert!(no_module_doc(&File::of("a/tests.rs", "use super::*;\n")).is_empty());
        assert!(no_module_doc(&File::of("a.md", "text")).is_empty());
    }

    #[test]
    fn a_file_one_byte_over_the_limit_is_found() {
        let mut file = File::of("a.bin", "");
        file.bytes = BYTES_MAX;
        assert!(too_big(&file).is_empty());
        file.bytes += 1;
        assert_eq!(too_big(&file).len(), 1);
    }
}
