//! `make sim`: the cluster simulator, as a program that ends with its sums.

use std::time::Duration;

use crate::process;
use crate::{Tally, paths, test};

/// Seeds of `make test`.
const SEEDS: u64 = 200;

/// Seeds of `make check`.
const SEEDS_SHORT: u64 = 20;

/// How long any number of seeds may take.
const LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// Runs it with these arguments: `SEEDS=n`, `FROM=n`, `SEED=n`, `PLANTED=1`; those without a value are left out.
///
/// Errors: it does not build, or ends without its sums.
pub(crate) fn run(args: &[String]) -> Result<Tally, String> {
    // In a step of its own, so that a build counts as what it is.
    let example = ["--quiet", "--package", "roomcast-sim", "--example", "sim"];
    let build = [&["build"], &example[..]].concat();
    process::run(&mut process::command("cargo", &build, &paths::root()), test::BUILD_LIMIT)?;
    let given = args.iter().map(String::as_str).filter(|arg| !arg.ends_with('='));
    let all: Vec<_> = ["run"].into_iter().chain(example).chain(["--"]).chain(given).collect();
    let mut sums = None;
    let mut command = process::command("cargo", &all, &paths::root());
    let status = process::stream(&mut command, LIMIT, |line| {
        sums = Tally::from_line(line).or(sums);
    })?;
    match sums {
        Some(sums) if status.success() || sums.failed > 0 => Ok(sums),
        Some(_) | None => Err("the simulator ended without its sums".to_owned()),
    }
}

/// What `make test` runs.
pub(crate) fn whole() -> Result<Tally, String> {
    run(&[format!("SEEDS={SEEDS}")])
}

/// What `make check` runs.
pub(crate) fn short() -> Result<Tally, String> {
    run(&[format!("SEEDS={SEEDS_SHORT}")])
}
