//! The node-wide part of the router: which lanes hear which room, what the broker is asked for, how the relay is, and
//! which agents are there. Pure; keeps INV-4 (interest is on exactly while a lane has members, or lingers).

mod agents;
mod answers;
mod asks;
mod behind;
mod control;
mod dead;
mod endings;
mod health;
mod held;
mod ids;
mod inboxes;
mod interest;
mod lease;
mod links;
mod lists;
mod marks;
mod occupancy;
mod peers;
mod people;
mod presence;
mod reached;
mod receipts;
mod relay;
mod repair;
mod revoked;
mod roster;
mod roster_asks;
mod rosters;
mod sessions;
mod standings;
mod surveys;
mod talks;
mod track;
mod turns;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::quality::FixedState;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent, Envelope, LinkId};
use roomcast_protocol::guard::Guard;
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::lists::WriteList;
use roomcast_protocol::outbound::SkipReason;
use roomcast_protocol::position::Keep;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::AttachSession;
use roomcast_protocol::time::Now;

use crate::messages::{HubEffect, HubMessage, LaneMessage, Ticket};
use crate::talks::Heard;
use agents::Notices;
pub use agents::{NOTICE_AGAIN_MS, NOTICE_MS, NOTICES_MAX, NOTICES_UNDER_WAY_MAX};
use answers::{Answers, is_for_hubs};
pub use answers::{CARRYING_MAX, NODES_MAX, Ordered};
use asks::Asks;
pub use asks::{ASK_AGAIN_MS, ASKS_MAX, JITTER_MS, REFRESH_MS, REPAIR_MS};
use control::Control;
pub use control::{BLIND_MS, CONTROL, CONTROL_KEEP, LATE_MS, PAUSED_BYTES_MAX};
pub use dead::{DEAD, DEAD_KEEP};
use endings::Endings;
pub use health::{HubCounters, HubHealth, PresenceSizes};
pub use held::TALKS_BYTES_MAX;
use ids::Ids;
pub use ids::{IDS_MAX, IDS_MS};
use inboxes::Inboxes;
pub use inboxes::{CURSORS_WAITING_MAX, INBOX_ASKS_MAX, INBOX_ASKS_WAITING_MAX, INBOX_MS};
pub use lease::LEASE_MS;
use lease::Lives;
pub use links::{AGAIN_MS, LAGGING_MS, SILENT_MS};
use lists::Lists;
pub use lists::{LISTS_MAX, LISTS_UNDER_WAY_MAX};
pub(crate) use marks::has_none;
use occupancy::Occupancies;
pub use occupancy::{READING_MAX, RENEW_MS, UNTOLD_MAX};
pub use peers::PARTIAL_MS;
use people::People;
pub(crate) use people::seen_of;
pub use people::{CONTACTS_MAX, PEOPLE_MAX, PEOPLE_UNDER_WAY_MAX, SEEN_KEEP};
use presence::Presence;
pub use presence::{STEP_AGAIN_MS, STEP_MS, STEPS_MAX};
use receipts::Receipts;
use relay::Waiting;
pub use relay::{RETRY_MS, WAITING_BYTES_MAX};
use revoked::Reading;
pub use revoked::{REVOKED, REVOKED_KEEP, REVOKED_MS};
pub use roster::ROSTER_DIFFS_MAX;
pub(crate) use roster_asks::tells_nothing;
use roster_asks::{Asker, RosterAsk, RosterAsks};
pub use roster_asks::{ROSTER_ASKS_MAX, ROSTER_ASKS_WAITING_MAX, ROSTER_RETRY_MS};
use rosters::Rosters;
pub use rosters::{
    ROSTER_COMPARE_MS, ROSTER_READ_MS, ROSTER_READS_MAX, ROSTERS_BYTES_MAX, TELL_COUNT_MS, TELL_MS,
};
use sessions::{Fence, Sessions};
use standings::Standings;
use surveys::Surveys;
pub use surveys::{SURVEYS_MAX, Surveyed};
use talks::Talks;
pub use talks::{REACHED_MAX, TALK_ENDS_MS, TALK_MS, TALKS_MAX};
pub use track::{HELD_BYTES_MAX, HELD_ROOM_BYTES_MAX};
use track::{Item, Track};
use watch::Watch;
pub use watch::{
    BEAT_AWAY_MS, BEAT_MS, BEAT_RETURNING_MS, ISOLATED_MS, RETURN_MS, RelayState, UNANSWERED_MS,
};

