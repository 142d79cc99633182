//! Child processes: run to their end within a limit, their output streamed, stopped by their id. Nothing here knows
//! what the programs do.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Prints one line at once, so that a log shows it when it happens.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody reads any longer: there is nobody to tell either.
        std::process::exit(1);
    }
}

/// A command for a program, run in `dir`.
pub(crate) fn command(program: &str, args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command
}

/// Like [`command`], for a program that is ended when this one ends, however that happens.
pub(crate) fn tied_command(program: &Path, args: &[&str], dir: &Path) -> Command {
    // `setpriv` is part of Debian's essential util-linux.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(args);
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs to the end, output passed through.
///
/// Errors: the program is missing, exceeds `limit`, or exits with another status than 0.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<(), String> {
    let name = name_of(command);
    let mut child = command.spawn().map_err(|cause| cannot_start(&name, &cause))?;
    let status = wait(&mut child, &name, Instant::now() + limit)?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

/// Runs to the end, output passed through; each line of stdout is shown to `on_line` as well.
///
/// Errors: the program is missing or exceeds `limit`.
pub(crate) fn stream(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    lines(command, limit, |line| {
        say(line);
        on_line(line);
    })
}

/// Runs to the end; each line of stdout is shown to `on_line` alone.
///
/// Errors: the program is missing or exceeds `limit`.
pub(crate) fn lines(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus, String> {
    let name = name_of(command);
    let deadline = Instant::now() + limit;
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|cause| cannot_start(&name, &cause))?;
    let lines = lines_of(&mut child);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => return wait(&mut child, &name, deadline),
            Err(RecvTimeoutError::Timeout) => {
                stop_tree(&mut child);
                return Err(format!(
                    "{name} took longer than {} s and was stopped",
                    limit.as_secs()
                ));
            }
        }
    }
}

/// What a program prints, without showing it.
///
/// Errors: the program is missing, or exits with another status than 0.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = name_of(command);
    let output = command.output().map_err(|cause| cannot_start(&name, &cause))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} ended with {}: {}", output.status, told.trim()))
}

/// Asks a child to end, waits up to `limit`, then makes it.
pub(crate) fn stop(child: &mut Child, limit: Duration) {
    signal("-TERM", &[child.id()]);
    if wait(child, "it", Instant::now() + limit).is_err() {
        stop_tree(child);
    }
}

fn wait(child: &mut Child, name: &str, deadline: Instant) -> Result<ExitStatus, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                stop_tree(child);
                return Err(format!("{name} took too long and was stopped"));
            }
            Err(cause) => return Err(format!("cannot wait for {name}: {cause}")),
        }
    }
}

/// Ends a child and all that it started, by id.
fn stop_tree(child: &mut Child) {
    let mut ids = vec![child.id()];
    let mut next = 0;
    while let Some(&parent) = ids.get(next) {
        ids.extend(children_of(parent));
        next += 1;
    }
    signal("-KILL", &ids);
    if let Err(cause) = child.wait() {
        say(&format!("cannot wait for process {}: {cause}", child.id()));
    }
}

fn signal(name: &str, ids: &[u32]) {
    let ids = ids.iter().map(u32::to_string);
    let killed = Command::new("kill").arg(name).args(ids).stderr(Stdio::null()).status();
    if let Err(cause) = killed {
        say(&format!("cannot send {name}: {cause}"));
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (send, receive) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if send.send(text).is_err() {
                    return;
                }
            }
        });
    }
    receive
}

fn name_of(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.get_args().next() {
        Some(first) => format!("`{program} {} ..`", first.to_string_lossy()),
        None => format!("`{program}`"),
    }
}

fn cannot_start(name: &str, cause: &std::io::Error) -> String {
    format!("cannot start {name}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        command("sh", &["-c", script], Path::new("/"))
    }

    /// A killed process may stay a zombie until its new parent collects it.
    fn lives(id: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
        state.is_ok_and(|state| !state.contains(") Z "))
    }

    #[test]
    fn a_program_over_its_limit_is_stopped_with_its_children() {
        let started = Instant::now();
        let mut ids = Vec::new();
        let script = "sleep 60 & echo $!; wait";
        let ended = stream(&mut shell(script), Duration::from_millis(300), |line| {
            ids.push(line.to_owned());
        });
        assert!(ended.unwrap_err().contains("took longer"));
        assert!(started.elapsed() < Duration::from_secs(30));
        let deadline = Instant::now() + Duration::from_secs(10);
        while lives(&ids[0]) {
            assert!(Instant::now() < deadline, "the grandchild lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_status() {
        let told = run(&mut shell("exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(told.contains("exit status: 3"), "{told}");
        assert!(run(&mut shell("exit 0"), Duration::from_secs(20)).is_ok());
    }

    #[test]
    fn lines_are_shown_in_order_and_the_status_is_kept() {
        let mut seen = Vec::new();
        let status =
            stream(&mut shell("echo a; echo b; exit 4"), Duration::from_secs(20), |line| {
                seen.push(line.to_owned());
            });
        assert_eq!(status.unwrap().code(), Some(4));
        assert_eq!(seen, ["a", "b"]);
    }
}
