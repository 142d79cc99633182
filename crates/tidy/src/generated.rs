//! Documents that are made from code: compared in tests, written anew by `make docs`.

use std::path::Path;

/// The variable that turns comparing into writing.
pub const WRITE: &str = "ROOMCAST_WRITE_DOCS";

/// Compares `made` with the file at `path` under `root`, or writes it where [`WRITE`] is set.
///
/// # Errors
/// The file is missing, differs, or cannot be written; the text says the mend.
pub fn current(root: &Path, path: &str, made: &str, write: bool) -> Result<(), String> {
    let place = root.join(path);
    if write {
        return std::fs::write(&place, made).map_err(|cause| format!("{path}: {cause}"));
    }
    let kept = std::fs::read_to_string(&place)
        .map_err(|cause| format!("{path}: {cause}; run `make docs`"))?;
    if kept == made {
        return Ok(());
    }
    let line = kept.lines().zip(made.lines()).take_while(|(one, other)| one == other).count() + 1;
    Err(format!("{path}:{line} is out of date; run `make docs`"))
}

/// A Markdown table.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<_> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows = rows.iter().map(|row| line(row));
    [line(&head), line(&rule)].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_document_is_found_with_its_line_and_a_written_one_is_current() {
        let root = std::env::temp_dir().join(format!("roomcast-tidy-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let told = |made: &str| current(&root, "A.md", made, false);
        assert!(told("one\n").unwrap_err().contains("run `make docs`"));
        current(&root, "A.md", "one\ntwo\n", true).unwrap();
        assert_eq!(told("one\ntwo\n"), Ok(()));
        assert!(told("one\nthree\n").unwrap_err().starts_with("A.md:2 is out of date"));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_table_has_a_head_a_rule_and_its_rows() {
        let made = table(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(made, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
