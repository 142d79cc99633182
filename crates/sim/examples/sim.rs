//! `make sim`: runs seeds on all processors, replays one, or plants bugs and says which seed caught each.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the crate is pure; its driver has threads, a clock and an output"
)]

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomcast_sim::{Outcome, Planted, Stats, run};

/// Seeds of a run without an argument.
const SEEDS: u64 = 20;

/// One of so many seeds is run twice.
const REPLAYED: u64 = 10;

/// Within how many seeds a planted bug must be caught.
const CAUGHT_MAX: u64 = 200;

/// Lines of the trace that are shown of the first violation.
const SHOWN: usize = 60;

/// How often the progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may be gone.
    let _gone = writeln!(out, "{text}").and_then(|()| out.flush()).is_err();
}

/// What the command line asks.
#[derive(Default)]
struct Asked {
    seeds: Option<u64>,
    seed: Option<u64>,
    from: u64,
    planted: Option<String>,
}

fn asked(args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for arg in args {
        let (name, value) = arg.split_once('=').unwrap_or((&arg, ""));
        let number =
            || value.parse().map_err(|_| format!("{name} must be a number, not {value:?}"));
        match name {
            "SEEDS" => asked.seeds = Some(number()?),
            "SEED" => asked.seed = Some(number()?),
            "FROM" => asked.from = number()?,
            "PLANTED" => asked.planted = Some(value.to_owned()).filter(|name| name != "0"),
            _ => {
                return Err(format!(
                    "{arg:?} is none of SEEDS=n, FROM=n, SEED=n, PLANTED=1 or a name"
                ));
            }
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let sums = asked(std::env::args().skip(1)).and_then(|asked| {
        let planted =
            asked.planted.as_deref().filter(|name| *name != "1").map(named).transpose()?;
        Ok(match (asked.seed, asked.planted, planted) {
            (Some(seed), _, planted) => replay(seed, planted),
            (None, None, _) => seeds_hold(asked.from, asked.seeds.unwrap_or(SEEDS)),
            (None, Some(_), Some(planted)) => find(&[planted]),
            (None, Some(_), None) => find(&Planted::ALL),
        })
    });
    match sums {
        Ok((passed, failed)) => {
            say(&format!("{passed} passed, {failed} failed"));
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(cause) => {
            say(&format!("sim: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn named(name: &str) -> Result<Planted, String> {
    let names = || Planted::ALL.map(Planted::name).join(", ");
    let found = Planted::ALL.into_iter().find(|it| it.name() == name);
    found.ok_or_else(|| format!("{name:?} is none of the planted bugs: {}", names()))
}

/// Runs one seed with all its lines.
fn replay(seed: u64, planted: Option<Planted>) -> (u64, u64) {
    let outcome = run(seed, planted, true);
    outcome.lines.iter().for_each(|line| say(line));
    table(&outcome.stats);
    say(&format!("seed {seed}: trace {:016x}", outcome.hash));
    tell(seed, planted, &outcome);
    if outcome.violation.is_none() { (1, 0) } else { (0, 1) }
}

fn table(stats: &Stats) {
    for (name, count) in stats.rows() {
        say(&format!("{name:<30}{count:>12}"));
    }
    for (name, count) in &stats.faults {
        say(&format!("fault: {name:<23}{count:>12}"));
    }
}

/// Tells of a violation, if there is one.
fn tell(seed: u64, planted: Option<Planted>, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    let plant = planted.map_or(String::new(), |it| format!(" PLANTED={}", it.name()));
    say(&format!("seed {seed}: {} {}", violation.property, violation.text));
    say(&format!("replay it: make sim SEED={seed}{plant}"));
}

/// The lines of the trace that concern a violation, the last ones.
fn show(seed: u64) {
    let outcome = run(seed, None, true);
    let Some(violation) = &outcome.violation else { return };
    let concerns = |line: &&String| {
        let words = line.split(|it: char| !it.is_alphanumeric() && it != '-');
        let words: Vec<_> = words.collect();
        line.contains("FAULT") || violation.about.iter().any(|it| words.contains(&it.as_str()))
    };
    let lines: Vec<_> = outcome.lines.iter().filter(concerns).collect();
    let from = lines.len().saturating_sub(SHOWN);
    lines.iter().skip(from).for_each(|line| say(line));
}

/// Runs one seed, perhaps twice; says whether all properties held.
fn holds(seed: u64, sum: &Mutex<(Stats, u64)>, failed: &AtomicU64) {
    let Ok(outcome) = std::panic::catch_unwind(|| run(seed, None, false)) else {
        say(&format!("seed {seed}: the run broke, see above; replay it: make sim SEED={seed}"));
        failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut good = outcome.violation.is_none();
    tell(seed, None, &outcome);
    if seed.is_multiple_of(REPLAYED) && run(seed, None, false).hash != outcome.hash {
        say(&format!("seed {seed}: two runs of it differ"));
        good = false;
    }
    if !good && failed.fetch_add(1, Ordering::Relaxed) == 0 {
        show(seed);
    }
    if let Ok(mut sum) = sum.lock() {
        sum.0.add(&outcome.stats);
        sum.1 += 1;
    }
}

/// Runs seeds on all processors; how many held, and how many did not.
fn seeds_hold(from: u64, seeds: u64) -> (u64, u64) {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let sum = Mutex::new((Stats::default(), 0_u64));
    let done = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return;
                }
                holds(seed, &sum, &failed);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        scope.spawn(|| {
            let mut told = Instant::now();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if told.elapsed() >= PROGRESS
                    && let Ok(sum) = sum.lock()
                {
                    told = Instant::now();
                    say(&format!("{} of {seeds} seeds", sum.1));
                }
            }
        });
        for worker in workers {
            if worker.join().is_err() {
                say("a worker broke: that counts as a failure");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let (stats, ran) = sum.into_inner().unwrap_or_default();
    table(&stats);
    say(&format!("{ran} seeds from {from} in {:.1} s", began.elapsed().as_secs_f64()));
    let failed = failed.into_inner().max(seeds - ran.min(seeds));
    (seeds.saturating_sub(failed), failed)
}

/// Plants bugs; how many were caught, and how many were not.
fn find(bugs: &[Planted]) -> (u64, u64) {
    let mut sums = (0, 0);
    for planted in bugs {
        let name = planted.name();
        let violations = (0..CAUGHT_MAX).map(|seed| (seed, run(seed, Some(*planted), false)));
        let caught = violations.filter_map(|(seed, it)| Some((seed, it.violation?))).next();
        match caught {
            Some((seed, violation)) => {
                let (property, text) = (violation.property, violation.text);
                say(&format!("{name:<20} caught by seed {seed}: {property} {text}"));
                sums.0 += 1;
            }
            None => {
                say(&format!("{name:<20} NOT CAUGHT within {CAUGHT_MAX} seeds"));
                sums.1 += 1;
            }
        }
    }
    sums
}
