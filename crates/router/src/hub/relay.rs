//! What the state of the relay means for publications and lanes (G10): whole, they go to the broker at once; cut, they
//! wait; isolated, this node's own members get them; on return they wait for the other nodes, then go out in order.

use std::collections::VecDeque;
use std::sync::Arc;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::envelope::{Accepted, BrokerCommand, Level};
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::people::Newest;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::time::Now;

use super::watch::RelayState;
use super::{CONTROL, DEAD, Hub, REVOKED, dead, each_lane, revoked, talks};
use crate::messages::{HubEffect, LaneMessage, Ticket};
use crate::talks::Heard;

/// Bytes of publications that may wait while the feed is down, or for other nodes; beyond it they are refused.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// When a publication that found no place may be sent again: by then those that wait have gone out. Units:
/// milliseconds.
pub const RETRY_MS: u64 = 2_000;

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    publication: Arc<Publication>,
    dedup: bool,
}

/// Publications that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Waiter>,
    /// The sum of their weights.
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sum of what its publications weigh.
    #[cfg(test)]
    pub(super) fn walk(&self) {
        let sum: usize = self.queue.iter().map(|it| it.publication.weight()).sum();
        assert_eq!(self.bytes, sum);
    }
}

impl Hub {
    /// How the relay is; one that cannot fail is whole.
    pub(super) fn state(&self) -> RelayState {
        self.watch.as_ref().map_or(RelayState::Whole, |watch| watch.state())
    }

    /// Hands a publication over, or keeps it until that makes sense.
    pub(super) fn publish(
        &mut self,
        now: Now,
        ticket: Ticket,
        publication: Arc<Publication>,
        dedup: bool,
        out: &mut Vec<HubEffect>,
    ) {
        let waits = match self.state() {
            RelayState::Whole => false,
            RelayState::Isolated => {
                return self.deliver_here(now, Waiter { ticket, publication, dedup }, out);
            }
            // While only commands are unanswered, the broker says itself what became of a publication.
            RelayState::Cut => {
                !self.watch.as_ref().is_some_and(|watch| watch.feed_is_whole())
                    || self.waiting.len() > 0
            }
            RelayState::Returning => true,
        };
        if !waits {
            self.counters.published += 1;
            let keep = self.keep_of(&publication.room);
            let collapse = self.collapse_key(now, &publication);
            let command = BrokerCommand::Publish { ticket, publication, dedup, keep, collapse };
            return out.push(HubEffect::Broker(command));
        }
        let bytes = self.waiting.bytes + publication.weight();
        if bytes > WAITING_BYTES_MAX {
            self.counters.refused_waiting += 1;
            let text = "The broker is away, and enough waits for it: send it again";
            let refused = Refused::unavailable(text.into(), RETRY_MS);
            return self.complete(now, ticket, Err(refused), out);
        }
        self.waiting.bytes = bytes;
        self.waiting.queue.push_back(Waiter { ticket, publication, dedup });
    }

    /// Under which key the publication's room keeps only the newest one.
    fn collapse_key(&self, now: Now, publication: &Publication) -> Option<Box<str>> {
        match publication.room.as_str() {
            REVOKED => return revoked::collapse_key(now, publication),
            DEAD => return dead::collapse_key(publication),
            name if talks::index_keep(name).is_some() => return talks::index_key(publication),
            _ => {}
        }
        if let Some(newest) = Newest::of(publication) {
            return Some(newest.key());
        }
        let rule = self.guard.rule(&publication.room)?;
        let collapses = self.guard.policy(rule).collapses;
        collapses.then(|| self.guard.collapse_key(rule, publication)).flatten()
    }

    /// A publication of this node ended.
    pub(super) fn published(
        &mut self,
        now: Now,
        ticket: Ticket,
        outcome: Result<Accepted, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(watch) = &mut self.watch else { return self.complete(now, ticket, outcome, out) };
        let known = outcome.as_ref().map_or_else(|it| it.refusal == Refusal::Duplicate, |_| true);
        if known {
            watch.answered(now.mono_ms);
        }
        let partial = watch.peers.are_partial();
        // What has a position reaches every node in the end.
        let partial_for = |it: &Accepted| it.partial || partial && it.position.is_none();
        let outcome = outcome.map(|it| Accepted { partial: partial_for(&it), ..it });
        if outcome.as_ref().is_ok_and(|accepted| accepted.partial) {
            self.counters.partial += 1;
        }
        self.complete(now, ticket, outcome, out);
    }

