//! What a person sees while a job runs: a bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Most redraws a second: drawing must not disturb what is measured.
const REDRAWS_PER_S: u8 = 4;

/// One step of a job.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A step of `steps` parts.
    pub(crate) fn new(what: &str, steps: usize) -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(
            Some(steps as u64),
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S),
        );
        let style = ProgressStyle::with_template("{msg:24} {bar:32} {pos}/{len} {elapsed}");
        // The template is constant; where it did not fit, the default bar would do as well.
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// A step that takes `duration`, counted in tenths of a second.
    pub(crate) fn timed(what: &str, duration: Duration) -> Self {
        Self::new(what, usize::try_from(duration.as_millis() / 100).unwrap_or(0))
    }

    /// How far it is.
    pub(crate) fn at(&self, position: usize) {
        if self.bar.position() != position as u64 {
            self.bar.set_position(position as u64);
        }
    }

    /// How much of a timed step is over.
    pub(crate) fn elapsed(&self, elapsed: Duration) {
        self.at(usize::try_from(elapsed.as_millis() / 100).unwrap_or(0));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
