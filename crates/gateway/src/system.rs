//! What the operating system allows the process: open files, which bound its sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files a node needs beside its clients' sockets: listeners, runtimes, the internal port, logs.
const RESERVED_FILES: u64 = 256;

/// Raises the soft limit of open files to the hard one, and answers with it. Units: files.
#[must_use]
pub fn raise_open_files() -> u64 {
    let held = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: held.maximum, maximum: held.maximum };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        tracing::warn!("the limit of open files could not be raised: ulimit -n tells it");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Sockets a node may hold: what the configuration says, as far as open files allow.
#[must_use]
pub fn sockets_max(configured: usize, open_files: u64) -> usize {
    let allowed = open_files.saturating_sub(RESERVED_FILES).max(1);
    configured.min(usize::try_from(allowed).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_bound_the_sockets() {
        assert_eq!(sockets_max(100_000, 20_000), 19_744);
        assert_eq!(sockets_max(1_000, 20_000), 1_000);
        assert_eq!(sockets_max(1_000, 10), 1);
    }
}