    /// Tells whom it concerns how a publication ended.
    fn complete(
        &mut self,
        now: Now,
        ticket: Ticket,
        outcome: Result<Accepted, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        match ticket {
            Ticket::Session { lane, session, reply, ack } => {
                if ack.is_some() || outcome.is_err() {
                    let message = LaneMessage::Published { session, reply, ack, outcome };
                    out.push(HubEffect::Lane(lane, message));
                }
            }
            Ticket::Query(query) => self.answer_query(query, outcome, out),
            Ticket::Node => {}
            Ticket::Notice(number) => self.notices.end(number, outcome),
            Ticket::Talk(number) => {
                self.heard_talk(now, number, Heard::Published(outcome), out);
            }
        }
    }

    /// The watch may have changed its state: does what follows from the new one.
    pub(super) fn follow(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        match self.state() {
            RelayState::Isolated if !self.isolated => {
                self.isolated = true;
                self.tell_lanes(|| LaneMessage::Degraded { isolated: true }, out);
                self.answer_unconfirmed(out);
                self.close_control(now, out);
            }
            RelayState::Whole if self.isolated => {
                self.isolated = false;
                self.tell_lanes(|| LaneMessage::Degraded { isolated: false }, out);
            }
            RelayState::Whole | RelayState::Cut | RelayState::Isolated | RelayState::Returning => {}
        }
        if matches!(self.state(), RelayState::Whole | RelayState::Isolated)
            && self.waiting.len() > 0
        {
            let Waiting { queue, .. } = std::mem::take(&mut self.waiting);
            for Waiter { ticket, publication, dedup } in queue {
                self.publish(now, ticket, publication, dedup, out);
            }
        }
    }

    /// The feed is up again after a loss.
    pub(super) fn tell_of_loss(&self, out: &mut Vec<HubEffect>) {
        // What rooms that keep their publications lost will be found.
        if self.rooms.len() > self.kept.len() {
            self.tell_lanes(|| LaneMessage::Lost(Loss::Feed), out);
        }
    }

    pub(super) fn tell_lanes(&self, message: impl Fn() -> LaneMessage, out: &mut Vec<HubEffect>) {
        let lanes = 0..self.config.lanes.min(LaneId::MAX);
        out.extend(lanes.map(|lane| HubEffect::Lane(LaneId(lane), message())));
    }

    /// Gives a publication to this node's own members, once.
    fn deliver_here(&mut self, now: Now, waiter: Waiter, out: &mut Vec<HubEffect>) {
        let Waiter { ticket, publication, dedup } = waiter;
        if publication.room.as_str() == CONTROL {
            let refused = self.obey_alone(&publication, out);
            return self.complete(now, ticket, Err(refused), out);
        }
        if self.is_blind_in(&publication.room) {
            let text = "The broker is away, and this room is not served without it: send it again";
            return self.complete(
                now,
                ticket,
                Err(Refused::unavailable(text.into(), RETRY_MS)),
                out,
            );
        }
        if self.keep_of(&publication.room).is_some() {
            let text =
                "The broker is away, and this room takes only what it can keep: send it again";
            return self.complete(
                now,
                ticket,
                Err(Refused::unavailable(text.into(), RETRY_MS)),
                out,
            );
        }
        let first = self.ids.remember(now.mono_ms, &publication, dedup);
        if first == Some(false) {
            return self.complete(now, ticket, Err(Refusal::Duplicate.into()), out);
        }
        if first.is_none() {
            self.counters.isolated += 1;
            let lanes = self.rooms.get(&publication.room).map_or(0, |room| room.lanes);
            let publication = Arc::new(Publication { isolated: true, ..(*publication).clone() });
            for lane in each_lane(lanes) {
                let publication = Arc::clone(&publication);
                let message = LaneMessage::Publication { publication, published_us: 0 };
                out.push(HubEffect::Lane(lane, message));
            }
        }
        let dedup_short = dedup && self.ids.are_short();
        let accepted = Accepted { level: Level::Isolated, dedup_short, ..Accepted::WHOLE };
        self.complete(now, ticket, Ok(accepted), out);
    }
}
