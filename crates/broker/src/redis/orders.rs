//! The commands of one node: many under way at once, begun in the order they were given.
//!
//! Decides who waits for whom. What belongs to one session, to the users of one room, or to one entry of a directory, is
//! under way one by one: tried again, an older one must not undo a newer one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::quality::RandomState;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::position::{Keep, Kept, Page};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::Unattached;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::beats::{self, Asked};
use super::history::{self, ASK_MS};
use super::publish::{TRY_MS, Way, micros, publish};
use super::replicated::Replicated;
use super::shared::Shared;
use super::turns::Turns;
use super::{directory, inbox, occupancy, presence, receipts, sessions};
use crate::feed::EVENT_BYTES;
use crate::memory::{directory_weight, entry_weight, occupancies_weight};

/// What a command weighs beside what it names. Units: bytes.
const ORDER_BYTES: usize = 256;

/// What a command weighs while it waits. What asks for little, a beat, and what the feed does weigh nothing. Units: bytes.
pub(crate) fn weight<T>(command: &BrokerCommand<T>) -> usize {
    match command {
        BrokerCommand::Publish { publication, .. } => publication.weight(),
        BrokerCommand::Save { save, .. } => {
            let record = save.record.iter();
            let rooms = record.flat_map(|it| it.rooms.iter().chain(&it.own));
            ORDER_BYTES + rooms.map(|it| 64 + it.room.as_str().len()).sum::<usize>()
        }
        BrokerCommand::SetPresence { set, .. } => {
            ORDER_BYTES + set.changes.iter().map(|it| 64 + it.user.len()).sum::<usize>()
        }
        BrokerCommand::SetMarks { set, .. } => {
            ORDER_BYTES + set.changes.iter().map(|it| 32 + it.user.len()).sum::<usize>()
        }
        BrokerCommand::SetEntry { set, .. } => {
            ORDER_BYTES + set.name.len() + set.value.as_ref().map_or(0, bytes::Bytes::len)
        }
        BrokerCommand::Attach { .. }
        | BrokerCommand::EndSessions { .. }
        | BrokerCommand::Inbox { .. }
        | BrokerCommand::Roster { .. }
        | BrokerCommand::Present { .. }
        | BrokerCommand::Receipts { .. }
        | BrokerCommand::Directory { .. }
        | BrokerCommand::Occupancies { .. } => ORDER_BYTES,
        BrokerCommand::Ack { acked, .. } => ORDER_BYTES + size_of_val(acked.above.as_slice()),
        BrokerCommand::Heads { .. }
        | BrokerCommand::Read { .. }
        | BrokerCommand::Beat { .. }
        | BrokerCommand::Subscribe { .. }
        | BrokerCommand::Unsubscribe(_)
        | BrokerCommand::Reconnect { .. } => 0,
    }
}

/// Tells that a command will not be carried out, because too much waits. `busy`: what a publication is told.
pub(crate) fn decline<T>(
    command: BrokerCommand<T>,
    shared: &Shared<T>,
    busy: impl FnOnce() -> Refused,
) {
    let event = match command {
        BrokerCommand::Publish { ticket, .. } => {
            BrokerEvent::Published { ticket, outcome: Err(busy()) }
        }
        BrokerCommand::Heads { request, .. } => BrokerEvent::Heads { request, heads: None },
        BrokerCommand::Read { request, .. } => BrokerEvent::Read { request, page: None },
        BrokerCommand::Save { request, .. } => BrokerEvent::Saved { request, outcome: None },
        BrokerCommand::Attach { request, .. } => {
            BrokerEvent::Attached { request, outcome: Err(Unattached::Unavailable) }
        }
        BrokerCommand::EndSessions { request, .. } => {
            BrokerEvent::SessionsEnded { request, done: false }
        }
        BrokerCommand::SetPresence { request, .. } => {
            BrokerEvent::PresenceSet { request, outcome: None }
        }
        BrokerCommand::Roster { request, .. } => BrokerEvent::Roster { request, page: None },
        BrokerCommand::Present { request, .. } => BrokerEvent::Present { request, since: None },
        BrokerCommand::Inbox { request, .. } => BrokerEvent::Inbox { request, state: None },
        BrokerCommand::SetMarks { request, .. } => BrokerEvent::MarksSet { request, outcome: None },
        BrokerCommand::Receipts { request, .. } => BrokerEvent::Receipts { request, page: None },
        BrokerCommand::SetEntry { request, .. } => BrokerEvent::EntrySet { request, outcome: None },
        BrokerCommand::Directory { request, .. } => BrokerEvent::Directory { request, page: None },
        BrokerCommand::Occupancies { request, .. } => {
            BrokerEvent::Occupancies { request, given: None }
        }
        BrokerCommand::Beat { seq, .. } => BrokerEvent::BeatAnswered { seq, report: None },
        // Nothing answers an ack, and the feed's commands do not come here.
        BrokerCommand::Ack { .. }
        | BrokerCommand::Subscribe { .. }
        | BrokerCommand::Unsubscribe(_)
        | BrokerCommand::Reconnect { .. } => return,
    };
    shared.tell(event);
}

