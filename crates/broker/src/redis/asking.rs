//! Questions to Redis that may be repeated: until there is an answer, or a deadline is over.

use std::future::Future;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use tokio::time::{Instant, sleep, timeout_at};

use super::faults::{Fault, mend};
use super::shared::Shared;

/// How long to rest between two tries.
const REST: Duration = Duration::from_millis(100);

/// Whether a question may be repeated that may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Done twice it is done once.
    Always,
    /// Only if it certainly was not.
    Undone,
}

/// Asks, and asks again until the deadline; `None`: there was no answer, or it was declined.
pub(crate) async fn ask<T, R, F>(
    shared: &Shared<T>,
    deadline: Instant,
    again: Again,
    question: impl Fn(Client) -> F,
) -> Option<R>
where
    F: Future<Output = Result<R, Error>>,
{
    let asking = async {
        loop {
            if let Some(client) = shared.ready() {
                match question(client.clone()).await {
                    Ok(answer) => return Some(answer),
                    Err(error) => {
                        let fault = Fault::of(&error);
                        tracing::debug!(%error, ?fault, "a question was not answered");
                        mend(shared, &client, &fault, &error).await;
                        match fault {
                            Fault::Declined(_) => return None,
                            Fault::Unknown if again == Again::Undone => return None,
                            Fault::Unknown
                            | Fault::NotYet
                            | Fault::NoFunction
                            | Fault::NoMaster => {}
                        }
                    }
                }
            }
            sleep(REST).await;
        }
    };
    if Instant::now() >= deadline {
        return None; // it has only waited for its turn
    }
    timeout_at(deadline, asking).await.ok().flatten()
}

/// What came is not what the function answers.
pub(crate) fn no_answer() -> Error {
    Error::new(ErrorKind::Protocol, "no answer of the function")
}
