//! The room `$control` (G22): orders to all nodes travel as positioned publications, with the same gap rules as any
//! room. While orders may be missing nothing else is delivered on; what cannot be made up for ends every session.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::outbound::Loss;
use roomcast_protocol::position::{Keep, Page, Position};
use roomcast_protocol::publication::Publication;
pub use roomcast_protocol::room::CONTROL;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::ORDERS_MS;
use roomcast_protocol::time::{Now, iso8601};

use super::answers::is_for_hubs;
use super::sessions::Fence;
use super::standings::member_of;
use super::track::{Item, Track};
use super::watch::RelayState;
use super::{Hub, HubRoom, NEVER, REPAIR_MS, RETRY_MS, bit_of, each_lane};
use crate::messages::{HubEffect, LaneMessage, QueryId, Ticket};
use crate::orders::{Order, id_of};

/// What it keeps.
pub const CONTROL_KEEP: Keep =
    Keep { size: 10_000, bytes_max: 4 << 20, ttl_ms: ORDERS_MS, replicated: false, inbox: None };

/// How late a turn of the core may come until orders count as missing. Units: milliseconds.
pub const LATE_MS: u64 = 1_000;

/// How often a watched hub is called at least: it sends a beat each second. Units: milliseconds.
const CALLED_MS: u64 = 1_000;

/// How long rooms marked strict are served without a relay that is whole: orders to end sessions would come over it.
/// Units: milliseconds.
pub const BLIND_MS: u64 = 30_000;

/// Bytes of publications that wait while orders may be missing; beyond it they count as lost on the way.
pub const PAUSED_BYTES_MAX: usize = 4 << 20;

/// Orders remembered, so that reading all of them again obeys none twice.
const OBEYED_MAX: usize = CONTROL_KEEP.size as usize;

/// What a hub knows of orders.
#[derive(Debug)]
pub(super) struct Control {
    hasher: FixedState,
    obeyed: HashSet<u64, FixedState>,
    obeyed_order: VecDeque<u64>,
    /// Since when orders may be missing. Units: monotonic milliseconds.
    open_ms: Option<u64>,
    /// Up to which order lanes were told to have obeyed.
    told: Option<Position>,
    /// The highest offset that was obeyed before the stream began anew.
    known: u64,
    /// Lanes that came late and wait; one bit each.
    late: u64,
    /// What came meanwhile, in order, with when it was published.
    paused: VecDeque<(Arc<Publication>, u64)>,
    paused_bytes: usize,
    /// Something of it had to be forgotten.
    overflowed: bool,
    /// Answers that came meanwhile and hold publications. Bounds: [`super::ASKS_MAX`].
    pages: Vec<(u64, Option<Page>)>,
    /// Since when the relay is not whole.
    broken_ms: Option<u64>,
    /// For so long that strict rooms are not served.
    blind: bool,
    /// When the hub was called last. Units: monotonic milliseconds.
    seen_ms: Option<u64>,
}

impl Control {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            obeyed: HashSet::with_hasher(hasher.clone()),
            hasher,
            obeyed_order: VecDeque::new(),
            open_ms: None,
            told: None,
            known: 0,
            late: 0,
            paused: VecDeque::new(),
            paused_bytes: 0,
            overflowed: false,
            pages: Vec::new(),
            broken_ms: None,
            blind: false,
            seen_ms: None,
        }
    }

    /// Bytes that wait.
    pub(super) const fn paused_bytes(&self) -> usize {
        self.paused_bytes
    }

    /// Whether orders may be missing.
    pub(super) const fn is_open(&self) -> bool {
        self.open_ms.is_some()
    }

    /// Remembers an order; says whether it is new.
    fn obey(&mut self, publication: &Publication) -> bool {
        let key = self.hasher.hash_one((&publication.sender, &publication.id));
        if !self.obeyed.insert(key) {
            return false;
        }
        self.obeyed_order.push_back(key);
        if self.obeyed_order.len() > OBEYED_MAX
            && let Some(oldest) = self.obeyed_order.pop_front()
        {
            self.obeyed.remove(&oldest);
        }
        true
    }
}

impl Hub {
    /// A turn begins: makes sure that orders are heard, and sees whether the node was stopped meanwhile.
    pub(super) fn begin(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let Some(seen_ms) = self.control.seen_ms.replace(now.mono_ms) else {
            return self.hear_control(out);
        };
        let late = now.mono_ms.saturating_sub(seen_ms) > CALLED_MS + LATE_MS;
        if late && self.watch.is_some() {
            self.doubt_control(now);
            self.see_stop(now, out);
        }
    }

