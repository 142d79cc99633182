//! The live fault tests: builds and runs the example `faults` of the binary's crate, which starts what it needs and ends
//! with `N passed, N failed`.

use std::time::Duration;

use crate::{Tally, e2e, paths, process, setup};

/// How long one round of its scenes may take before it counts as hung.
const ROUND_LIMIT: Duration = Duration::from_secs(600);

/// Runs it with these arguments.
///
/// Errors: something is not installed, does not compile, or it took too long.
pub(crate) fn run(args: &[String]) -> Result<Tally, String> {
    setup::packages()?;
    let binary = paths::roomcast()?;
    let program = paths::example("roomcast", "faults")?;
    let mut command = process::tied_command(&program, &[], &paths::root());
    command.args(args).env("ROOMCAST_BIN", binary);
    e2e::sum_of_program(&mut command, ROUND_LIMIT * rounds(args))
}

/// How often its scenes are to be played.
fn rounds(args: &[String]) -> u32 {
    let rounds = args.iter().skip_while(|arg| *arg != "--rounds").nth(1);
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_with_the_rounds() {
        let read =
            |args: &[&str]| rounds(&args.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]), 1);
        assert_eq!(read(&["alone", "--rounds", "30"]), 30);
        assert_eq!(read(&["--rounds"]), 1);
    }
}
