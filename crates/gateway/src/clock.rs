//! The node's clock: the only place where the node asks what time it is.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use roomcast_protocol::time::Now;

/// When the process first asked.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads both clocks. All of a process agree with each other, because its nodes may share a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins a minute ago, so that nothing is ever before its beginning.
    pub(crate) fn new() -> Self {
        Self { start: *BEGAN }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: 60_000 + millis(self.start.elapsed()), unix_ms: unix_ms() }
    }

    /// How long until a monotonic time.
    pub(crate) fn until(&self, mono_ms: u64) -> std::time::Duration {
        std::time::Duration::from_millis(mono_ms.saturating_sub(self.now().mono_ms))
    }
}

/// Wall-clock time. Units: milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(millis).unwrap_or_default()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