/// What a hub is made with.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How long interest outlives the last member, so that a reload costs nothing. Units: milliseconds.
    pub linger_ms: u64,
    /// How long a user, or an agent, may be away before it counts as gone. Units: milliseconds.
    pub leave_grace_ms: u64,
    /// Which node it is.
    pub id: NodeId,
    /// The node's name, as the sender of what it publishes itself.
    pub node: Box<str>,
    /// Seeds the tables whose keys peers choose.
    pub seed: u64,
    /// Lanes the node has: all are told when the node is on its own. Bounds: at most [`LaneId::MAX`].
    pub lanes: u8,
    /// What an answer to a question of another node may weigh: it is one publication. Units: bytes.
    pub answer_bytes_max: usize,
    /// The broker can fail, and its feed is watched by beats; else the relay is always whole.
    pub watched: bool,
    /// The application is told which rooms became occupied and vacated: this node takes its part of that.
    pub occupancy: bool,
    /// Writes what users are told whose groups changed; `None`: nobody is told.
    pub write_list: Option<WriteList>,
}

#[derive(Debug)]
struct HubRoom {
    /// Lanes that hear it, or will once the broker has confirmed; one bit each.
    lanes: u64,
    /// When interest ends, if no lane hears it; else [`NEVER`]. Units: monotonic milliseconds.
    until_ms: u64,
    /// Which request for it counts; the broker has confirmed it, unless it is among the unconfirmed ones.
    request: u64,
    /// How far its lanes have been given what it keeps; `None`: it is ephemeral.
    track: Option<Box<Track>>,
}

impl HubRoom {
    /// Lanes that are given what it keeps.
    fn hearing(&self) -> u64 {
        self.lanes & !self.track.as_ref().map_or(0, |track| track.waiting)
    }

    /// Whether nobody hears it.
    fn is_idle(&self) -> bool {
        self.lanes == 0 && !self.track.as_ref().is_some_and(|track| track.control)
    }
}

/// A request that the broker has not confirmed.
#[derive(Debug)]
struct Unconfirmed {
    room: RoomName,
    /// Lanes that have no answer yet; one bit each.
    waiting: u64,
}

const NEVER: u64 = u64::MAX;

/// What a room costs beside its name.
#[cfg(test)]
pub(crate) const ROOM_BYTES: usize = size_of::<HubRoom>();

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Room(RoomName),
}

/// The node-wide part of the router.
pub struct Hub {
    config: HubConfig,
    /// Says what rooms keep.
    guard: Arc<dyn Guard>,
    rooms: HashMap<RoomName, HubRoom, FixedState>,
    deadlines: BTreeSet<(u64, Deadline)>,
    /// Subscriptions asked for so far.
    requests: u64,
    /// Those that the broker has not confirmed.
    unconfirmed: BTreeMap<u64, Unconfirmed>,
    /// Over the feed, if it can fail.
    watch: Option<Box<Watch>>,
    waiting: Waiting,
    ids: Ids,
    asks: Asks,
    presence: Presence,
    lives: Lives,
    notices: Notices,
    people: People,
    lists: Lists,
    standings: Standings,
    occupancies: Occupancies,
    rosters: Rosters,
    inboxes: Inboxes,
    roster_asks: RosterAsks,
    receipts: Receipts,
    talks: Talks,
    /// Rooms that keep their publications, in order.
    kept: BTreeSet<RoomName>,
    control: Control,
    sessions: Sessions,
    endings: Endings,
    reading: Reading,
    answers: Answers,
    surveys: Surveys,
    /// Rooms in which lanes are behind.
    behind: BTreeSet<(LaneId, RoomName)>,
    /// Lanes that missed publications without a position, and have not been told; one bit each.
    deaf_lanes: u64,
    /// The feed came up: with its first beat all heads are asked for.
    recheck: bool,
    /// Lanes were told that the node is on its own.
    isolated: bool,
    counters: HubCounters,
    #[cfg(feature = "planted")]
    planted: Option<crate::planted::Planted>,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(config: HubConfig, guard: Arc<dyn Guard>) -> Self {
        Self::with_ids_max(config, guard, IDS_MAX)
    }

