//! The commands of one node: many under way at once, begun in the order they were given.
//!
//! Decides who waits for whom. What belongs to one session, or to the users of one room, is under way one by one: tried
//! again, an older one must not undo a newer one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::quality::RandomState;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::BrokerEvent;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::inbox::{Acked, CursorName};
use roomcast_protocol::position::{Keep, Kept, Page, Position, Span};
use roomcast_protocol::presence::SetPresence;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::SetMarks;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{AttachSession, SaveSession, Unattached};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::beats::{self, Asked};
use super::history::{self, ASK_MS};
use super::publish::{TRY_MS, Way, micros, publish};
use super::replicated::Replicated;
use super::shared::Shared;
use super::turns::Turns;
use super::{inbox, presence, receipts, sessions};
use crate::feed::EVENT_BYTES;

/// What a command weighs beside what it names. Units: bytes.
const ORDER_BYTES: usize = 256;

/// What one node asks of Redis beside its feed.
pub(crate) enum Order<T> {
    Publish {
        ticket: T,
        publication: Arc<Publication>,
        dedup: bool,
        keep: Option<Keep>,
        collapse: Option<Box<str>>,
    },
    Heads {
        request: u64,
        rooms: Vec<(RoomName, Keep)>,
    },
    Read {
        request: u64,
        room: RoomName,
        keep: Keep,
        span: Span,
    },
    Save {
        request: u64,
        save: Box<SaveSession>,
    },
    Attach {
        request: u64,
        attach: Box<AttachSession>,
    },
    EndSessions {
        request: u64,
        user: Box<str>,
        order: Position,
    },
    SetPresence {
        request: u64,
        set: Box<SetPresence>,
    },
    Roster {
        request: u64,
        room: RoomName,
        after: Option<Box<str>>,
        count_max: u32,
    },
    Inbox {
        request: u64,
        cursor: CursorName,
        keep: Keep,
    },
    Ack {
        cursor: CursorName,
        keep: Keep,
        acked: Acked,
        told: u64,
    },
    SetMarks {
        request: u64,
        keep: Keep,
        set: Box<SetMarks>,
    },
    Receipts {
        request: u64,
        room: RoomName,
        keep: Keep,
        of: Option<u64>,
        after: Option<Box<str>>,
        count_max: u32,
    },
    Beat(Asked),
}

impl<T> Order<T> {
    /// What it weighs while it waits. What asks for little, and a beat, weigh nothing. Units: bytes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Publish { publication, .. } => publication.weight(),
            Self::Save { save, .. } => {
                let record = save.record.iter();
                let rooms = record.flat_map(|it| it.rooms.iter().chain(&it.own));
                ORDER_BYTES + rooms.map(|it| 64 + it.room.as_str().len()).sum::<usize>()
            }
            Self::SetPresence { set, .. } => {
                ORDER_BYTES + set.changes.iter().map(|it| 64 + it.user.len()).sum::<usize>()
            }
            Self::SetMarks { set, .. } => {
                ORDER_BYTES + set.changes.iter().map(|it| 32 + it.user.len()).sum::<usize>()
            }
            Self::Attach { .. }
            | Self::EndSessions { .. }
            | Self::Inbox { .. }
            | Self::Roster { .. }
            | Self::Receipts { .. } => ORDER_BYTES,
            Self::Ack { acked, .. } => ORDER_BYTES + size_of_val(acked.above.as_slice()),
            Self::Heads { .. } | Self::Read { .. } | Self::Beat(_) => 0,
        }
    }

    /// Tells that it will not be carried out, because too much waits. `busy`: what a publication is told.
    pub(crate) fn decline(self, shared: &Shared<T>, busy: impl FnOnce() -> Refused) {
        let event = match self {
            Self::Publish { ticket, .. } => BrokerEvent::Published { ticket, outcome: Err(busy()) },
            Self::Heads { request, .. } => BrokerEvent::Heads { request, heads: None },
            Self::Read { request, .. } => BrokerEvent::Read { request, page: None },
            Self::Save { request, .. } => BrokerEvent::Saved { request, outcome: None },
            Self::Attach { request, .. } => {
                BrokerEvent::Attached { request, outcome: Err(Unattached::Unavailable) }
            }
            Self::EndSessions { request, .. } => {
                BrokerEvent::SessionsEnded { request, done: false }
            }
            Self::SetPresence { request, .. } => {
                BrokerEvent::PresenceSet { request, outcome: None }
            }
            Self::Roster { request, .. } => BrokerEvent::Roster { request, page: None },
            Self::Inbox { request, .. } => BrokerEvent::Inbox { request, state: None },
            Self::SetMarks { request, .. } => BrokerEvent::MarksSet { request, outcome: None },
            Self::Receipts { request, .. } => BrokerEvent::Receipts { request, page: None },
            Self::Beat(asked) => BrokerEvent::BeatAnswered { seq: asked.seq, report: None },
            Self::Ack { .. } => return,
        };
        shared.tell(event);
    }
}

/// What is under way one by one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Chain {
    /// Writing one session.
    Session(SessionId),
    /// Changing the users of one room.
    Users(RoomName),
}

/// Which orders take turns with which others.
enum Kind {
    /// A publication.
    Quick,
    /// A publication that waits for replicas.
    Slow,
    /// It waits for nobody.
    Question,
    /// What is kept of sessions, users and cursors.
    Record(Option<Chain>),
}

