//! The scripts in `crates/xtask/e2e`: real processes, real clients, a real browser. Each is a program of its own that
//! starts what it needs and ends with `N passed, N failed`; this module builds, starts and sums.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, say};
use crate::setup::Tools;
use crate::{Tally, paths, setup};

/// How long one script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);

/// Runs all scripts, or those whose name contains one of `wanted`.
///
/// Errors: the set-up fails, the binary does not compile, or no script has such a name.
pub(crate) fn run(wanted: &[String]) -> Result<Tally, String> {
    let tools = setup::all()?;
    let binary = paths::roomcast()?;
    let scripts = chosen(scripts()?, wanted);
    if scripts.is_empty() {
        return Err(format!("no script in crates/xtask/e2e is named like {}", wanted.join(", ")));
    }
    let mut sum = Tally::default();
    for script in scripts {
        sum = sum.plus(one(&script, &binary, &tools));
    }
    Ok(sum)
}

fn scripts() -> Result<Vec<PathBuf>, String> {
    let folder = paths::root().join("crates/xtask/e2e");
    let entries = std::fs::read_dir(&folder)
        .map_err(|cause| format!("cannot read {}: {cause}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut scripts: Vec<_> =
        paths.filter(|path| path.extension() == Some("mjs".as_ref())).collect();
    scripts.sort();
    Ok(scripts)
}

fn chosen(scripts: Vec<PathBuf>, wanted: &[String]) -> Vec<PathBuf> {
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        wanted.is_empty() || wanted.iter().any(|part| name.contains(part))
    };
    scripts.into_iter().filter(is_wanted).collect()
}

/// One script's sum. A script that dies, hangs or tells no sum counts as one failure at least.
fn one(script: &Path, binary: &Path, tools: &Tools) -> Tally {
    let root = paths::root();
    say(&format!("--- {}", script.file_name().unwrap_or_default().to_string_lossy()));
    let mut command = process::tied_command(Path::new("node"), &[], &root);
    command.arg(script);
    command.env("ROOMCAST_BIN", binary).env("ROOMCAST_NODE_MODULES", &tools.modules);
    command.env("ROOMCAST_PYTHON", &tools.python).env("CHROMIUM", setup::CHROMIUM);
    command.env("PROMETHEUS", setup::PROMETHEUS).env("PROMTOOL", setup::PROMTOOL);
    match std::env::current_exe() {
        Ok(xtask) => command.env("ROOMCAST_XTASK", xtask),
        Err(cause) => {
            say(&format!("cannot find this program: {cause}"));
            return Tally::ONE_FAILED;
        }
    };
    sum_of_program(&mut command, SCRIPT_LIMIT).unwrap_or_else(|cause| {
        say(&cause);
        Tally::ONE_FAILED
    })
}

/// Runs a program whose last line is its sum.
///
/// Errors: the program is missing or exceeds `limit`.
pub(crate) fn sum_of_program(command: &mut Command, limit: Duration) -> Result<Tally, String> {
    let mut last = String::new();
    let status = process::stream(command, limit, |line| line.clone_into(&mut last))?;
    Ok(sum_of(&last, status.success()))
}

/// The script's own sum if it is consistent with how the script ended, and a failure otherwise.
fn sum_of(last: &str, ended_well: bool) -> Tally {
    match Tally::from_line(last) {
        Some(tally) if tally == Tally::default() => {
            say("the script checked nothing");
            Tally::ONE_FAILED
        }
        Some(tally) if ended_well || tally.failed > 0 => tally,
        Some(tally) => {
            say("the script ended badly after its sum");
            tally.plus(Tally::ONE_FAILED)
        }
        None => {
            say("the script ended without its sum");
            Tally::ONE_FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_believed_only_when_its_end_agrees_with_its_sum() {
        assert_eq!(sum_of("5 passed, 0 failed", true), Tally { passed: 5, failed: 0 });
        assert_eq!(sum_of("5 passed, 1 failed", false), Tally { passed: 5, failed: 1 });
        assert_eq!(sum_of("5 passed, 0 failed", false), Tally { passed: 5, failed: 1 });
        assert_eq!(sum_of("0 passed, 0 failed", true), Tally::ONE_FAILED);
        assert_eq!(sum_of("TypeError: x is undefined", false), Tally::ONE_FAILED);
    }

    #[test]
    fn scripts_are_chosen_by_a_part_of_their_name() {
        let all = vec![PathBuf::from("e2e/demo.mjs"), PathBuf::from("e2e/seed_clients.mjs")];
        assert_eq!(chosen(all.clone(), &[]), all);
        assert_eq!(chosen(all.clone(), &["seed".to_owned()]), [all[1].clone()]);
        assert!(chosen(all, &["none".to_owned()]).is_empty());
    }
}