/// What is under way one by one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Chain {
    /// Writing one session.
    Session(SessionId),
    /// Changing the users of one room.
    Users(RoomName),
    /// Setting one entry of a directory.
    Entry(RoomName, Box<str>),
}

/// Which orders take turns with which others.
enum Kind {
    /// A publication.
    Quick,
    /// A publication that waits for replicas.
    Slow,
    /// It waits for nobody.
    Question,
    /// What is kept of sessions, users, cursors and directories.
    Record(Option<Chain>),
}

impl Kind {
    fn of<T>(command: &BrokerCommand<T>) -> Self {
        match command {
            BrokerCommand::Publish { keep: Some(Keep { replicated: true, .. }), .. } => Self::Slow,
            BrokerCommand::Publish { .. } => Self::Quick,
            BrokerCommand::Heads { .. }
            | BrokerCommand::Read { .. }
            | BrokerCommand::Beat { .. }
            | BrokerCommand::Subscribe { .. }
            | BrokerCommand::Unsubscribe(_)
            | BrokerCommand::Reconnect { .. } => Self::Question,
            BrokerCommand::Save { save, .. } => Self::Record(Some(Chain::Session(save.session))),
            BrokerCommand::SetPresence { set, .. } => {
                Self::Record(Some(Chain::Users(set.room.clone())))
            }
            BrokerCommand::SetEntry { set, .. } => {
                Self::Record(Some(Chain::Entry(set.directory.clone(), set.name.clone())))
            }
            BrokerCommand::Attach { .. }
            | BrokerCommand::EndSessions { .. }
            | BrokerCommand::Roster { .. }
            | BrokerCommand::Present { .. }
            | BrokerCommand::Inbox { .. }
            | BrokerCommand::Ack { .. }
            | BrokerCommand::SetMarks { .. }
            | BrokerCommand::Receipts { .. }
            | BrokerCommand::Directory { .. }
            | BrokerCommand::Occupancies { .. } => Self::Record(None),
        }
    }
}

/// Orders that wait for one of their own chain. A chain is there while one of it is under way, or has its turn.
struct Chains<O>(HashMap<Chain, VecDeque<O>, RandomState>);

impl<O> Chains<O> {
    /// The order, if none of its chain is under way.
    fn begin(&mut self, chain: &Chain, order: O) -> Option<O> {
        if let Some(waiting) = self.0.get_mut(chain) {
            waiting.push_back(order);
            return None;
        }
        self.0.insert(chain.clone(), VecDeque::new());
        Some(order)
    }

    /// The next one, when one of a chain has ended.
    fn end(&mut self, chain: &Chain) -> Option<O> {
        let next = self.0.get_mut(chain)?.pop_front();
        if next.is_none() {
            self.0.remove(chain);
        }
        next
    }
}

