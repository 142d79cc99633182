//! The tests of the workspace: built first, then run, some of their programs at once. Most of their time is waiting, for
//! servers and clocks, so that is a good part faster than one after the other.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{self, say};
use crate::{Tally, paths};

/// How long one program of tests may take before it counts as hung.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);

/// Programs that are run at once. Source: two at once on two cores fail no test that passes alone.
const AT_ONCE: usize = 2;

/// One program of tests.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// As people know it: the package and its target.
    name: String,
    path: PathBuf,
    /// Where cargo would run it.
    dir: PathBuf,
}

/// Builds all tests.
///
/// Errors: they cannot be built within `limit`.
pub(crate) fn build(limit: Duration) -> Result<Tally, String> {
    programs(limit).map(|_| Tally::default())
}

/// Runs all tests but those of documentation.
///
/// Errors: they cannot be built within `limit`.
pub(crate) fn run(limit: Duration) -> Result<Tally, String> {
    let waiting = Mutex::new(VecDeque::from(programs(limit)?));
    let sum = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(program) = take(&waiting) {
                    let tally = run_one(&program);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    *sum = sum.plus(tally);
                }
            });
        }
    });
    Ok(sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn take(waiting: &Mutex<VecDeque<Program>>) -> Option<Program> {
    waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
}

/// Runs one, and shows in one piece what it says of tests that did not pass. One that ends badly without a failed test is
/// a failure, and so is one without a result.
fn run_one(program: &Program) -> Tally {
    let started = Instant::now();
    let mut command = process::command(&program.path.to_string_lossy(), &[], &program.dir);
    command.env("CARGO_MANIFEST_DIR", &program.dir);
    let (mut shown, mut result) = (Vec::new(), None);
    let ended = process::lines(&mut command, PROGRAM_LIMIT, |line| {
        result = Tally::from_cargo(line).or(result);
        let passed = line.starts_with("test ") && line.ends_with(" ... ok");
        if !passed && !line.is_empty() {
            shown.push(line.to_owned());
        }
    });
    let ended_well = match ended {
        Ok(status) => status.success(),
        Err(cause) => {
            shown.push(cause);
            false
        }
    };
    shown.insert(0, format!("--- {} ({:.1} s)", program.name, started.elapsed().as_secs_f64()));
    say(&shown.join("\n"));
    judged(result, ended_well)
}

fn judged(result: Option<Tally>, ended_well: bool) -> Tally {
    result.map_or(Tally::ONE_FAILED, |tally| tally.ended(ended_well))
}

/// Builds them, and says where they are: those that took long when they were measured first.
fn programs(limit: Duration) -> Result<Vec<Program>, String> {
    let format = "--message-format=json-render-diagnostics";
    let args = ["test", "--quiet", "--workspace", "--no-run", format];
    let mut command = process::command("cargo", &args, &paths::root());
    let mut found = Vec::new();
    let status = process::lines(&mut command, limit, |line| found.extend(program(line)))?;
    if !status.success() {
        return Err(format!("the tests cannot be built: cargo ended with {status}"));
    }
    found.sort_by_key(|program| std::cmp::Reverse(weight(&program.name)));
    Ok(found)
}

/// The longest come first, so that none of them is left for the end.
fn weight(name: &str) -> usize {
    const LONGEST: [&str; 8] = [
        "roomcast-gateway audience",
        "roomcast-gateway chat",
        "roomcast-gateway cluster",
        "roomcast-gateway sessions",
        "roomcast-broker redis",
        "roomcast-broker differential",
        "roomcast-gateway live",
        "roomcast-broker presence",
    ];
    LONGEST.iter().position(|it| *it == name).map_or(0, |at| LONGEST.len() - at)
}

/// The program of which a line of cargo's tells, if it does.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message.pointer("/profile/test").and_then(Value::as_bool) == Some(true);
    let path = message.get("executable").and_then(Value::as_str).filter(|_| is_test)?;
    let manifest = Path::new(message.get("manifest_path").and_then(Value::as_str)?);
    let target = message.pointer("/target/name").and_then(Value::as_str)?;
    let dir = manifest.parent()?;
    let package = match message.get("package_id").and_then(Value::as_str)?.rsplit_once('#') {
        Some((_, id)) => id.split_once('@').map_or("", |(name, _)| name),
        None => "",
    };
    let package = if package.is_empty() { dir.file_name()?.to_str()? } else { package };
    Some(Program { name: format!("{package} {target}"), path: path.into(), dir: dir.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found_in_what_cargo_says() {
        let line = |test| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///w/crates/broker#roomcast-broker@0.1.0\",\
                 \"manifest_path\":\"/w/crates/broker/Cargo.toml\",\"target\":{{\"kind\":[\"test\"],\"name\":\"redis\"}},\
                 \"profile\":{{\"test\":{test}}},\"executable\":\"/w/target/debug/deps/redis-1\"}}"
            )
        };
        let found = program(&line(true)).unwrap();
        assert_eq!(found.name, "roomcast-broker redis");
        assert_eq!(found.dir, Path::new("/w/crates/broker"));
        assert_eq!(found.path, Path::new("/w/target/debug/deps/redis-1"));
        assert_eq!(program(&line(false)), None);
        assert_eq!(program("{\"reason\":\"build-finished\",\"success\":true}"), None);
        assert_eq!(program("   Compiling roomcast"), None);
    }

    #[test]
    fn the_longest_is_run_first() {
        assert!(weight("roomcast-gateway audience") > weight("roomcast-broker presence"));
        assert!(weight("roomcast-broker presence") > weight("roomcast-dialects native"));
    }

    #[test]
    fn a_program_that_ends_badly_or_says_nothing_has_failed() {
        let good = Tally { passed: 3, failed: 0 };
        let bad = Tally { passed: 3, failed: 2 };
        assert_eq!(judged(Some(good), true), good);
        assert_eq!(judged(Some(good), false), Tally { passed: 3, failed: 1 });
        assert_eq!(judged(Some(bad), false), bad);
        assert_eq!(judged(None, true), Tally::ONE_FAILED);
    }
}
