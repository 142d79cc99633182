//! What becomes of a command that Redis did not carry out, and what can be done about it.
//!
//! Decides what may be tried again; the trying is its callers'.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, FunctionInterface};
use roomcast_protocol::codes::Refused;
use tokio::time::timeout;

use super::channels::PARTITIONS;
use super::functions::LIBRARY;
use super::options::Servers;
use super::shared::Shared;

/// What a try came to, if it did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It certainly did not happen, and may soon.
    NotYet,
    /// The library is not there.
    NoFunction,
    /// The server is no master any more.
    NoMaster,
    /// Redis declined it, for a reason that lasts.
    Declined(String),
    /// It may have happened.
    Unknown,
}

impl Fault {
    pub(crate) fn of(error: &Error) -> Self {
        let text = error.details();
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "MOVED" | "ASK" => {
                Self::NotYet
            }
            "READONLY" => Self::NoMaster,
            "ERR" if text.contains("Function not found") => Self::NoFunction,
            // So says an ACL inside a function.
            "ERR" if text.contains("user executing the script can't") => {
                Self::Declined("NOPERM".to_owned())
            }
            "ERR" | "OOM" | "NOREPLICAS" | "NOPERM" | "NOAUTH" | "WRONGTYPE" | "MISCONF"
            | "NOSCRIPT" => Self::Declined(code.to_owned()),
            _ if matches!(error.kind(), ErrorKind::Routing | ErrorKind::Cluster) => Self::NotYet,
            _ => Self::Unknown,
        }
    }
}

/// What can be done about a fault before the next try. Takes no longer than a command.
pub(crate) async fn mend<T>(shared: &Shared<T>, client: &Client, fault: &Fault, error: &Error) {
    let mending = async {
        match fault {
            Fault::NoFunction => load(shared, client).await,
            Fault::NoMaster if shared.may_force() => client.force_reconnection().await,
            Fault::Declined(_) => {
                shared.declined(error);
                Ok(())
            }
            Fault::NoMaster | Fault::NotYet | Fault::Unknown => Ok(()),
        }
    };
    let limit = Duration::from_millis(shared.options.command_timeout_ms);
    match timeout(limit, mending).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, ?fault, "Redis cannot be put right yet"),
        Err(_) => tracing::debug!(?fault, "Redis is being put right"),
    }
}

/// Loads the function library where it is needed.
///
/// # Errors
/// Redis did not take it: too old (before 7.0), or the ACL user may not.
pub(crate) async fn load<T>(shared: &Shared<T>, client: &Client) -> Result<(), Error> {
    match shared.options.servers {
        Servers::Cluster(_) => client.function_load_cluster(true, LIBRARY).await,
        Servers::Standalone(_) | Servers::Sentinel { .. } => {
            client.function_load::<(), _>(true, LIBRARY).await
        }
    }
}

/// A Redis whose memory is full takes no library, but may have it.
pub(crate) fn if_full(error: Error) -> Result<(), Error> {
    if Fault::of(&error) == Fault::Declined("OOM".to_owned()) { Ok(()) } else { Err(error) }
}

fn refused(text: String, unknown: bool) -> Refused {
    Refused { unknown, ..Refused::unavailable(text.into(), 1_000) }
}

pub(crate) fn unknown() -> Refused {
    let text = "The broker did not answer in time, so the outcome is unknown: send it again with the same id";
    refused(text.to_owned(), true)
}

pub(crate) fn away() -> Refused {
    refused("The broker cannot be reached: send it again later".to_owned(), false)
}

/// Why Redis declined, by its error's first word: the rest may name hosts and keys.
pub(crate) fn declined(code: &str) -> Refused {
    let why = match code {
        "OOM" => "its memory is full",
        "NOREPLICAS" => "too few of its replicas are in reach",
        "NOPERM" | "NOAUTH" => "it does not let this node publish",
        "MISCONF" => "it cannot save its data",
        _ => "the node's log says why",
    };
    refused(format!("The broker declines publications: {why}"), false)
}

/// The data there was laid out by nodes that divide rooms otherwise.
pub(crate) fn other_layout(partitions: u64) -> Refused {
    let text = format!(
        "The broker's data is laid out in {partitions} partitions and this node works with {PARTITIONS}: use another \
         Redis, or nodes of the version that laid it out"
    );
    refused(text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ErrorKind, text: &'static str, expected: &Fault) {
        assert_eq!(Fault::of(&Error::new(kind, text)), *expected, "{text}");
    }

    #[test]
    fn what_may_have_happened_is_never_taken_for_refused() {
        check(ErrorKind::Timeout, "Request timed out.", &Fault::Unknown);
        check(ErrorKind::IO, "Connection reset by peer", &Fault::Unknown);
        check(ErrorKind::Canceled, "Connection closed unexpectedly.", &Fault::Unknown);
        check(ErrorKind::Protocol, "no answer of the function", &Fault::Unknown);
    }

    #[test]
    fn what_certainly_did_not_happen_is_tried_again() {
        check(ErrorKind::Unknown, "LOADING Redis is loading", &Fault::NotYet);
        check(ErrorKind::Cluster, "CLUSTERDOWN The cluster is down", &Fault::NotYet);
        check(ErrorKind::Unknown, "READONLY You can't write", &Fault::NoMaster);
        check(ErrorKind::Unknown, "ERR Function not found", &Fault::NoFunction);
    }

    #[test]
    fn what_redis_declines_is_told_without_its_words() {
        check(ErrorKind::Unknown, "OOM command not allowed", &Fault::Declined("OOM".into()));
        check(ErrorKind::Unknown, "NOPERM this user", &Fault::Declined("NOPERM".into()));
        let inside = "ERR The user executing the script can't access at least one of the channels";
        check(ErrorKind::Unknown, inside, &Fault::Declined("NOPERM".into()));
        let refused = declined("OOM");
        assert!(refused.message.contains("memory is full") && !refused.unknown);
    }
}