/// Carries out orders until there are none any more.
pub(crate) async fn run<T: Send + 'static>(
    shared: Arc<Shared<T>>,
    mut orders: mpsc::UnboundedReceiver<BrokerCommand<T>>,
    replicated: Replicated,
) {
    let mut under_way = FuturesUnordered::new();
    let mut taken = Vec::new();
    // Those that wait for replicas keep nobody else waiting.
    let (mut quick, mut slow, mut records) = (Turns::new(), Turns::new(), Turns::new());
    let mut chains = Chains(HashMap::default());
    let begin = |(order, began): (BrokerCommand<T>, Instant)| {
        let kind = Kind::of(&order);
        let carried = carry_out(Arc::clone(&shared), (order, began), replicated.clone());
        async move {
            carried.await;
            kind
        }
    };
    loop {
        for turns in [&mut quick, &mut slow, &mut records] {
            under_way.extend(std::iter::from_fn(|| turns.begin()).map(&begin));
        }
        tokio::select! {
            biased;
            count = orders.recv_many(&mut taken, 256) => {
                if count == 0 {
                    return;
                }
                let now = Instant::now();
                for order in taken.drain(..) {
                    match Kind::of(&order) {
                        Kind::Quick => quick.push((order, now)),
                        Kind::Slow => slow.push((order, now)),
                        Kind::Question => under_way.push(begin((order, now))),
                        Kind::Record(None) => records.push((order, now)),
                        Kind::Record(Some(chain)) => {
                            if let Some(order) = chains.begin(&chain, (order, now)) {
                                records.push(order);
                            }
                        }
                    }
                }
            }
            Some(kind) = under_way.next(), if !under_way.is_empty() => match kind {
                Kind::Quick => quick.end(),
                Kind::Slow => slow.end(),
                Kind::Question => {}
                Kind::Record(chain) => {
                    records.end();
                    if let Some(next) = chain.and_then(|chain| chains.end(&chain)) {
                        records.push(next);
                    }
                }
            },
        }
    }
}

async fn carry_out<T>(
    shared: Arc<Shared<T>>,
    (order, began): (BrokerCommand<T>, Instant),
    replicated: Replicated,
) {
    let weight = weight(&order);
    match order {
        BrokerCommand::Publish { ticket, publication, dedup, keep, collapse } => {
            let way = match keep {
                Some(keep) => Way::Kept(keep, replicated, collapse),
                None if dedup => Way::Remembered,
                None => Way::Plain,
            };
            let outcome = publish(&shared, &publication, &way, began).await;
            shared.stats.publish_us.observe(micros(began));
            shared.tell(BrokerEvent::Published { ticket, outcome });
        }
        BrokerCommand::Heads { request, rooms } => {
            let heads = Box::pin(history::heads(&shared, &rooms)).await;
            shared.tell(BrokerEvent::Heads { request, heads });
        }
        BrokerCommand::Read { request, room, keep, span } => {
            let page = Box::pin(history::read(&shared, &room, &keep, &span)).await;
            let weight = EVENT_BYTES + page.as_ref().map_or(0, page_weight);
            shared.feed.send(weight, BrokerEvent::Read { request, page });
        }
        BrokerCommand::Beat { seq, hears, life, retired, taken, told, reads } => {
            let asked = Asked { seq, hears, life, retired, taken, told, reads };
            shared.stats.beats_sent.fetch_add(1, Ordering::Relaxed);
            let report = Box::pin(beats::beat(&shared, &asked)).await;
            if report.is_some() {
                shared.stats.beats_answered.fetch_add(1, Ordering::Relaxed);
            }
            shared.tell(BrokerEvent::BeatAnswered { seq, report });
        }
        record @ (BrokerCommand::Save { .. }
        | BrokerCommand::Attach { .. }
        | BrokerCommand::EndSessions { .. }
        | BrokerCommand::SetPresence { .. }
        | BrokerCommand::Roster { .. }
        | BrokerCommand::Present { .. }
        | BrokerCommand::Inbox { .. }
        | BrokerCommand::Ack { .. }
        | BrokerCommand::SetMarks { .. }
        | BrokerCommand::Receipts { .. }
        | BrokerCommand::SetEntry { .. }
        | BrokerCommand::Directory { .. }
        | BrokerCommand::Occupancies { .. }) => {
            Box::pin(carry_out_record(&shared, record, began)).await
        }
        BrokerCommand::Subscribe { .. }
        | BrokerCommand::Unsubscribe(_)
        | BrokerCommand::Reconnect { .. } => {}
    }
    shared.pending_bytes.fetch_sub(weight, Ordering::Relaxed);
}