    fn hear_control(&mut self, out: &mut Vec<HubEffect>) {
        let Ok(name) = RoomName::system(CONTROL) else { return };
        // The first of all: every feed that comes up has it.
        self.subscribe(&name, 0, out);
        self.hear_answers(out);
        let request = 0;
        let mut track = Track::new(CONTROL_KEEP);
        track.control = true;
        let track = Some(Box::new(track));
        self.kept.insert(name.clone());
        self.rooms.insert(name, HubRoom { lanes: 0, until_ms: NEVER, request, track });
    }

    /// Orders may be missing: nothing is delivered on until that is known.
    pub(super) fn doubt_control(&mut self, now: Now) {
        let Ok(name) = RoomName::system(CONTROL) else { return };
        if self.track(&name).is_some_and(|track| track.at.is_some()) {
            if self.control.open_ms.is_none() {
                self.counters.control_gaps += 1;
            }
            self.control.open_ms.get_or_insert(now.mono_ms);
            self.want_head(&name);
        }
    }

    /// A lane came late for its turn, and waits.
    pub(super) fn lane_is_late(&mut self, now: Now, lane: LaneId, out: &mut Vec<HubEffect>) {
        // Without a relay nothing can be found out; and the embedded broker's orders are in the lane's queue already.
        if self.watch.is_none() || self.state() != RelayState::Whole {
            return out.push(HubEffect::Lane(lane, LaneMessage::Hold(false)));
        }
        self.doubt_control(now);
        if !self.control.is_open() {
            return out.push(HubEffect::Lane(lane, LaneMessage::Hold(false)));
        }
        self.control.late |= bit_of(lane).unwrap_or(0);
    }

    /// Keeps a publication for later if orders may be missing.
    pub(super) fn pauses(&mut self, publication: &Arc<Publication>, published_us: u64) -> bool {
        if !self.control.is_open()
            || publication.room.as_str() == CONTROL
            || is_for_hubs(&publication.room)
        {
            return false;
        }
        let bytes = self.control.paused_bytes + publication.weight();
        if self.control.overflowed || bytes > PAUSED_BYTES_MAX {
            self.control.overflowed = true;
            return true;
        }
        self.control.paused_bytes = bytes;
        self.control.paused.push_back((Arc::clone(publication), published_us));
        true
    }

    /// Keeps an answer for later if orders may be missing.
    pub(super) fn pauses_page(&mut self, request: u64, page: Option<Page>) -> Option<Option<Page>> {
        if !self.control.is_open() || self.asks.is_about(request, CONTROL) {
            return Some(page);
        }
        self.asks.paused += 1;
        self.control.pages.push((request, page));
        None
    }

    /// Goes on if no order is missing any more, or if it has to.
    pub(super) fn close_control(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let Some(open_ms) = self.control.open_ms else { return };
        let Ok(name) = RoomName::system(CONTROL) else { return };
        let settled = self.track(&name).is_none_or(Track::is_settled);
        let whole = self.state() == RelayState::Whole;
        if !settled && whole && now.mono_ms >= open_ms + REPAIR_MS {
            self.revalidate(out);
        } else if !settled && self.state() != RelayState::Isolated {
            return;
        }
        // Isolated: what came before the outage is delivered; orders are looked for on return.
        self.control.open_ms = None;
        for lane in each_lane(std::mem::take(&mut self.control.late)) {
            out.push(HubEffect::Lane(lane, LaneMessage::Hold(false)));
        }
        self.asks.paused = 0;
        for (request, page) in std::mem::take(&mut self.control.pages) {
            self.page(now, request, page, out);
        }
        self.control.paused_bytes = 0;
        for (publication, published_us) in std::mem::take(&mut self.control.paused) {
            self.envelope(now, &publication, published_us, out);
        }
        if std::mem::take(&mut self.control.overflowed) {
            self.tell_lanes(|| LaneMessage::Lost(Loss::Overload), out);
            self.want_all_heads();
        }
    }

    /// Sees for how long no order can have come.
    pub(super) fn see_blindness(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        if self.state() == RelayState::Whole {
            self.control.broken_ms = None;
            self.control.blind = false;
            return;
        }
        let since = *self.control.broken_ms.get_or_insert(now.mono_ms);
        if !self.control.blind && now.mono_ms >= since + BLIND_MS {
            self.control.blind = true;
            self.tell_lanes(|| LaneMessage::Blind, out);
        }
    }

    /// Whether the room is strict, and no order can have come for long.
    pub(super) fn is_blind_in(&self, room: &RoomName) -> bool {
        let strict = || self.guard.rule(room).is_some_and(|rule| self.guard.policy(rule).strict);
        self.control.blind && strict()
    }

    /// When [`Hub::close_control`] or [`Hub::see_blindness`] has something to do by itself.
    pub(super) fn next_control_ms(&self) -> Option<u64> {
        let blind = self.control.broken_ms.filter(|_| !self.control.blind);
        let ends = self.control.open_ms.map(|since| since + REPAIR_MS);
        ends.into_iter().chain(blind.map(|since| since + BLIND_MS)).min()
    }