    /// The same, remembering `ids_max` ids a generation.
    #[must_use]
    pub fn with_ids_max(config: HubConfig, guard: Arc<dyn Guard>, ids_max: usize) -> Self {
        let HubConfig { seed, watched, occupancy, .. } = config;
        let state = FixedState::with_seed(seed);
        Self {
            ids: Ids::new(config.seed, ids_max),
            watch: config.watched.then(|| Box::new(Watch::new(occupancy))),
            config,
            guard,
            rooms: HashMap::with_hasher(state),
            deadlines: BTreeSet::new(),
            requests: 0,
            unconfirmed: BTreeMap::new(),
            waiting: Waiting::default(),
            asks: Asks::new(seed),
            presence: Presence::new(seed),
            lives: Lives::new(watched),
            notices: Notices::default(),
            people: People::default(),
            lists: Lists::default(),
            standings: Standings::default(),
            occupancies: Occupancies::default(),
            rosters: Rosters::new(seed),
            inboxes: Inboxes::default(),
            roster_asks: RosterAsks::default(),
            receipts: Receipts::default(),
            talks: Talks::default(),
            kept: BTreeSet::new(),
            control: Control::new(seed),
            sessions: Sessions::default(),
            endings: Endings::default(),
            reading: Reading::default(),
            answers: Answers::default(),
            surveys: Surveys::default(),
            behind: BTreeSet::new(),
            deaf_lanes: 0,
            recheck: false,
            isolated: false,
            counters: HubCounters::default(),
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Plants a bug.
    #[cfg(feature = "planted")]
    pub const fn plant(&mut self, planted: crate::planted::Planted) {
        self.planted = Some(planted);
    }

    /// Rooms the node hears for its lanes, those that linger included.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len() - usize::from(self.rooms.contains_key(CONTROL))
    }

    /// Agents that have a connection on this node.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.presence.agents()
    }

    /// Users who are online, or away, by a connection of this node.
    #[must_use]
    pub fn people(&self) -> usize {
        self.presence.people()
    }

    /// Takes what a lane (or the shell) says.
    pub fn message(&mut self, now: Now, message: HubMessage, out: &mut Vec<HubEffect>) {
        self.begin(now, out);
        match message {
            HubMessage::Join { lane, room } => {
                self.want_roster(&room);
                self.join(lane, room, out);
            }
            HubMessage::Leave { lane, room } => self.leave(now, lane, &room),
            HubMessage::Publish { ticket, publication, dedup } => {
                self.publish(now, ticket, publication, dedup, out);
            }
            HubMessage::Read { reader, room, span } => self.reads(reader, room, span, out),
            HubMessage::Late(lane) => self.lane_is_late(now, lane, out),
            HubMessage::Order { query, order, timeout_ms } => {
                self.give_order(now, (query, timeout_ms), &order, out);
            }
            HubMessage::Survey { query, survey, timeout_ms } => {
                self.survey(now, (query, timeout_ms), survey, out);
            }
            HubMessage::Surveyed { lane, ticket, page } => {
                self.lane_surveyed(now, lane, ticket, page, out);
            }
            HubMessage::CarriedOut { lane, ticket, outcome } => {
                self.carried_out(now, lane, ticket, outcome, out);
            }
            HubMessage::Presence { room, change } => self.presence(now, &room, change, false),
            HubMessage::Person(person) => self.person(now, &person),
            HubMessage::Roster { lane, session, member, reply, room, after, count_max } => {
                let asker = Asker::Lane(lane, session, reply);
                self.ask_roster(now, RosterAsk { asker, member, room, after, count_max }, out);
            }
            HubMessage::AskRoster { query, room, after, count_max } => {
                let asker = Asker::Query(query);
                let ask = RosterAsk { asker, member: None, room, after, count_max };
                self.ask_roster(now, ask, out);
            }
            HubMessage::Attach { lane, session, user, wish, secret, window_ms } => {
                let alive = Vec::new();
                let attach = AttachSession { user, wish, secret, alive, window_ms, above: None };
                self.attach((lane, session), attach, out);
            }
            HubMessage::Save { lane, session, save } => self.save((lane, session), save, out),
            HubMessage::Fence { session, generation, node, moved } => {
                self.fence(now, Fence::new(session, generation, moved), node, out);
            }
            HubMessage::Inbox { lane, session, cursor } => {
                self.lane_asks_inbox(now, (lane, session), cursor, out);
            }
            HubMessage::Arrived { room, user, at } => self.mark_arrived(now, &room, user, at),
            HubMessage::Mark { lane, session, reply, room, said } => {
                self.mark_said(now, (lane, session), reply, (room, said), out);
            }
            HubMessage::Receipts { lane, session, reply, ask } => {
                self.ask_marks(Asker::Lane(lane, session, reply), ask, out);
            }
            HubMessage::Converse(talk) => self.talk(now, *talk, out),
            HubMessage::SetMember { query, timeout_ms, change } => {
                self.set_member(now, (query, timeout_ms), change, out);
            }
            HubMessage::Reached { room, user, at } => self.reached(now, room, user, at, out),
            HubMessage::AskReceipts { query, ask } => self.ask_marks(Asker::Query(query), ask, out),
            HubMessage::Ack { cursor, acked, told } => self.move_cursor(cursor, acked, told, out),
        }
    }

