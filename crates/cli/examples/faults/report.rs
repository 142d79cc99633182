//! What is printed: a table with a row for each fault, the sums, and what is wrong.

use std::io::Write as _;

use crate::check::{CURRENT_US, FaultVerdict, SLACK_US, Tally, Verdict};
use crate::quiet::Quiet;
use crate::stage::{MEMORY_KIB_MAX, Outcome};

/// Prints one line at once; once nobody reads any longer the program ends.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The columns of the table.
const HEAD: [&str; 11] = [
    "fault",
    "accepted",
    "delivered",
    "sent again",
    "repeats",
    "gaps",
    "skips",
    "recovered",
    "not",
    "lost, told",
    "slowest",
];

fn row(cells: &[String]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        line.push_str(&if at == 0 { format!("{cell:<32}") } else { format!("{cell:>12}") });
    }
    line
}

fn cells(name: &str, tally: &Tally, slowest: String) -> Vec<String> {
    let counts = [
        tally.accepted,
        tally.delivered,
        tally.repeated_sends,
        tally.raw_repeats,
        tally.gaps,
        tally.skips,
        tally.recovered,
        tally.unrecovered,
        tally.lost_told,
    ];
    let counts = counts.iter().map(u64::to_string);
    [name.to_owned()].into_iter().chain(counts).chain([slowest]).collect()
}

fn slowest(fault: &FaultVerdict) -> String {
    match fault.never {
        0 => format!("{:.1} s", std::time::Duration::from_micros(fault.slowest_us).as_secs_f64()),
        never => format!("never: {never}"),
    }
}

/// Whether all members were current in time after a fault.
fn is_in_time(fault: &FaultVerdict) -> bool {
    fault.never == 0 && fault.slowest_us <= CURRENT_US + SLACK_US
}

/// Prints the table and what is wrong; answers with how many checks held and how many did not.
pub(crate) fn print(
    outcomes: &[Result<Outcome, String>],
    quiet: Option<Result<Quiet, String>>,
) -> (u64, u64) {
    let (mut passed, mut failed) = (0, 0);
    let mut judge = |held: bool, text: &str| {
        if held {
            passed += 1;
        } else {
            failed += 1;
            say(&format!("FAILED: {text}"));
        }
    };
    let total = if outcomes.is_empty() { Tally::default() } else { table(outcomes) };
    for outcome in outcomes {
        match outcome {
            Err(cause) => judge(false, cause),
            Ok(outcome) => judged(outcome, &mut judge),
        }
    }
    match quiet {
        None => {}
        Some(Err(cause)) => judge(false, &format!("quiet: {cause}")),
        Some(Ok(quiet)) => {
            quiet.lines().iter().for_each(|line| say(line));
            judge(quiet.is_in_time(), "a lost last publication is heard in time");
            judge(quiet.is_cheap(), "quiet rooms are cheap");
        }
    }
    judge(total.lost_untold == 0, "accepted and lost without being told");
    judge(total.repeats == 0, "delivered twice after dedup by id");
    judge(total.out_of_order == 0, "out of order");
    judge(total.holes == 0, "holes in silence");
    judge(total.two_payloads == 0, "positions that name two publications");
    judge(total.two_places == 0, "publications that stand twice in one incarnation");
    (passed, failed)
}

/// Prints the rows and the sums; answers with these.
fn table(outcomes: &[Result<Outcome, String>]) -> Tally {
    say("");
    say(&row(&HEAD.map(str::to_owned)));
    let mut total = Tally::default();
    for outcome in outcomes.iter().flatten() {
        for fault in &outcome.verdict.faults {
            say(&row(&cells(&fault.name, &fault.tally, slowest(fault))));
        }
        total = total.plus(outcome.verdict.total);
    }
    say(&row(&cells("all", &total, String::new())));
    say("");
    for (name, count) in sums(&total) {
        say(&format!("{name:<52}{count:>9}"));
    }
    say("");
    total
}

fn judged(outcome: &Outcome, judge: &mut impl FnMut(bool, &str)) {
    let Outcome { name, verdict, memory_kib, troubles, notes } = outcome;
    notes.iter().for_each(|note| say(&format!("{name}: {note}")));
    say(&format!(
        "{name}: at most {} MiB in a node (line: {})",
        memory_kib >> 10,
        MEMORY_KIB_MAX >> 10
    ));
    for fault in &verdict.faults {
        let who = fault.who.map(|(member, room)| format!(", member {member} of room {room}"));
        let text = format!("{name}: {}: {}{}", fault.name, slowest(fault), who.unwrap_or_default());
        judge(is_in_time(fault), &text);
    }
    judge(troubles.is_empty(), &format!("{name}: {}", troubles.join("; ")));
    let Verdict { total, texts, .. } = verdict;
    let text =
        format!("{name}: {} violations, such as\n  {}", total.violations, texts.join("\n  "));
    judge(total.violations == 0, &text);
}

fn sums(total: &Tally) -> Vec<(&'static str, u64)> {
    vec![
        ("publications accepted", total.accepted),
        ("accepted for a node's own members (isolated)", total.isolated),
        ("refused for good", total.refused),
        ("outcome never known", total.unknown),
        ("delivered", total.delivered),
        ("delivered again, dropped by id", total.raw_repeats),
        ("delivered twice after dedup by id", total.repeats),
        ("out of order", total.out_of_order),
        ("holes in silence", total.holes),
        ("accepted, lost, told", total.lost_told),
        ("accepted, lost, not told", total.lost_untold),
        ("gaps told", total.gaps),
        ("skips told (offsets in them)", total.skips),
        ("  offsets in them", total.skipped),
        ("rejoined and recovered", total.recovered),
        ("rejoined and not recovered, told so", total.unrecovered),
        ("positions that name two publications", total.two_payloads),
        ("publications that stand twice in one incarnation", total.two_places),
    ]
}
