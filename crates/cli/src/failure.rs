//! How a command ends: the documented exit codes, and the sentence that says why.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and failed. Exit code 1.
    Failed(String),
    /// It cannot be asked like that. Exit code 2, as for clap's own errors.
    Usage(String),
    /// The node would not: no token, a bad one, or no right. Exit code 3.
    Refused(String),
    /// It took too long. Exit code 4.
    Timeout(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Timeout(_) => 4,
        })
    }

    /// An error with its chain of causes.
    pub(crate) fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::Failed(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Refused(text) | Self::Timeout(text) => {
                f.write_str(text)
            }
        }
    }
}

impl From<roomcast_client::Error> for Failure {
    fn from(error: roomcast_client::Error) -> Self {
        let text = error.to_string();
        if error.is_denied() {
            Self::Refused(text)
        } else if matches!(error, roomcast_client::Error::Timeout { .. }) {
            Self::Timeout(text)
        } else {
            Self::Failed(text)
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use roomcast_client::{Closed, Error};

    use super::*;

    #[test]
    fn a_bad_token_and_a_timeout_have_exit_codes_of_their_own() {
        let closed = |code| Failure::from(Error::Closed(Closed { code, reason: String::new() }));
        assert!(matches!(closed(4001), Failure::Refused(_)));
        assert!(matches!(closed(1001), Failure::Failed(_)));
        let timeout = Error::Timeout { what: "connect", after: std::time::Duration::ZERO };
        assert!(matches!(Failure::from(timeout), Failure::Timeout(_)));
    }
}