    /// Takes what the broker says.
    pub fn broker_event(&mut self, now: Now, event: BrokerEvent<Ticket>, out: &mut Vec<HubEffect>) {
        self.begin(now, out);
        match event {
            BrokerEvent::Envelope(Envelope::Publication { publication, published_us }) => {
                if !self.pauses(&publication, published_us) {
                    self.envelope(now, &publication, published_us, out);
                }
            }
            BrokerEvent::Envelope(Envelope::Unreadable { room, position }) => {
                let item = Item::Skipped(SkipReason::Unreadable);
                self.placed(now, &room, position, item, out);
            }
            BrokerEvent::Envelope(Envelope::Presence(diff)) => self.hear_presence(now, &diff),
            BrokerEvent::Envelope(Envelope::Receipts(diff)) => self.hear_receipts(now, &diff),
            BrokerEvent::MarksSet { request, outcome } => self.marked(now, request, outcome, out),
            BrokerEvent::Receipts { request, page } => self.receipts_asked(now, request, page, out),
            // Nothing asks for directories yet.
            BrokerEvent::EntrySet { request, outcome } => {
                self.heard_talk(now, request, Heard::Entered(outcome), out);
            }
            BrokerEvent::Directory { request, page } => {
                self.heard_talk(now, request, Heard::Entries(page), out);
            }
            BrokerEvent::PresenceSet { request, outcome } => {
                self.presence_set(now, request, outcome, out);
            }
            BrokerEvent::Saved { request, outcome } => self.saved(request, outcome, out),
            BrokerEvent::Attached { request, outcome } => self.attached(request, outcome, out),
            BrokerEvent::SessionsEnded { request, done } => self.records_ended(request, done, out),
            BrokerEvent::Inbox { request, state } => self.inbox_asked(now, request, state, out),
            BrokerEvent::Roster { request, page } => self.roster_asked(now, request, page, out),
            BrokerEvent::Present { request, since } => self.found(now, request, since, out),
            BrokerEvent::Heads { request, heads } => self.heads(now, request, heads, out),
            BrokerEvent::Read { request, page } => self.page(now, request, page, out),
            BrokerEvent::Occupancies { request, given } => {
                self.occupancies_given(now, request, given, out);
            }
            BrokerEvent::Subscribed { room, request } => self.subscribed(&room, request, out),
            BrokerEvent::Published { ticket, outcome } => self.published(now, ticket, outcome, out),
            BrokerEvent::FeedUp { links, request } => self.feed_is_up(now, &links, request, out),
            BrokerEvent::FeedDown => {
                self.talks.doubt();
                self.watched(now, out, Watch::feed_down);
            }
            BrokerEvent::Alive(link) => {
                self.watched(now, out, |watch, mono_ms, _| watch.alive(mono_ms, link));
            }
            BrokerEvent::Beat { link, seq, master, moved } => {
                let mut renamed = false;
                self.watched(now, out, |watch, ms, out| {
                    renamed = watch.beat(ms, (link, seq, master), &moved, out);
                });
                self.recheck |= renamed;
                self.moved(now, moved);
                if std::mem::take(&mut self.recheck) {
                    self.want_all_heads();
                }
            }
            BrokerEvent::BeatAnswered { seq, report } => {
                if let Some(report) = &report {
                    self.see_report(now, seq, report, out);
                }
                self.watched(now, out, |watch, ms, out| {
                    watch.beat_answered(ms, seq, report, out);
                })
            }
        }
    }

    /// All that the node wants to hear is heard from here on.
    fn feed_is_up(&mut self, now: Now, links: &[LinkId], request: u64, out: &mut Vec<HubEffect>) {
        let Some(watch) = &mut self.watch else { return };
        let mut wishes = Vec::new();
        self.recheck = true;
        if watch.feed_up(now.mono_ms, links, &mut wishes) {
            self.tell_of_loss(out);
            self.doubt_control(now);
        }
        self.confirm_up_to(request, out);
        self.doubt_rosters(now);
        out.append(&mut wishes);
        self.follow(now, out);
    }