impl Kind {
    fn of<T>(order: &Order<T>) -> Self {
        match order {
            Order::Publish { keep: Some(Keep { replicated: true, .. }), .. } => Self::Slow,
            Order::Publish { .. } => Self::Quick,
            Order::Heads { .. } | Order::Read { .. } | Order::Beat(_) => Self::Question,
            Order::Save { save, .. } => Self::Record(Some(Chain::Session(save.session))),
            Order::SetPresence { set, .. } => Self::Record(Some(Chain::Users(set.room.clone()))),
            Order::Attach { .. }
            | Order::EndSessions { .. }
            | Order::Roster { .. }
            | Order::Inbox { .. }
            | Order::Ack { .. }
            | Order::SetMarks { .. }
            | Order::Receipts { .. } => Self::Record(None),
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
    mut orders: mpsc::UnboundedReceiver<Order<T>>,
    replicated: Replicated,
) {
    let mut under_way = FuturesUnordered::new();
    let mut taken = Vec::new();
    // Those that wait for replicas keep nobody else waiting.
    let (mut quick, mut slow, mut records) = (Turns::new(), Turns::new(), Turns::new());
    let mut chains = Chains(HashMap::default());
    let begin = |(order, began): (Order<T>, Instant)| {
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
    (order, began): (Order<T>, Instant),
    replicated: Replicated,
) {
    let weight = order.weight();
    match order {
        Order::Publish { ticket, publication, dedup, keep, collapse } => {
            let way = match keep {
                Some(keep) => Way::Kept(keep, replicated, collapse),
                None if dedup => Way::Remembered,
                None => Way::Plain,
            };
            let outcome = publish(&shared, &publication, &way, began).await;
            shared.stats.publish_us.observe(micros(began));
            shared.tell(BrokerEvent::Published { ticket, outcome });
        }
        Order::Heads { request, rooms } => {
            let heads = Box::pin(history::heads(&shared, &rooms)).await;
            shared.tell(BrokerEvent::Heads { request, heads });
        }
        Order::Read { request, room, keep, span } => {
            let page = Box::pin(history::read(&shared, &room, &keep, &span)).await;
            let weight = EVENT_BYTES + page.as_ref().map_or(0, page_weight);
            shared.feed.send(weight, BrokerEvent::Read { request, page });
        }
        Order::Beat(asked) => {
            shared.stats.beats_sent.fetch_add(1, Ordering::Relaxed);
            let report = Box::pin(beats::beat(&shared, &asked)).await;
            if report.is_some() {
                shared.stats.beats_answered.fetch_add(1, Ordering::Relaxed);
            }
            shared.tell(BrokerEvent::BeatAnswered { seq: asked.seq, report });
        }
        record @ (Order::Save { .. }
        | Order::Attach { .. }
        | Order::EndSessions { .. }
        | Order::SetPresence { .. }
        | Order::Roster { .. }
        | Order::Inbox { .. }
        | Order::Ack { .. }
        | Order::SetMarks { .. }
        | Order::Receipts { .. }) => Box::pin(carry_out_record(&shared, record, began)).await,
    }
    shared.pending_bytes.fetch_sub(weight, Ordering::Relaxed);
}

/// What is kept of sessions, users, cursors and receipts.
async fn carry_out_record<T>(shared: &Shared<T>, order: Order<T>, began: Instant) {
    let until = |limit_ms| began + Duration::from_millis(limit_ms);
    match order {
        Order::Save { request, save } => {
            let outcome = sessions::save(shared, &save, until(TRY_MS)).await;
            shared.tell(BrokerEvent::Saved { request, outcome });
        }
        Order::Attach { request, attach } => {
            let outcome = sessions::attach(shared, &attach, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Attached { request, outcome });
        }
        Order::EndSessions { request, user, order } => {
            let done = sessions::end(shared, (&user, order), until(TRY_MS)).await;
            shared.tell(BrokerEvent::SessionsEnded { request, done });
        }
        Order::SetPresence { request, set } => {
            let outcome = presence::set(shared, &set, until(TRY_MS)).await;
            shared.tell(BrokerEvent::PresenceSet { request, outcome });
        }
        Order::Roster { request, room, after, count_max } => {
            let after = after.as_deref();
            let page = presence::roster(shared, &room, after, count_max, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Roster { request, page });
        }
        Order::Inbox { request, cursor, keep } => {
            let state = inbox::state(shared, &cursor, &keep, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Inbox { request, state });
        }
        Order::Ack { cursor, keep, acked, told } => {
            inbox::ack(shared, &cursor, &keep, (&acked, told), until(TRY_MS)).await;
        }
        Order::SetMarks { request, keep, set } => {
            let outcome = receipts::set(shared, &keep, &set, until(TRY_MS)).await;
            shared.tell(BrokerEvent::MarksSet { request, outcome });
        }
        Order::Receipts { request, room, keep, of, after, count_max } => {
            let question = (of, after.as_deref(), count_max);
            let page = receipts::page(shared, &room, &keep, question, until(ASK_MS)).await;
            shared.tell(BrokerEvent::Receipts { request, page });
        }
        Order::Publish { .. } | Order::Heads { .. } | Order::Read { .. } | Order::Beat(_) => {}
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