    /// Gives an order to all nodes.
    pub(super) fn give_order(
        &mut self,
        now: Now,
        (query, timeout_ms): (QueryId, u64),
        order: &Order,
        out: &mut Vec<HubEffect>,
    ) {
        self.await_order(now, query, timeout_ms);
        if let Order::Revoke(revocation) = order
            && self.state() != RelayState::Isolated
        {
            self.endings.keep(query, order);
            return self.keep_revocation(now, query, revocation, out);
        }
        self.publish_order(now, query, order, out);
    }

    /// Has an order stored, and so told to all nodes.
    pub(super) fn publish_order(
        &mut self,
        now: Now,
        query: QueryId,
        order: &Order,
        out: &mut Vec<HubEffect>,
    ) {
        let Ok(room) = RoomName::system(CONTROL) else { return };
        self.endings.begin(query, order);
        let (kind, text) = order.written();
        let publication = Publication {
            id: id_of(self.config.id, query.0),
            kind: kind.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: self.config.node.clone(),
            ..Publication::bare(room, Content::Text(text.into()))
        };
        self.publish(now, Ticket::Query(query), Arc::new(publication), true, out);
    }

    /// The broker is away: an order is obeyed here alone, and has to be given again for the others.
    pub(super) fn obey_alone(
        &mut self,
        publication: &Publication,
        out: &mut Vec<HubEffect>,
    ) -> Refused {
        if let Some(order) = Order::of(publication) {
            let member = member_of(&order);
            self.carry_out(None, order, out);
            // Another order may have come before it that was given later: once the broker answers the list is read.
            member.into_iter().for_each(|it| self.standings.look(it));
        }
        let text = "The broker is away: this node has carried the order out, the others could not be told; give it again";
        Refused::unavailable(text.into(), RETRY_MS)
    }

    /// An order came.
    pub(super) fn control(&mut self, item: &Item, out: &mut Vec<HubEffect>) {
        let publication = match item {
            Item::Publication(publication, _) => publication,
            // Of a later version: what it orders is not known, so nobody may go on unchecked.
            Item::Skipped(_) => return self.revalidate(out),
        };
        if !self.control.obey(publication) {
            return;
        }
        if let Some(order) = Order::of(publication) {
            self.carry_out(Some(&publication.id), order, out);
        } else if let Some(fence) = Fence::of(publication) {
            self.obey_fence(fence, out);
        }
    }

    /// The stream of orders began anew: all that are kept are read once more, and the new ones obeyed.
    pub(super) fn renew_control(&mut self, now: Now, head: Position) {
        let Ok(name) = RoomName::system(CONTROL) else { return };
        let Some(track) = self.track_mut(&name) else { return };
        let known = track.at.map_or(0, |at| at.offset);
        track.move_to(head.at(0));
        track.target = head.offset;
        self.control.known = self.control.known.max(known);
        if head.offset > 0 {
            self.want_read(now, &name);
        }
    }

    /// All that the room keeps has been read: if it is the orders', offsets compare again.
    pub(super) fn control_is_whole(&mut self, name: &RoomName) {
        if name.as_str() == CONTROL {
            self.control.known = 0;
        }
    }

    /// Lanes are told up to which order they have obeyed, once none in front of it is missing; behind those orders in their
    /// queues.
    pub(super) fn tell_obeyed(&mut self, name: &RoomName, out: &mut Vec<HubEffect>) {
        let Some(track) = self.track(name).filter(|track| track.control && track.is_complete())
        else {
            return;
        };
        if let Some(at) = track.at.filter(|at| self.control.told != Some(*at)) {
            self.control.told = Some(at);
            self.tell_lanes(|| LaneMessage::Obeyed(at), out);
        }
    }

    /// Orders between `at` and `position` are not kept, or could not be read.
    pub(super) fn control_gap(
        &mut self,
        at: u64,
        position: Position,
        loss: Loss,
        out: &mut Vec<HubEffect>,
    ) {
        let known = std::mem::take(&mut self.control.known).max(at);
        if loss != Loss::TooOld || position.offset > known {
            self.revalidate(out);
        }
    }

    /// Every session must prove itself anew.
    fn revalidate(&mut self, out: &mut Vec<HubEffect>) {
        self.counters.revalidations += 1;
        self.talks.is_a_group(None);
        self.tell_lanes(|| LaneMessage::Revalidate, out);
        self.doubt_revoked();
    }

    /// Asks for a room.
    pub(super) fn subscribe(&mut self, name: &RoomName, request: u64, out: &mut Vec<HubEffect>) {
        out.push(HubEffect::Broker(BrokerCommand::Subscribe { room: name.clone(), request }));
        let unconfirmed = super::Unconfirmed { room: name.clone(), waiting: 0 };
        self.unconfirmed.insert(request, unconfirmed);
    }
}
