//! The repository's files as the checks see them. Independent of commits: what lies in the folder counts, except what
//! `.gitignore` names.

use std::path::{Path, PathBuf};

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// From the repository's root, with `/`.
    pub path: String,
    /// Its text; empty where it is not UTF-8.
    pub text: String,
    /// Its size. Units: bytes.
    pub bytes: u64,
}

impl File {
    /// A file as a check's own test gives it.
    #[must_use]
    pub fn of(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), bytes: text.len() as u64 }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.ends_with(".rs")
    }

    /// Whether its name ends so.
    #[must_use]
    pub fn ends_with(&self, end: &str) -> bool {
        self.path.ends_with(end)
    }

    /// Whether all of it is test code: a `tests` folder, a `tests.rs` beside its module, an end-to-end script.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.split('/').any(|part| part == "tests" || part == "e2e")
    }
}

/// The root of the repository this crate was built in.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// All files under `root`, in the order of their paths.
///
/// # Errors
/// A folder or file cannot be read.
pub fn files(root: &Path) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let relative =
            path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if is_ignored(&relative) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else {
            let content = std::fs::read(&path)?;
            let bytes = content.len() as u64;
            files.push(File {
                path: relative,
                text: String::from_utf8(content).unwrap_or_default(),
                bytes,
            });
        }
    }
    Ok(())
}

/// The same as `.gitignore`, and git's own folder.
fn is_ignored(relative: &str) -> bool {
    let first = relative.split('/').next().unwrap_or_default();
    let last = relative.rsplit('/').next().unwrap_or_default();
    first == ".git"
        || first == "target"
        || first.starts_with("target-")
        || last == "node_modules"
        || Path::new(last).extension().is_some_and(|end| end == "log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_file_is_found_and_build_output_is_not() {
        let files = files(&root()).unwrap();
        assert!(files.iter().any(|file| file.path == "crates/tidy/src/repo.rs"));
        assert!(files.iter().all(|file| !file.path.starts_with("target/")));
        assert!(files.iter().all(|file| !file.path.starts_with(".git/")));
    }

    #[test]
    fn what_is_ignored_is_what_git_ignores() {
        let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap();
        let lines: Vec<_> = ignored.lines().collect();
        assert_eq!(lines, ["/target", "/target-*", "node_modules", "*.log"]);
        for path in ["target", "target-x", "crates/xtask/e2e/node_modules", "a/b.log", ".git"] {
            assert!(is_ignored(path), "{path}");
        }
        for path in ["crates/gateway/src/logs.rs", "docs/target.md", ".gitignore", ".ci"] {
            assert!(!is_ignored(path), "{path}");
        }
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        for path in ["crates/x/tests/a.rs", "crates/x/src/lane/tests.rs", "crates/xtask/e2e/a.mjs"]
        {
            assert!(File::of(path, "").is_test(), "{path}");
        }
        assert!(!File::of("crates/x/src/contests.rs", "").is_test());
    }
}
