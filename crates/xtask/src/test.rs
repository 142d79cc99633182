//! `make test` and `make check`: the parts in order, with their times, budgets and sums.

use std::time::{Duration, Instant};

use crate::process::{self, say};
use crate::{Tally, chart, conformance, e2e, faults, paths, programs, setup, sim};

/// How long one build or one run of cargo may take before it counts as hung.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(2_700);

/// One part of the whole.
pub(crate) struct Part {
    name: &'static str,
    /// What it may take on two cores when everything is built. Units: seconds. `docs/TESTING.md` has the same table.
    budget_warm_s: u64,
    /// The same from nothing.
    budget_cold_s: u64,
    run: fn() -> Result<Tally, String>,
}

/// What `make test` runs, in this order.
const TEST: [Part; 9] = [
    Part { name: "setup", budget_warm_s: 10, budget_cold_s: 300, run: set_up },
    Part { name: "build", budget_warm_s: 20, budget_cold_s: 850, run: build_tests },
    Part { name: "cargo", budget_warm_s: 420, budget_cold_s: 440, run: cargo_tests },
    Part { name: "sim", budget_warm_s: 90, budget_cold_s: 150, run: sim::whole },
    Part { name: "conformance", budget_warm_s: 150, budget_cold_s: 210, run: conformance::run },
    Part { name: "e2e", budget_warm_s: 220, budget_cold_s: 240, run: all_scripts },
    Part { name: "faults", budget_warm_s: 180, budget_cold_s: 300, run: some_faults },
    Part { name: "chart", budget_warm_s: 30, budget_cold_s: 60, run: chart::run },
    Part { name: "lint", budget_warm_s: 70, budget_cold_s: 150, run: lint },
];

/// What `make check` runs.
const CHECK: [Part; 3] = [
    Part { name: "lint", budget_warm_s: 60, budget_cold_s: 240, run: lint },
    Part { name: "unit", budget_warm_s: 240, budget_cold_s: 900, run: unit_tests },
    Part { name: "sim", budget_warm_s: 30, budget_cold_s: 90, run: sim::short },
];

/// Everything.
///
/// Errors: none of its own; a part that breaks is told and counts as one failure.
pub(crate) fn all() -> Tally {
    run(&TEST)
}

/// What a developer runs before each commit.
pub(crate) fn check() -> Tally {
    run(&CHECK)
}

fn run(parts: &[Part]) -> Tally {
    let mut rows = Vec::new();
    let mut sum = Tally::default();
    for part in parts {
        say(&format!("=== {} (budget {} s warm)", part.name, part.budget_warm_s));
        let started = Instant::now();
        let tally = (part.run)().unwrap_or_else(|cause| {
            say(&format!("{}: {cause}", part.name));
            Tally::ONE_FAILED
        });
        rows.push(row(part, tally, started.elapsed()));
        sum = sum.plus(tally);
    }
    say(&format!("\n{:<14}{:>8}{:>8}{:>9}{:>16}", "part", "passed", "failed", "seconds", "budget"));
    for row in rows {
        say(&row);
    }
    sum
}

fn row(part: &Part, tally: Tally, took: Duration) -> String {
    let seconds = took.as_secs();
    let over = match seconds {
        _ if seconds > part.budget_cold_s => "  OVER BUDGET",
        _ if seconds > part.budget_warm_s => "  over the warm budget",
        _ => "",
    };
    let budget = format!("{} / {}", part.budget_warm_s, part.budget_cold_s);
    format!("{:<14}{:>8}{:>8}{seconds:>9}{budget:>16}{over}", part.name, tally.passed, tally.failed)
}

/// Installing is no check: it counts only when it fails.
fn set_up() -> Result<Tally, String> {
    setup::all().map(|_| Tally::default())
}

fn all_scripts() -> Result<Tally, String> {
    e2e::run(&[])
}

/// The scenes that `make test` plays; `make faults` plays all.
fn some_faults() -> Result<Tally, String> {
    faults::run(&["alone", "sentinels", "cluster", "quiet"].map(str::to_owned))
}

/// Building is no check: it counts only when it fails.
fn build_tests() -> Result<Tally, String> {
    programs::build(BUILD_LIMIT)
}

fn cargo_tests() -> Result<Tally, String> {
    let documents = ["test", "--quiet", "--doc", "--workspace", "--no-fail-fast"];
    Ok(programs::run(BUILD_LIMIT)?.plus(cargo(&documents)?))
}

fn unit_tests() -> Result<Tally, String> {
    setup::packages()?;
    cargo(&["test", "--workspace", "--lib", "--bins", "--no-fail-fast"])
}

/// Formatting and lints: two checks.
fn lint() -> Result<Tally, String> {
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let formatted = succeeds(&["fmt", "--check"]);
    Ok(Tally::one(formatted).plus(Tally::one(succeeds(&clippy))))
}

fn succeeds(args: &[&str]) -> bool {
    let ran = process::run(&mut process::command("cargo", args, &paths::root()), BUILD_LIMIT);
    ran.inspect_err(|cause| say(cause)).is_ok()
}

fn cargo(args: &[&str]) -> Result<Tally, String> {
    let mut sum = Tally::default();
    let mut command = process::command("cargo", args, &paths::root());
    let status = process::stream(&mut command, BUILD_LIMIT, |line| {
        sum = sum.plus(Tally::from_cargo(line).unwrap_or_default());
    })?;
    Ok(honest(sum, status.success()))
}

/// A run of nothing is a failure, too.
fn honest(sum: Tally, ended_well: bool) -> Tally {
    let sum = sum.ended(ended_well);
    if sum == Tally::default() { Tally::ONE_FAILED } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_breaks_and_a_run_of_nothing_are_failures() {
        let good = Tally { passed: 3, failed: 0 };
        assert_eq!(honest(good, true), good);
        assert_eq!(honest(good, false), Tally { passed: 3, failed: 1 });
        assert_eq!(honest(Tally::default(), true), Tally::ONE_FAILED);
        let bad = Tally { passed: 3, failed: 2 };
        assert_eq!(honest(bad, false), bad);
    }

    #[test]
    fn a_part_that_breaks_counts_and_the_others_still_run() {
        let part = |run| Part { name: "x", budget_warm_s: 1, budget_cold_s: 1, run };
        let sum = run(&[part(|| Err("broken".to_owned())), part(|| Ok(Tally::one(true)))]);
        assert_eq!(sum, Tally { passed: 1, failed: 1 });
    }

    #[test]
    fn the_page_on_testing_has_each_part_with_its_budgets() {
        let page = std::fs::read_to_string(paths::root().join("docs/TESTING.md")).unwrap();
        for part in TEST {
            let row =
                format!("| {} | {} s | {} s |", part.name, part.budget_warm_s, part.budget_cold_s);
            assert!(page.contains(&row), "docs/TESTING.md lacks {row:?}");
        }
        let warm: u64 = TEST.iter().map(|part| part.budget_warm_s).sum();
        let cold: u64 = TEST.iter().map(|part| part.budget_cold_s).sum();
        assert!(warm <= 20 * 60 && cold <= 45 * 60, "the whole budget is 20 min warm, 45 cold");
    }

    #[test]
    fn a_part_over_its_budget_says_so() {
        let part = Part { name: "x", budget_warm_s: 1, budget_cold_s: 2, run: lint };
        assert!(!row(&part, Tally::default(), Duration::from_secs(1)).contains("over"));
        assert!(row(&part, Tally::default(), Duration::from_secs(2)).contains("over the warm"));
        assert!(row(&part, Tally::default(), Duration::from_secs(3)).contains("OVER BUDGET"));
    }
}