    /// When [`Hub::tick`] wants to be called next. Units: monotonic milliseconds.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let watch = self.watch.as_ref().map(|watch| watch.next_wake());
        let own = [self.next_ask_ms(), self.next_control_ms(), self.ids.next_wake()];
        let others = [self.next_presence_ms(), self.next_inbox_ms(), self.next_receipts_ms()];
        let answers = self.answers.next_ms().into_iter().chain(self.surveys.next_ms());
        let lists = self.lists.next_ms().into_iter().chain(self.standings.next_ms());
        let answers = answers.chain(lists).min();
        let (revoked, kept) = (self.next_revoked_ms(), self.endings.next_ms());
        [deadline, watch, answers, revoked, kept, self.next_talk_ms()]
            .into_iter()
            .chain(own)
            .chain(others)
            .flatten()
            .min()
    }

    /// Acts on deadlines that have come.
    pub fn tick(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        self.begin(now, out);
        self.watched(now, out, Watch::tick);
        self.ids.tick(now.mono_ms);
        self.close_control(now, out);
        self.see_blindness(now, out);
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now.mono_ms) {
            match self.deadlines.pop_first() {
                Some((at, Deadline::Room(name))) => {
                    let due = self.rooms.get(&name).is_some_and(|room| room.until_ms == at);
                    if due && let Some(room) = self.rooms.remove(&name) {
                        self.unconfirmed.remove(&room.request);
                        self.forget_track(&name, &room);
                        self.forget_roster(&name);
                        if self.rooms.capacity() > 4 * self.rooms.len() + 1_024 {
                            self.rooms.shrink_to(2 * self.rooms.len());
                        }
                        out.push(HubEffect::Broker(BrokerCommand::Unsubscribe(name)));
                    }
                }
                None => break,
            }
        }
        self.ask(now, out);
        self.presence_turn(now, out);
        self.ask_inboxes(now, out);
        self.receipts_turn(now, out);
        self.talks_turn(now, out);
        self.answer_late_orders(now, out);
        self.lists_turn(now, out);
        self.standings_turn(now, out);
        self.end_late_surveys(now, out);
        self.give_kept(now, out);
        self.read_revoked(now, out);
    }

    /// Has the watch act, then does what follows.
    fn watched(
        &mut self,
        now: Now,
        out: &mut Vec<HubEffect>,
        act: impl FnOnce(&mut Watch, u64, &mut Vec<HubEffect>),
    ) {
        if let Some(watch) = &mut self.watch {
            act(watch, now.mono_ms, out);
            self.follow(now, out);
        }
    }

    /// The feed brought a publication: it goes to the lanes that hear its room.
    fn envelope(
        &mut self,
        now: Now,
        publication: &Arc<Publication>,
        published_us: u64,
        out: &mut Vec<HubEffect>,
    ) {
        self.counters.received += 1;
        if let Some(position) = publication.position
            && self.rooms.get(&publication.room).is_none_or(|room| room.track.is_some())
        {
            let item = Item::Publication(Arc::clone(publication), published_us);
            return self.placed(now, &publication.room, position, item, out);
        }
        if is_for_hubs(&publication.room) {
            return self.hear_node(now, publication, out);
        }
        // A room that another node's rules keep and this one's do not is ephemeral here: its members do not count.
        let mut publication = Arc::clone(publication);
        if publication.position.is_some() {
            Arc::make_mut(&mut publication).position = None;
        }
        if self.ids.hold(&publication) {
            return; // delivered already, while this node was on its own
        }
        let lanes = self.rooms.get(&publication.room).map_or(0, |room| {
            let unconfirmed = self.unconfirmed.get(&room.request);
            room.hearing() & !unconfirmed.map_or(0, |it| it.waiting)
        });
        if lanes == 0 {
            self.counters.unwanted += 1;
        }
        for lane in each_lane(lanes) {
            let publication = Arc::clone(&publication);
            out.push(HubEffect::Lane(lane, LaneMessage::Publication { publication, published_us }));
        }
    }

    /// What the room keeps, by its rule.
    fn keep_of(&self, name: &RoomName) -> Option<Keep> {
        if let Some(room) = self.rooms.get(name) {
            return room.track.as_ref().map(|track| track.keep);
        }
        match name.as_str() {
            CONTROL => return Some(CONTROL_KEEP),
            REVOKED => return Some(REVOKED_KEEP),
            DEAD => return Some(DEAD_KEEP),
            name if name.starts_with('$') => {
                return talks::keep(name).or_else(|| people::seen_keep(name));
            }
            _ => {}
        }
        self.guard.rule(name).and_then(|rule| self.guard.policy(rule).history)
    }
}

/// The lane's bit in a room's set of lanes; none beyond [`LaneId::MAX`].
fn bit_of(lane: LaneId) -> Option<u64> {
    1_u64.checked_shl(lane.0.into())
}

fn each_lane(mut bits: u64) -> impl Iterator<Item = LaneId> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        u8::try_from(lane).ok().map(LaneId)
    })
}

#[cfg(test)]
mod tests;
