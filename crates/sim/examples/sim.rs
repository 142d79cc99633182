//! `make sim`: runs seeds on all processors, replays one, or plants bugs and says which seed caught each.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roomcast_sim::{Outcome, Planted, Stats, run};

/// Seeds of a run without an argument.
const SEEDS: u64 = 20;

/// Each so many seeds one is run twice.
const REPLAYED: u64 = 10;

/// Within how many seeds a planted bug must be caught.
const CAUGHT_MAX: u64 = 200;

/// Lines of the trace that are shown of a violation.
const SHOWN: usize = 60;

/// How often the progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may be gone.
    let _gone = writeln!(out, "{text}").and_then(|()| out.flush()).is_err();
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let value = args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.parse::<u64>().map_err(|_| format!("{name} must be a number, not {value:?}")))
    };
    let known = ["SEEDS", "SEED", "FROM", "PLANTED"];
    let stranger =
        args.iter().find(|arg| !known.iter().any(|name| arg.starts_with(&format!("{name}="))));
    if let Some(stranger) = stranger {
        say(&format!("{stranger:?} is none of SEEDS=n, FROM=n, SEED=s, PLANTED=1"));
        return ExitCode::FAILURE;
    }
    let all = [number("SEEDS"), number("SEED"), number("FROM")];
    let [seeds, seed, from] = all.map(Option::transpose);
    let (seeds, seed, from) = match (seeds, seed, from) {
        (Ok(seeds), Ok(seed), Ok(from)) => (seeds, seed, from.unwrap_or(0)),
        (Err(cause), ..) | (_, Err(cause), _) | (.., Err(cause)) => {
            say(&cause);
            return ExitCode::FAILURE;
        }
    };
    let planted = args.iter().find_map(|arg| arg.strip_prefix("PLANTED="));
    let good = match (planted, seed) {
        (planted, Some(seed)) => replay(seed, planted.and_then(named)),
        (None | Some("0"), None) => seeds_hold(from, seeds.unwrap_or(SEEDS)),
        (Some("1"), None) => Planted::ALL.into_iter().filter(|it| !is_caught(*it)).count() == 0,
        (Some(name), None) => match named(name) {
            Some(planted) => is_caught(planted),
            None => {
                let names: Vec<_> = Planted::ALL.iter().map(|it| it.name()).collect();
                say(&format!("{name:?} is none of the planted bugs {}", names.join(", ")));
                false
            }
        },
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(name: &str) -> Option<Planted> {
    Planted::ALL.into_iter().find(|it| it.name() == name)
}

/// Runs one seed with all its lines.
fn replay(seed: u64, planted: Option<Planted>) -> bool {
    let outcome = run(seed, planted, true);
    outcome.lines.iter().for_each(|line| say(line));
    for (name, count) in outcome.stats.rows() {
        say(&format!("{name:<22}{count:>10}"));
    }
    say(&format!("seed {seed}: trace {:016x}", outcome.hash));
    tell(seed, planted, &outcome)
}

/// Tells of a violation; says whether there was none.
fn tell(seed: u64, planted: Option<Planted>, outcome: &Outcome) -> bool {
    let Some(violation) = &outcome.violation else { return true };
    let plant = planted.map_or(String::new(), |it| format!(" PLANTED={}", it.name()));
    say(&format!("seed {seed}: {} {}", violation.property, violation.text));
    say(&format!("replay it: make sim SEED={seed}{plant}"));
    false
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

/// Runs seeds on all processors; says whether all properties held.
fn seeds_hold(from: u64, seeds: u64) -> bool {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let sum = Mutex::new((Stats::default(), 0_u64));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + seeds {
                            return;
                        }
                        let outcome = run(seed, None, false);
                        let mut good = tell(seed, None, &outcome);
                        if seed % REPLAYED == 0 && run(seed, None, false).hash != outcome.hash {
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
                })
            })
            .collect();
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
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let (stats, ran) = sum.into_inner().unwrap_or_default();
    for (name, count) in stats.rows() {
        say(&format!("{name:<22}{count:>12}"));
    }
    for (name, count) in &stats.faults {
        say(&format!("fault: {name:<24}{count:>8}"));
    }
    let failed = failed.into_inner();
    say(&format!("{ran} seeds from {from} in {:.1} s", began.elapsed().as_secs_f64()));
    say(&format!("{} passed, {failed} failed", seeds.saturating_sub(failed)));
    failed == 0 && ran == seeds
}

/// Whether a planted bug is caught.
fn is_caught(planted: Planted) -> bool {
    let caught = (0..CAUGHT_MAX).find_map(|seed| {
        let violation = run(seed, Some(planted), false).violation?;
        Some((seed, violation))
    });
    match caught {
        Some((seed, violation)) => {
            let (name, property, text) = (planted.name(), violation.property, violation.text);
            say(&format!("{name:<20} caught by seed {seed}: {property} {text}"));
            true
        }
        None => {
            say(&format!("{:<20} NOT CAUGHT within {CAUGHT_MAX} seeds", planted.name()));
            false
        }
    }
}
