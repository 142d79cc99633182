//! Logs on stderr: pretty on a terminal, JSON otherwise. Never holds a token or a payload (INV-13).

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::failure::Failure;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// Starts logging at `filter` (a level, or targets with levels).
pub(crate) fn start(filter: &str, form: Form) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|cause| Failure::Usage(format!("--log {filter:?} cannot be read: {cause}")))?;
    let terminal = io::stderr().is_terminal();
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let pretty = match form {
        Form::Auto => terminal,
        Form::Pretty => true,
        Form::Json => false,
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(color)
        .with_timer(SystemTime);
    let started = if pretty { logs.try_init() } else { logs.json().try_init() };
    started.map_err(|cause| Failure::Failed(format!("logging cannot start: {cause}")))
}