/// What is kept of sessions, users, cursors, receipts and directories.
async fn carry_out_record<T>(shared: &Shared<T>, order: BrokerCommand<T>, began: Instant) {
    let until = |limit_ms| began + Duration::from_millis(limit_ms);
    match order {
        BrokerCommand::Save { request, save } => {
            let outcome = sessions::save(shared, &save, until(TRY_MS)).await;
            shared.tell(BrokerEvent::Saved { request, outcome });
        }
        BrokerCommand::Attach { request, attach } => {
            let outcome = sessions::attach(shared, &attach, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Attached { request, outcome });
        }
        BrokerCommand::EndSessions { request, user, order } => {
            let done = sessions::end(shared, (&user, order), until(TRY_MS)).await;
            shared.tell(BrokerEvent::SessionsEnded { request, done });
        }
        BrokerCommand::SetPresence { request, set } => {
            let outcome = presence::set(shared, &set, until(TRY_MS)).await;
            shared.tell(BrokerEvent::PresenceSet { request, outcome });
        }
        BrokerCommand::Roster { request, room, after, count_max } => {
            let after = after.as_deref();
            let page = presence::roster(shared, &room, after, count_max, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Roster { request, page });
        }
        BrokerCommand::Present { request, room, users } => {
            let since = presence::present(shared, &room, &users, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Present { request, since });
        }
        BrokerCommand::Inbox { request, cursor, keep } => {
            let state = inbox::state(shared, &cursor, &keep, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Inbox { request, state });
        }
        BrokerCommand::Ack { cursor, keep, acked, told } => {
            inbox::ack(shared, &cursor, &keep, (&acked, told), until(TRY_MS)).await;
        }
        BrokerCommand::SetMarks { request, keep, set } => {
            let outcome = receipts::set(shared, &keep, &set, until(TRY_MS)).await;
            shared.tell(BrokerEvent::MarksSet { request, outcome });
        }
        BrokerCommand::Receipts { request, room, keep, of, after, count_max } => {
            let question = (of, after.as_deref(), count_max);
            let page = receipts::page(shared, &room, &keep, question, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Receipts { request, page });
        }
        BrokerCommand::SetEntry { request, set } => {
            let outcome = directory::set(shared, &set, until(TRY_MS)).await;
            let weight = entry_weight(outcome.as_ref());
            shared.feed.send(weight, BrokerEvent::EntrySet { request, outcome });
        }
        BrokerCommand::Directory { request, directory, entries } => {
            let page = directory::page(shared, &directory, &entries, until(ASK_MS)).await;
            let weight = directory_weight(page.as_ref());
            shared.feed.send(weight, BrokerEvent::Directory { request, page });
        }
        BrokerCommand::Occupancies { request, ask } => {
            let given = occupancy::give(shared, &ask, until(ASK_MS)).await;
            let weight = EVENT_BYTES + given.as_ref().map_or(0, occupancies_weight);
            shared.feed.send(weight, BrokerEvent::Occupancies { request, given });
        }
        BrokerCommand::Publish { .. }
        | BrokerCommand::Heads { .. }
        | BrokerCommand::Read { .. }
        | BrokerCommand::Beat { .. }
        | BrokerCommand::Subscribe { .. }
        | BrokerCommand::Unsubscribe(_)
        | BrokerCommand::Reconnect { .. } => {}
    }
}

/// What a page weighs in the feed. Units: bytes.
fn page_weight(page: &Page) -> usize {
    let weight = |kept: &Kept| match kept {
        Kept::Publication(publication) => publication.weight(),
        Kept::Unreadable(_) | Kept::Removed(_) => size_of::<Kept>(),
    };
    page.entries.iter().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_chain_the_next_begins_when_the_one_before_has_ended() {
        let mut chains = Chains(HashMap::default());
        let (one, two) = (Chain::Session(SessionId(1)), Chain::Session(SessionId(2)));
        assert_eq!(chains.begin(&one, 1), Some(1));
        assert_eq!(chains.begin(&one, 2), None);
        assert_eq!(chains.begin(&one, 3), None);
        assert_eq!(chains.begin(&two, 4), Some(4), "others do not wait");
        assert_eq!(chains.end(&one), Some(2));
        assert_eq!(chains.end(&one), Some(3));
        assert_eq!(chains.end(&one), None);
        assert_eq!(chains.end(&two), None);
        assert!(chains.0.is_empty());
        assert_eq!(chains.begin(&one, 5), Some(5));
    }
}
