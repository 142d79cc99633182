//! What stands behind the `Makefile`: set-up, starting nodes and tests, summing "N passed, N failed". It knows the
//! product only by its command line. Tests of other crates take [`servers`] and [`balancer`] from here and nothing else.

pub mod balancer;
mod chart;
mod cluster;
mod conformance;
mod demo;
mod e2e;
mod faults;
mod interrupt;
mod load;
mod paths;
mod process;
mod programs;
mod python;
pub mod servers;
mod setup;
mod sim;
mod tally;
mod test;

use std::process::ExitCode;

use process::say;
use tally::Tally;

/// What a task ends with: a sum where it tested, nothing where it did something else.
type Outcome = Result<Option<Tally>, String>;

struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

/// Every target of the `Makefile`.
const TASKS: [Task; 14] = [
    Task { name: "help", about: "this list", run: |_| help() },
    Task {
        name: "demo",
        about: "run a node and an agent, with a page that shows this machine live; Ctrl-C stops both",
        run: |args| demo::run(args).map(|()| None),
    },
    Task {
        name: "cluster",
        about: "run N nodes (N=3), Redis and a balancer, and print what to try; Ctrl-C stops all",
        run: |args| cluster::run(args).map(|()| None),
    },
    Task {
        name: "test",
        about: "install what the tests need and run all of them",
        run: |_| Ok(Some(test::all())),
    },
    Task {
        name: "check",
        about: "formatting, lints, unit tests: before each commit",
        run: |_| Ok(Some(test::check())),
    },
    Task {
        name: "e2e",
        about: "the end-to-end scripts; ARGS=name runs those named so",
        run: |args| e2e::run(args).map(Some),
    },
    Task {
        name: "sim",
        about: "the cluster simulator, SEEDS=20; SEED=7 replays one, PLANTED=1 shows that planted bugs are caught",
        run: |args| sim::run(args).map(Some),
    },
    Task {
        name: "faults",
        about: "nodes, Redis and clients live, and faults one after the other; ARGS='--rounds 20' for an hour",
        run: |args| faults::run(args).map(Some),
    },
    Task {
        name: "conformance",
        about: "Autobahn's cases against this WebSocket transport",
        run: |_| conformance::run().map(Some),
    },
    Task {
        name: "chart",
        about: "the Helm chart and the files in deploy/, checked without a cluster",
        run: |_| chart::run().map(Some),
    },
    Task {
        name: "bench",
        about: "the performance bars, each with the floor of the same run (release build)",
        run: |args| bench(args).map(|()| None),
    },
    Task {
        name: "load",
        about: "k6 against a cluster, CLIENTS=500; ARGS=fanout runs one script, ARGS='-- -e ROOMS=10' sets more",
        run: |args| load::run(args).map(Some),
    },
    Task {
        name: "docs",
        about: "write the generated tables in docs/ anew",
        run: |_| docs().map(|()| None),
    },
    Task {
        name: "setup",
        about: "only install what the tests need",
        run: |_| setup::all().map(|_| None),
    },
];

/// Runs the task that `args` name; its exit code is 0 only if all went well.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    let (name, rest) = args.split_first().map_or(("help", &[][..]), |(name, rest)| (name, rest));
    let outcome = match TASKS.iter().find(|task| task.name == name) {
        Some(task) => (task.run)(rest),
        None => Err(format!("there is no task {name:?}; `make help` lists them")),
    };
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(tally)) => {
            say(&tally.line());
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(cause) => {
            say(&format!("{name}: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn help() -> Outcome {
    for task in &TASKS {
        say(&format!("make {:<12} {}", task.name, task.about));
    }
    Ok(None)
}

fn bench(args: &[String]) -> Result<(), String> {
    let binary = paths::roomcast_release()?;
    let mut all = vec!["bench", "bars"];
    all.extend(args.iter().map(String::as_str));
    let mut command = process::tied_command(&binary, &all, &paths::root());
    process::run(&mut command, test::BUILD_LIMIT)
}

/// Each test that compares a document with what it is made from, which writes it when it is told to.
fn docs() -> Result<(), String> {
    let tidy = ["test", "--quiet", "--package", "tidy", "--test", "generated", "documents"];
    let metrics = ["test", "--quiet", "--package", "roomcast-gateway", "--lib", "metrics"];
    for args in [&tidy[..], &metrics] {
        let mut command = process::command("cargo", args, &paths::root());
        process::run(command.env("ROOMCAST_WRITE_DOCS", "1"), test::BUILD_LIMIT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makefile_has_one_line_for_each_task() {
        let makefile = std::fs::read_to_string(paths::root().join("Makefile")).unwrap();
        for task in &TASKS {
            let line = format!("{}: ; @$(XTASK) {}", task.name, task.name);
            assert!(makefile.lines().any(|it| it.starts_with(&line)), "no line {line:?}");
        }
        let targets = makefile.lines().filter(|line| line.contains(": ; "));
        assert_eq!(targets.count(), TASKS.len(), "a target without a task");
    }
}
