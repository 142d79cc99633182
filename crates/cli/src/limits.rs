//! The system's limit on open files: every connection is one.

use roomcast_gateway::system;

use crate::failure::Failure;

/// Raises the limit, and refuses a job that needs more than there may be.
pub(crate) fn check_open_files(needed: u64) -> Result<(), Failure> {
    let limit = system::raise_open_files();
    if limit < needed {
        return Err(Failure::Failed(format!(
            "this job needs {needed} open files and the hard limit is {limit}; raise it \
             (`ulimit -Hn {needed}` as root) or use fewer --members"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_beyond_the_limit_on_open_files_is_refused_with_both_numbers() {
        assert!(check_open_files(1).is_ok());
        let limit = system::raise_open_files();
        if let Some(needed) = limit.checked_add(1) {
            let text = check_open_files(needed).unwrap_err().to_string();
            assert!(text.contains(&limit.to_string()), "{text}");
            assert!(text.contains(&needed.to_string()), "{text}");
        }
    }
}
