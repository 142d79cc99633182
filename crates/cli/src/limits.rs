//! The system's limit on open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// The limit on open files, soft and hard; `None` is no limit.
fn open_files() -> (Option<u64>, Option<u64>) {
    let limit = getrlimit(Resource::Nofile);
    (limit.current, limit.maximum)
}

/// Raises the soft limit on open files to the hard one and returns what holds now.
pub(crate) fn raise_open_files() -> Option<u64> {
    let (soft, hard) = open_files();
    if soft == hard {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Refuses a job that needs more open files than there may be.
pub(crate) fn check_open_files(needed: u64) -> Result<(), Failure> {
    match raise_open_files() {
        Some(limit) if limit < needed => Err(Failure::Failed(format!(
            "this job needs {needed} open files and the hard limit is {limit}; raise it \
             (`ulimit -Hn {needed}` as root) or use fewer --members"
        ))),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_beyond_the_limit_on_open_files_is_refused_with_both_numbers() {
        assert!(check_open_files(1).is_ok());
        if let Some(limit) = open_files().1 {
            let text = check_open_files(limit + 1).unwrap_err().to_string();
            assert!(text.contains(&limit.to_string()), "{text}");
        }
    }
}
