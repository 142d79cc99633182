//! Autobahn's cases for the WebSocket transport, driven by PyPI's `kosoku` against the gateway's example `echo`: the
//! core (1 to 7, 10) and the limits (9). Compression (12, 13) is not offered.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, say};
use crate::{Tally, paths, python};

const KOSOKU: &str = "0.1.0";
const GROUPS: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];

/// Cases in those groups: one that did not run did not pass.
const CASES: u64 = 301;

const RUN_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Runs all cases and counts them.
///
/// Errors: no Python, nothing to install from, or the echo server does not build or start.
pub(crate) fn run() -> Result<Tally, String> {
    let kosoku = kosoku()?;
    let (mut echo, address) = start(&paths::example("roomcast-gateway", "echo")?)?;
    let name = format!("roomcast-conformance-{}", std::process::id());
    let reports = std::env::temp_dir().join(name);
    let ran = drive(&kosoku, &address, &reports);
    process::stop(&mut echo, STOP_LIMIT);
    ran?;
    let index = reports.join("index.json");
    let text = std::fs::read_to_string(&index).map_err(|cause| told(&index, &cause))?;
    let tally = sum(&text)?;
    if tally.failed == 0 {
        std::fs::remove_dir_all(&reports).map_err(|cause| told(&reports, &cause))?;
    } else {
        say(&format!("conformance: reports are in {}", reports.display()));
    }
    Ok(tally)
}

/// The installed `kosoku`, in a Python environment of its own.
fn kosoku() -> Result<PathBuf, String> {
    let package = format!("kosoku=={KOSOKU}");
    Ok(python::environment("kosoku", KOSOKU, &[&package])?.join("bin/kosoku"))
}

/// Starts the echo server; gives its address, the first line it prints.
fn start(program: &Path) -> Result<(Child, String), String> {
    let mut command = process::tied_command(program, &[], &paths::root());
    let mut echo = command.stdout(Stdio::piped()).spawn().map_err(|cause| told(program, &cause))?;
    let mut address = String::new();
    if let Some(stdout) = echo.stdout.take() {
        BufReader::new(stdout).read_line(&mut address).map_err(|cause| told(program, &cause))?;
    }
    if address.trim().is_empty() {
        process::stop(&mut echo, STOP_LIMIT);
        return Err(format!("{} printed no address", program.display()));
    }
    Ok((echo, address.trim().to_owned()))
}

/// Runs the cases; failed ones are in the reports.
fn drive(kosoku: &Path, address: &str, reports: &Path) -> Result<(), String> {
    let url = format!("ws://{address}");
    let reports = reports.to_string_lossy();
    let mut args: Vec<&str> = GROUPS.iter().flat_map(|group| ["--include", *group]).collect();
    args.extend(["--outdir", &reports, &url]);
    let mut command = process::command(&kosoku.to_string_lossy(), &args, Path::new("/"));
    process::stream(&mut command, RUN_LIMIT, |_| {}).map(drop)
}

/// Counts the cases of a report's index, and tells those that failed.
fn sum(index: &str) -> Result<Tally, String> {
    let index: Value =
        serde_json::from_str(index).map_err(|cause| format!("kosoku's index.json: {cause}"))?;
    let mut tally = Tally::default();
    let agents = index.as_object().ok_or("kosoku's index.json is no object")?;
    for (case, result) in agents.values().filter_map(Value::as_object).flatten() {
        let verdict = |key| result.get(key).and_then(Value::as_str).unwrap_or("missing");
        let (behavior, close) = (verdict("behavior"), verdict("behaviorClose"));
        let held = [behavior, close].iter().all(|it| matches!(*it, "OK" | "INFORMATIONAL"));
        if !held {
            say(&format!("conformance: case {case}: {behavior}, at its close {close}"));
        }
        tally = tally.plus(Tally::one(held));
    }
    let missing = CASES.saturating_sub(tally.passed + tally.failed);
    if missing > 0 {
        say(&format!("conformance: {missing} of {CASES} cases did not run"));
    }
    Ok(tally.plus(Tally { passed: 0, failed: missing }))
}

fn told(path: &Path, cause: &std::io::Error) -> String {
    format!("{}: {cause}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_is_wrong_or_missing_counts_as_failed() {
        let index = r#"{"127.0.0.1:1": {
            "1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
            "7.1.6": {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
            "6.4.3": {"behavior": "NON-STRICT", "behaviorClose": "OK"},
            "7.7.1": {"behavior": "OK", "behaviorClose": "WRONG CODE"}
        }}"#;
        assert_eq!(sum(index), Ok(Tally { passed: 2, failed: CASES - 2 }));
        assert!(sum("[]").is_err());
    }
}
