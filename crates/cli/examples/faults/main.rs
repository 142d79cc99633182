//! Nodes, Redis and clients as real processes and connections, and faults one after the other: `make faults`.
//!
//! Owns the scenes, what clients write down, and the checker that judges it. Ends with a table and `N passed,
//! N failed`; its exit code is 0 only if nothing failed. Needs the binary's path in `ROOMCAST_BIN`.

mod app;
mod application;
mod backend;
mod chatter;
mod check;
mod crowd;
mod devices;
mod dialogs;
mod ghosts;
mod groups;
mod member;
mod node;
mod orders;
mod packed;
mod publisher;
mod quiet;
mod record;
mod report;
mod rolling;
mod scenes;
mod stage;
mod traveller;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::say;
use stage::{NODES, Outcome};

type Scene = fn(&Path, Option<usize>) -> Result<Outcome, String>;

const SCENES: [(&str, Scene); 8] = [
    ("alone", |binary, _| scenes::alone(binary)),
    ("sentinels", |binary, _| scenes::sentinels(binary)),
    ("cluster", |binary, _| scenes::cluster(binary)),
    ("rolling", rolling::play),
    ("ghosts", ghosts::play),
    ("devices", |binary, _| devices::play(binary)),
    ("revoke", orders::revoke),
    ("stopped", |binary, _| orders::stopped(binary)),
];

/// Too big, or too long, to be played unless they are named.
const BY_NAME: [(&str, Scene); 4] = [
    ("crowd", packed::play),
    ("application", |binary, _| application::play(binary)),
    ("dialogs", dialogs::play),
    ("groups", groups::play),
];

/// The most rounds of the scenes: about a day.
const ROUNDS_MAX: u32 = 600;

/// The scene that is measured instead of judged.
const QUIET: &str = "quiet";

const USAGE: &str = "usage: make faults [ARGS='[alone] [sentinels] [cluster] [rolling] [ghosts] [devices] [revoke] [stopped] [crowd] [application] [dialogs] [groups] [quiet] [--clients N] [--rounds N]']";

/// Which scenes, and how often.
struct Options {
    scenes: Vec<(&'static str, Scene)>,
    quiet: bool,
    rounds: u32,
    /// Of the scenes that may have more or less.
    clients: Option<usize>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ran = options(&args).and_then(|options| run(&options));
    match ran {
        Ok((passed, failed)) => {
            say(&format!("{passed} passed, {failed} failed"));
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(cause) => {
            say(&cause);
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options { scenes: Vec::new(), quiet: false, rounds: 1, clients: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            let rounds = args.next().and_then(|it| it.parse().ok());
            options.rounds = rounds.filter(|it| (1..=ROUNDS_MAX).contains(it)).ok_or(USAGE)?;
        } else if arg == "--clients" {
            let clients = args.next().and_then(|it| it.parse().ok());
            let range = NODES..=packed::MEMBERS;
            options.clients = Some(clients.filter(|it| range.contains(it)).ok_or(USAGE)?);
        } else if arg == QUIET {
            options.quiet = true;
        } else {
            let scene = SCENES.iter().chain(&BY_NAME).find(|(name, _)| name == arg);
            options.scenes.push(*scene.ok_or(USAGE)?);
        }
    }
    if options.scenes.is_empty() && !options.quiet {
        options.scenes = SCENES.to_vec();
        options.quiet = true;
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(u64, u64), String> {
    let binary = std::env::var_os("ROOMCAST_BIN").map(PathBuf::from);
    let binary = binary.ok_or("ROOMCAST_BIN names no binary; `make faults` sets it")?;
    let (mut passed, mut failed) = (0, 0);
    for round in 1..=options.rounds {
        if options.rounds > 1 {
            say(&format!("round {round} of {}", options.rounds));
        }
        let play = |(name, scene): &(&str, Scene)| {
            scene(&binary, options.clients).map_err(|cause| format!("{name}: {cause}"))
        };
        let outcomes: Vec<_> = options.scenes.iter().map(play).collect();
        let quiet = options.quiet.then(|| quiet::measure(&binary));
        let (held, broken) = report::print(&outcomes, quiet);
        passed += held;
        failed += broken;
    }
    Ok((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_scenes_and_rounds() {
        let read =
            |args: &[&str]| options(&args.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let all = read(&[]).unwrap();
        assert_eq!((all.scenes.len(), all.quiet, all.clients), (8, true, None));
        let quiet = read(&["quiet"]).unwrap();
        assert_eq!((quiet.scenes.len(), quiet.quiet), (0, true));
        let one = read(&["cluster", "--rounds", "600"]).unwrap();
        assert_eq!((one.scenes.len(), one.quiet, one.rounds), (1, false, 600));
        let many = read(&["rolling", "--clients", "1000"]).unwrap();
        assert_eq!((many.scenes.len(), many.clients), (1, Some(1_000)));
        assert_eq!(read(&["crowd"]).unwrap().scenes.len(), 1, "by its name alone");
        assert!(read(&["--clients", "10000"]).is_ok() && read(&["--clients", "10001"]).is_err());
        for wrong in [&["x"][..], &["--rounds"], &["--rounds", "0"], &["--rounds", "601"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
