//! What runs for webhooks on the core thread: one task that has events sent, one that has the broker keep dead letters.

use std::sync::Arc;
use std::time::Duration;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::Accepted;
use tokio::sync::oneshot::error::RecvError;

use super::verdict::Verdict;
use super::{Attempt, Webhooks};
use crate::core::CoreHandle;
use crate::upstream::{CallInput, Upstream};

/// How long dead letters wait that the broker did not take; the second while the node stops.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_ENDING: Duration = Duration::from_millis(50);

/// Sends and keeps until it is dropped.
pub(crate) async fn run(webhooks: Webhooks, upstream: Upstream, core: CoreHandle) {
    tokio::join!(send(&webhooks, &upstream), keep(&webhooks, &core));
}

async fn send(webhooks: &Webhooks, upstream: &Upstream) {
    loop {
        let (attempts, wake) = webhooks.turn();
        for attempt in attempts {
            tokio::task::spawn_local(try_once(webhooks.clone(), upstream.clone(), attempt));
        }
        let sleep = async {
            match wake {
                Some(mono_ms) => tokio::time::sleep(webhooks.shared.clock.until(mono_ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = webhooks.shared.due.notified() => {}
            () = sleep => {}
        }
    }
}

async fn try_once(webhooks: Webhooks, upstream: Upstream, attempt: Attempt) {
    let Attempt { hook, serial, told } = attempt;
    let Some(parts) = webhooks.shared.hooks.get(hook) else { return };
    let outcome = upstream.call(parts.call, CallInput { body: told.body, key: None }).await;
    if let Err(error) = &outcome {
        tracing::debug!(webhook = &*parts.name, cause = %error, "an event has no answer");
    }
    webhooks.ended((hook, serial), Verdict::of(&outcome));
}

async fn keep(webhooks: &Webhooks, core: &CoreHandle) {
    loop {
        let batch = webhooks.state().letters.batch();
        if batch.is_empty() {
            webhooks.shared.lettered.notified().await;
            continue;
        }
        let publications = batch.iter().map(|(_, it)| (Arc::clone(it), true)).collect();
        let outcomes = core.publish(publications).await;
        let mut all_ended = true;
        for ((serial, _), outcome) in batch.into_iter().zip(outcomes) {
            match fate(outcome.await) {
                Fate::Kept => {
                    let letter = webhooks.state().letters.kept(serial);
                    letter.iter().for_each(super::Letter::settle);
                }
                Fate::Lost(why) => {
                    let cause = why.refusal.row().name;
                    tracing::error!(cause, "the broker does not take a dead letter: it is lost");
                    webhooks.state().letters.lose(serial);
                }
                Fate::Waits => all_ended = false,
            }
        }
        if !all_ended {
            let ending = webhooks.state().end_ms.is_some();
            tokio::time::sleep(if ending { AGAIN_ENDING } else { AGAIN }).await;
        }
    }
}

/// What becomes of a dead letter.
enum Fate {
    Kept,
    Waits,
    Lost(Refused),
}

/// What the outcome of its publication means.
fn fate(outcome: Result<Result<Accepted, Refused>, RecvError>) -> Fate {
    match outcome {
        Ok(Ok(_)) => Fate::Kept,
        Ok(Err(refused)) if refused.refusal == Refusal::Duplicate => Fate::Kept,
        Ok(Err(refused)) => {
            let mends = refused.refusal.row().retry || refused.refusal == Refusal::StorageFull;
            if mends || refused.unknown { Fate::Waits } else { Fate::Lost(refused) }
        }
        // Nobody knows; its id is remembered.
        Err(_) => Fate::Waits,
    }
}
