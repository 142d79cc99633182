//! Scripts for the lane: text in, effects out. [`check`] runs one; [`World`] is what a script acts on, with a table
//! for a guard and a dialect whose frames are short texts.

mod acking;
mod behind;
mod catching;
mod conversations;
mod covering;
mod deadlines;
mod draining;
mod entering;
mod frames;
mod gaps;
mod grouped;
mod groups;
mod happenings;
mod history;
mod holding;
mod inboxes;
mod keeping_model;
mod model;
mod orders;
mod parking;
mod people;
mod permits;
mod presence;
mod publishing;
mod receipts;
mod renewed;
mod requests;
mod resuming;
mod resuming_model;
mod rooms;
mod serving;
mod surveys;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Close, Refusal, Refused};
use roomcast_protocol::command::{
    Authenticate, Command, Continuation, HistoryRequest, Publish, ReplyTo, RoomRequest, Unreadable,
};
use roomcast_protocol::content::Content;
use roomcast_protocol::dialect::{Dialect, Encoding, Format};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::limits::{LimitName, SessionLimits};
use roomcast_protocol::outbound::{Loss, SkipReason};
use roomcast_protocol::position::{
    Direction, Epoch, Head, Kept, OFFSET_MAX, Page, Position, Span, Unrecovered,
};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachedSession, Former, ResumeToken, RoomRecord, SaveSession, SavedSession, Secret,
    SessionRecord, SessionState, Unattached, Wish,
};
use roomcast_protocol::time::Now;

use super::{Admission, Lane, LaneConfig, Opening, Secrets, Space};
use crate::happenings::Wanted;
use crate::messages::{
    Answer, DrainPlan, Effect, HubMessage, LaneMessage, Person, QueryId, Ticket,
};
use crate::meter::Users;
use crate::reader::Reader;
use frames::{ALL, PLAIN, Table, position, texts};

/// Runs a script and compares what the lane wanted done.
///
/// One step a line. `limits rooms=2 ..` comes first, if at all; after `manual` the script speaks for the hub, which
/// otherwise makes every room live at once and says nothing.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut world = World::new(script);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
        world.walk();
    }
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

/// A lane with everything around it.
struct World {
    lane: Lane,
    users: Arc<Users>,
    now: Now,
    manual: bool,
    /// The hub does not answer for records.
    silent: bool,
    keys: BTreeMap<u32, SessionKey>,
    /// Sessions whose outboxes have no space.
    full: BTreeSet<u32>,
    tickets: VecDeque<Ticket>,
    /// Questions who is in a room, oldest first.
    rosters: VecDeque<(SessionKey, ReplyTo, RoomName)>,
    /// Ids the lane made for publications that came without one.
    made: Vec<String>,
    /// The newest ping's number, by session.
    pings: BTreeMap<u32, u32>,
    seen: Vec<String>,
}

impl World {
    fn new(script: &str) -> Self {
        let mut limits = SessionLimits::default();
        let first = script.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
        for (name, value) in options(first.strip_prefix("limits").unwrap_or("")) {
            let value: u32 = value.parse().unwrap();
            match name {
                "rooms" => limits.rooms_max = value as usize,
                "messages" => limits.messages_per_minute = value,
                "controls" => limits.controls_per_minute = value,
                "connections" => limits.connections_per_user = value,
                "unacked" => limits.unacked_max = u16::try_from(value).unwrap(),
                "requests" => limits.requests_max = u8::try_from(value).unwrap(),
                "histories" => limits.histories_max = u8::try_from(value).unwrap(),
                "window" => limits.resume_window_ms = value.into(),
                "ping" => limits.ping_ms = value.into(),
                _ => panic!("no limit {name}"),
            }
        }
        let users = Arc::new(Users::new(7));
        let mut table = Table::default();
        if script.lines().any(|line| line.trim() == "kept") {
            table.keep_own_rooms();
        }
        if script.lines().any(|line| line.trim() == "shown") {
            table.show_own_rooms();
        }
        if script.lines().any(|line| line.trim() == "inboxes") {
            table.make_own_rooms_inboxes();
        }
        if script.lines().any(|line| line.trim() == "quiet") {
            table.make_own_rooms_quiet();
        }
        let guard = Arc::new(table);
        let tells = script.lines().any(|line| line.trim() == "tells");
        let config = LaneConfig {
            id: LaneId(0),
            guard,
            limits,
            users: Arc::clone(&users),
            seed: 7,
            secrets: counted(),
            wanted: if tells { Wanted::ALL } else { Wanted::default() },
        };
        Self {
            lane: Lane::new(config),
            users,
            now: Now::default(),
            manual: false,
            silent: false,
            keys: BTreeMap::new(),
            full: BTreeSet::new(),
            tickets: VecDeque::new(),
            rosters: VecDeque::new(),
            made: Vec::new(),
            pings: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let (subject, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut out = Vec::new();
        match subject {
            "limits" => {}
            "manual" => self.manual = true,
            "kept" | "shown" | "inboxes" | "quiet" | "tells" => {}
            "hush" => self.lane.hush(rest == "on"),
            "silent" => self.silent = true,
            "asleep" => {
                self.now.mono_ms += rest.parse::<u64>().unwrap();
                self.now.unix_ms = self.now.mono_ms;
            }
            "at" => self.turn_clock(rest.parse().unwrap(), &mut out),
            "late" => self.turn_late(rest.parse().unwrap(), &mut out),
            "wait" => self.turn_clock(self.now.mono_ms + rest.parse::<u64>().unwrap(), &mut out),
            "serve" => {
                if rest.is_empty() {
                    while self.lane.serve(usize::MAX, &mut out) {}
                } else if self.lane.serve(rest.parse().unwrap(), &mut out) {
                    self.execute(std::mem::take(&mut out));
                    self.seen.push("more".into());
                }
            }
            "sizes" => {
                let sizes = self.lane.sizes();
                let (sessions, rooms, places) = (sizes.sessions, sizes.rooms, sizes.memberships);
                self.seen.push(format!("{sessions} sessions, {rooms} rooms, {places} places"));
            }
            "counted" => self.seen.push(self.counted(rest)),
            "failures" => {
                for failed in std::mem::take(self.lane.take_failed()) {
                    let (id, name, session) = (failed.id, failed.room, failed.session.0);
                    self.seen.push(format!("failed {id} in {name} of {session:x}"));
                }
            }
            "served" => {
                let stamps = std::mem::take(self.lane.take_served());
                self.seen.push(format!("served {stamps:?}"));
            }
            "hub" => self.hub_says(rest, &mut out),
            number => self.session_does(number.parse().unwrap(), rest, &mut out),
        }
        self.execute(out);
    }

    fn counted(&self, what: &str) -> String {
        let counters = self.lane.counters();
        let count = match what {
            "encodings" => counters.encodings,
            "deliveries" => counters.deliveries,
            "expired" => counters.expired,
            "unwanted" => counters.unwanted,
            "ready" => counters.ready,
            "users" => self.users.len() as u64,
            "gaps" => counters.gaps,
            "jumps" => counters.jumps,
            "holds" => counters.holds,
            "acked" => counters.acked,
            "acks-unknown" => counters.acks_unknown,
            "acks-ignored" => counters.acks_ignored,
            "redelivered" => counters.redelivered,
            "failed" => counters.delivery_failed,
            "parked-unacked" => counters.parked_unacked,
            "inboxes-unknown" => counters.inboxes_unknown,
            "lost" => counters.inbox_lost,
            "receipts-told" => counters.receipts_told,
            "untold" => counters.untold,
            "unacked-max" => counters.limits[LimitName::Unacked.index()],
            "parked" => counters.parked,
            "unparked" => counters.unparked,
            "low" => counters.shed_low,
            "shed-expired" => counters.shed_expired,
            "shed-conflated" => counters.shed_conflated,
            "histories" => counters.histories,
            "requests" => counters.requests,
            "recovered" => counters.recovered,
            "resumed" => counters.resumed,
            "hand-overs" => counters.hand_overs,
            "unresumed" => return format!("{:?} unresumed", counters.unresumed),
            "records" => counters.records,
            "failed-records" => counters.records_failed,
            "fenced" => counters.fenced,
            "drained" => return format!("{:?} drained", counters.drained),
            "is-drained" => return format!("drained: {}", self.lane.is_drained()),
            "unrecovered" => counters.unrecovered.iter().sum(),
            "too-old" => counters.unrecovered[Unrecovered::TooOld as usize],
            // Expired, filtered, unreadable; the other reasons where there are some.
            "skipped" => {
                let few = counters.skips[3..].iter().all(|count| *count == 0);
                let shown = &counters.skips[..if few { 3 } else { counters.skips.len() }];
                return format!("{shown:?} skipped");
            }
            "conflated" => counters.skips[SkipReason::Conflated as usize],
            _ => panic!("nobody counts {what}"),
        };
        format!("{count} {what}")
    }

    fn turn_clock(&mut self, at_ms: u64, out: &mut Vec<Effect>) {
        while let Some(wake) = self.lane.next_wake().filter(|wake| *wake <= at_ms) {
            assert!(wake >= self.now.mono_ms, "the lane wants to wake in the past");
            self.now = Now { mono_ms: wake, unix_ms: wake };
            self.lane.tick(self.now, out);
            assert!(self.lane.next_wake().is_none_or(|next| next > wake), "woken for ever");
        }
        self.turn_late(at_ms, out);
    }

    /// The thread was away until then.
    fn turn_late(&mut self, at_ms: u64, out: &mut Vec<Effect>) {
        self.now = Now { mono_ms: at_ms, unix_ms: at_ms };
        self.lane.tick(self.now, out);
    }

    fn hub_says(&mut self, what: &str, out: &mut Vec<Effect>) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        let message = match verb {
            "joined" => {
                let (name, at) = rest.split_once(" at ").unwrap_or((rest, ""));
                let position = (!at.is_empty()).then(|| position(at));
                LaneMessage::Joined { room: room(name), position, live: true }
            }
            "away" => LaneMessage::Joined { room: room(rest), position: None, live: false },
            "unreadable" => {
                let (name, at) = rest.split_once(" at ").unwrap();
                LaneMessage::Skipped {
                    room: room(name),
                    position: position(at),
                    reason: SkipReason::Unreadable,
                }
            }
            "gap" => {
                let (name, at) = rest.split_once(" at ").unwrap();
                let loss = Loss::TooOld;
                LaneMessage::Gap { room: room(name), position: position(at), loss }
            }
            "page" => {
                let (query, rest) = rest.split_once(' ').unwrap();
                LaneMessage::Page { query: query.parse().unwrap(), page: page(rest) }
            }
            "presence" | "roster" | "presents" => self.hub_tells(verb, rest),
            "marked" | "rose" | "receipts" => self.hub_tells_receipts(verb, rest),
            "responds" => requests::responded(&self.keys, rest),
            "permits" | "denies" => permits::answered(&self.keys, verb, rest),
            "inbox" => self.inbox_is(rest),
            "hold" => LaneMessage::Hold(true),
            "resume" => LaneMessage::Hold(false),
            "revalidate" => LaneMessage::Revalidate,
            "blind" => LaneMessage::Blind,
            "lagged" => LaneMessage::Lost(Loss::Overload),
            "isolated" => LaneMessage::Degraded { isolated: true },
            "whole" => LaneMessage::Degraded { isolated: false },
            "stop" => LaneMessage::Stop,
            "attached" => self.attached(rest),
            "saved" => {
                let (number, how) = rest.split_once(' ').unwrap_or((rest, ""));
                let outcome = match how {
                    "fenced" => Some(SavedSession::Fenced),
                    "ended" => Some(SavedSession::Ended),
                    "unanswered" => None,
                    _ => Some(SavedSession::Saved),
                };
                LaneMessage::Saved { session: self.keys[&number.parse().unwrap()], outcome }
            }
            "fence" => {
                let words: Vec<_> = rest.split(' ').collect();
                LaneMessage::Fence {
                    session: SessionId(u128::from_str_radix(words[0], 16).unwrap()),
                    generation: words[1].parse().unwrap(),
                    moved: words.contains(&"moved"),
                }
            }
            "drain" => {
                let (window, turn) = rest.split_once(' ').unwrap();
                let (window_ms, turn_ms) = (window.parse().unwrap(), turn.parse().unwrap());
                LaneMessage::Drain(DrainPlan { window_ms, limit_ms: window_ms * 2, turn_ms })
            }
            "members" => LaneMessage::Members { query: QueryId(1), room: room(rest) },
            "obeyed" => LaneMessage::Obeyed(position(rest)),
            "disconnect" => orders::ends(rest),
            "survey" => surveys::asked(rest),
            "groups" => grouped::groups(&self.keys, rest),
            "admits" => grouped::admits(rest),
            "revoke" | "knows" | "takes" | "puts" => orders::orders(verb, rest),
            "accepts" | "refuses" => {
                let Some(Ticket::Session { session, reply, ack, .. }) = self.tickets.pop_front()
                else {
                    panic!("nothing was published");
                };
                let accepted = Accepted { dedup_short: rest == "short", ..Accepted::WHOLE };
                let outcome = if verb == "accepts" {
                    Ok(accepted)
                } else {
                    Err(Refused::new(Refusal::Unavailable))
                };
                LaneMessage::Published { session, reply, ack, outcome }
            }
            name => LaneMessage::Publication {
                publication: Arc::new(publication(name, rest, self.now)),
                published_us: options(rest)
                    .find(|(held, _)| *held == "us")
                    .map_or(0, |(_, us)| us.parse().unwrap()),
            },
        };
        self.lane.message(self.now, message, out);
    }

    fn session_does(&mut self, number: u32, what: &str, out: &mut Vec<Effect>) {
        let verb = what.split(' ').next().unwrap_or("");
        if verb == "opens" {
            return self.open(number, what, out);
        }
        let key = self.keys.get(&number).copied().expect("the session was opened");
        match verb {
            "heard" => self.lane.heard(self.now, key),
            "gone" => self.lane.closed(self.now, key, false, out),
            "goodbye" => self.lane.closed(self.now, key, true, out),
            "pongs" => {
                let number = what.strip_prefix("pongs ").map(|number| number.parse().unwrap());
                let number = number.unwrap_or(self.pings[&number_of(&self.keys, key)]);
                self.lane.ponged(self.now, key, number, out);
            }
            "fills" => {
                self.full.insert(number);
            }
            "sheds" => self.lane.shed(self.now, key, &parking::shed(&self.lane, what), out),
            "drains" => self.drain(number, what, out),
            "overflows" => self.lane.close(key, Close::Slow, out),
            _ => {
                for text in what.split("; ") {
                    self.lane.command(self.now, key, command(text), out);
                }
            }
        }
    }

    fn open(&mut self, number: u32, what: &str, out: &mut Vec<Effect>) {
        let words: Vec<_> = what.split(' ').collect();
        let has = |word| words.contains(&word);
        let encoding = if has("msgpack") { Encoding::MessagePack } else { Encoding::Json };
        let encoding = if has("deflated") { encoding.deflated() } else { encoding };
        let named = ALL.iter().find(|dialect| has(dialect.name()));
        let format = Format { dialect: *named.unwrap_or(&&PLAIN), encoding };
        let token = words.iter().position(|word| *word == "as").map(|at| words[at + 1]);
        let continuation = || continuation(what);
        let opening = match token.map(|it| self.lane.admit(self.now, it, continuation())) {
            None => Opening::Silent,
            Some(Ok(opening)) => opening,
            Some(Err(Admission::Full(_))) => {
                return self.seen.push(format!("{number} not admitted: full"));
            }
            Some(Err(Admission::Token(error))) => {
                return self.seen.push(format!("{number} not admitted: {error}"));
            }
        };
        let id = SessionId(u128::from(number));
        let key = self.lane.open(self.now, id, format, opening, out);
        self.keys.insert(number, key);
    }

    /// A session's outbox has space, unless it is full.
    fn await_space(&mut self, to: u32, empty: bool, next: &mut Vec<Effect>) {
        let number = self.number(to);
        if self.full.contains(&number) {
            let what = if empty { "to be empty" } else { "for space" };
            return self.seen.push(format!("{number} waits {what}"));
        }
        let space = Space { bytes: usize::MAX, empty: true };
        self.lane.relieved(self.now, self.keys[&number], space, next);
    }

    /// A session's outbox is half empty, and is full again behind so many bytes, if they are said; or it is empty.
    fn drain(&mut self, number: u32, what: &str, out: &mut Vec<Effect>) {
        let bytes = what.strip_prefix("drains ").and_then(|bytes| bytes.parse().ok());
        if bytes.is_none() {
            self.full.remove(&number);
        }
        let empty = what == "drains" || what.ends_with("empty");
        let space = Space { bytes: bytes.unwrap_or(usize::MAX), empty };
        self.lane.relieved(self.now, self.keys[&number], space, out);
    }

    /// Does what the shell does with effects, and what the hub does unless the script speaks for it.
    fn execute(&mut self, effects: Vec<Effect>) {
        let mut next = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { frame, .. } if frame.is_empty() => {}
                Effect::Send { to, frame, class, .. } => {
                    let text = texts(&frame).join(" + ");
                    let class = match class {
                        Priority::Normal => "",
                        Priority::High => " !high",
                        Priority::Low => " !low",
                    };
                    // Replies are always high.
                    let class = if is_reply(&text) { "" } else { class };
                    self.seen.push(format!("{}: {text}{class}", self.number(to)));
                }
                Effect::Ping { to, number } => {
                    let session = self.number(to);
                    self.pings.insert(session, number);
                    let sent = self.lane.sessions.get(to as usize);
                    let lasts = sent.is_some_and(|session| session.lasting.is_some());
                    let number = if lasts { format!(" {number}") } else { String::new() };
                    self.seen.push(format!("{session}: ping{number}"));
                }
                Effect::Await { to, empty } => self.await_space(to, empty, &mut next),
                Effect::Close { to, close } => {
                    self.seen.push(format!("{} closed {}", self.number(to), close.row().code));
                }
                Effect::Silent { to, said_unix_ms } => {
                    self.seen.push(format!("{} silent since {said_unix_ms}", self.number(to)));
                }
                Effect::Drop { to, close } => {
                    self.seen.push(format!("{} dropped {}", self.number(to), close.row().code));
                }
                Effect::Ready { to } => {
                    if self.manual {
                        self.seen.push(format!("{} ready", self.number(to)));
                    }
                    let key = self.keys[&self.number(to)];
                    for command in self.lane.take_early(key) {
                        self.lane.command(self.now, key, command, &mut next);
                    }
                }
                Effect::Hub(message) => self.tell_hub(message, &mut next),
                Effect::Request(requested) => self.seen.push(requests::shown(&requested)),
                Effect::Permit { session, request } => {
                    self.seen.push(permits::shown(number_of(&self.keys, session), &request));
                }
                Effect::Happened { happening, .. } => self.seen.push(happenings::shown(&happening)),
                Effect::Answer(_, Answer::Members(found)) => {
                    let show = |member: &crate::messages::MemberInfo| {
                        format!("{}/{:x}", member.user, { member.session.0 })
                    };
                    let found: Vec<_> = found.iter().map(show).collect();
                    let found = if found.is_empty() { "nobody".into() } else { found.join(" ") };
                    self.seen.push(format!("members {found}"));
                }
            }
        }
        if !next.is_empty() {
            self.execute(next);
        }
    }

    fn tell_hub(&mut self, message: HubMessage, next: &mut Vec<Effect>) {
        match message {
            HubMessage::Join { room, .. } if self.manual => {
                self.seen.push(short(&format!("hub join {room}")));
            }
            HubMessage::Join { room, .. } => {
                let rule = self.lane.guard.rule(&room).expect("a room with a rule");
                let keeps = self.lane.guard.policy(rule).history.is_some();
                let position = keeps.then_some(Position { epoch: Epoch(1), offset: 0 });
                let joined = LaneMessage::Joined { room, position, live: true };
                self.lane.message(self.now, joined, next);
            }
            HubMessage::Leave { room, .. } => {
                if self.manual {
                    self.seen.push(short(&format!("hub leave {room}")));
                }
            }
            HubMessage::Read { reader, room, span } => {
                let Reader::Lane { query, .. } = reader else { panic!("a lane asks") };
                let Span { direction, from, count_max, bytes_max } = span;
                assert_eq!(bytes_max, Span::BYTES_MAX);
                let way = if direction == Direction::Forward { "above" } else { "below" };
                let from = if from > OFFSET_MAX { "all".into() } else { from.to_string() };
                let limited = count_max != Span::COUNT_MAX;
                let limit = if limited { format!(" limit {count_max}") } else { String::new() };
                self.seen.push(short(&format!("hub read {query} {room} {way} {from}{limit}")));
            }
            HubMessage::Late(_) => self.seen.push("hub late".into()),
            HubMessage::Order { order, .. } => panic!("a lane orders {order:?}"),
            HubMessage::Survey { .. } => panic!("a lane asks all nodes"),
            HubMessage::Surveyed { page, .. } => self.seen.push(surveys::shown(&page)),
            HubMessage::CarriedOut { ticket, outcome, .. } => {
                self.seen.push(orders::carried_out(ticket, &outcome));
            }
            HubMessage::Publish { ticket, publication, dedup } => {
                self.seen.push(self.published(&publication, dedup));
                if publication.id.len() == 36 {
                    self.made.push(publication.id.to_string());
                }
                self.tickets.push_back(ticket);
            }
            HubMessage::Save { session, save, .. } => {
                let asked = if session.is_none() { ", the last" } else { "" };
                self.seen.push(short(&format!("hub save {}{asked}", saved(&save))));
                if let Some(session) = session.filter(|_| !self.silent) {
                    let outcome = Some(SavedSession::Saved);
                    let message = LaneMessage::Saved { session, outcome };
                    self.lane.message(self.now, message, next);
                }
            }
            HubMessage::Attach { user, wish, secret, window_ms, .. } => {
                assert_eq!(window_ms, self.lane.limits.resume_window_ms);
                let wish = match wish {
                    Wish::Token(token) => {
                        format!("{:x}.{}", { token.session.0 }, { token.secret.0 })
                    }
                    Wish::OnlyDetached => "any".into(),
                };
                self.seen.push(format!("hub attach {wish} for {user} with {}", { secret.0 }));
            }
            HubMessage::Fence { session, generation, node, moved } => {
                let how = if moved { " moved" } else { "" };
                let session = session.0;
                self.seen.push(format!("hub fence {session:x} {generation} on {}{how}", node.0));
            }
            HubMessage::Presence { room, change } => {
                self.seen.push(presence::told_of(&room, &change));
            }
            HubMessage::Person(Person { change, away }) => {
                let away = if away { " away" } else { "" };
                let way = if change.present { '+' } else { '-' };
                self.seen.push(format!("hub person {way}{}{away}", change.user));
            }
            HubMessage::Roster { session, member, reply, room, after, count_max, .. } => {
                let after = after.map_or(String::new(), |after| format!(" behind {after}"));
                let member = member.map_or(String::new(), |member| format!(" for {member}"));
                self.seen.push(format!("hub roster {room}{after} limit {count_max}{member}"));
                self.rosters.push_back((session, reply, room));
            }
            HubMessage::Inbox { session, cursor, .. } => {
                let number = number_of(&self.keys, session);
                self.seen.push(format!("hub inbox? {number} {}", inboxes::named(&cursor)));
            }
            HubMessage::Ack { cursor, acked, told } => {
                self.seen.push(format!("hub {}", inboxes::shown(&cursor, &acked, told)));
            }
            message @ (HubMessage::Arrived { .. }
            | HubMessage::Mark { .. }
            | HubMessage::Receipts { .. }) => self.seen.push(receipts::hub_hears(&message)),
            HubMessage::Reached { room, user, at } => {
                self.seen.push(format!("hub reached {room} {} of {user}", frames::place(at)));
            }
            HubMessage::Converse(talk) => self.seen.push(grouped::asked(&talk)),
            message @ (HubMessage::AskRoster { .. }
            | HubMessage::AskReceipts { .. }
            | HubMessage::SetMember { .. }) => self.seen.push(format!("hub {message:?}")),
        }
    }

    /// `2 as=1 gen=3 rooms=news,tape@5!4 own=user-ann@3 [attached|handed]`, or `2 token`: why not.
    fn attached(&self, text: &str) -> LaneMessage {
        let number = text.split(' ').next().unwrap().parse::<u32>().unwrap();
        let option = |name| options(text).find(|(held, _)| *held == name).map(|(_, value)| value);
        let why = Unattached::ALL.into_iter().find(|why| text.ends_with(why.name()));
        let rooms = |name| {
            let one = |text: &str| {
                let (text, unacked) = text.split_once('!').unwrap_or((text, ""));
                let (name, at) = text.split_once('@').unwrap_or((text, ""));
                let safe = (!at.is_empty()).then(|| position(at));
                RoomRecord { room: room(name), safe, unacked: unacked.parse().ok() }
            };
            option(name).map_or(Vec::new(), |list: &str| list.split(',').map(one).collect())
        };
        let outcome = match why {
            Some(why) => Err(why),
            None => Ok(Box::new(AttachedSession {
                session: SessionId(u128::from_str_radix(option("as").unwrap(), 16).unwrap()),
                generation: option("gen").map_or(2, |it| it.parse().unwrap()),
                record: SessionRecord { rooms: rooms("rooms"), own: rooms("own") },
                former: match text.rsplit(' ').next() {
                    Some("attached") => Former::Attached(NodeId(9)),
                    Some("handed") => Former::HandedOver(NodeId(9)),
                    _ => Former::Gone,
                },
            })),
        };
        LaneMessage::Attached { session: self.keys[&number], outcome }
    }

    fn published(&self, publication: &Publication, dedup: bool) -> String {
        let Publication { room, sender, content, .. } = publication;
        let mut text = format!("hub publish {room} {} by {sender}", content_text(content));
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" {name}={value}"));
            }
        };
        add("id", Some(publication.id.to_string()).filter(|id| id.len() != 36));
        add("kind", Some(publication.kind.to_string()).filter(|kind| kind != "message"));
        add(
            "at",
            Some(publication.timestamp.to_string())
                .filter(|at| !at.starts_with("1970-01-01T00:00:00")),
        );
        add("class", publication.priority.map(|class| class.name().into()));
        add("until", publication.expires_unix_ms.map(|at| at.to_string()));
        add("corr", publication.correlation_id.as_ref().map(ToString::to_string));
        add("requires", (!publication.requires.is_empty()).then(|| publication.requires.join(",")));
        if dedup {
            text.push_str(" dedup");
        }
        text
    }

    fn number(&self, index: u32) -> u32 {
        // The last one opened at this index is meant.
        let found = self.keys.iter().filter(|(_, key)| key.index == index);
        found.max_by_key(|(_, key)| key.generation).map(|(number, _)| *number).unwrap()
    }

    /// INV-3 and the lane's own counts.
    fn walk(&self) {
        walk(&self.lane);
    }
}

/// Compares sessions and rooms, both ways.
fn walk(lane: &Lane) {
    let (mut places, mut waiting) = (0, 0);
    for (index, session) in &lane.sessions {
        assert_eq!(session.key.index as usize, index);
        for entry in &session.rooms {
            let room = &lane.rooms[entry.room as usize];
            assert_eq!(session.rooms.iter().filter(|other| other.room == entry.room).count(), 1);
            if entry.place == crate::session::Membership::WAITING {
                waiting += 1;
            } else {
                places += 1;
                let member = room.members[entry.place as usize];
                assert_eq!((member.session, member.format), (session.key.index, session.format));
            }
        }
    }
    let members: usize = lane.rooms.iter().map(|(_, room)| room.members.len()).sum();
    assert_eq!((members, lane.memberships), (places, places), "{waiting} wait");
    assert_eq!(lane.rooms.len(), lane.names.len());
    for (index, room) in &lane.rooms {
        assert_eq!(lane.names.get(&room.name).copied(), u32::try_from(index).ok());
        room.walk();
        let at = (u32::try_from(index).unwrap(), room.serial);
        let listings = lane.busy.iter().filter(|it| **it == at).count();
        assert_eq!(listings, usize::from(room.listed), "each room waits for one turn at most");
    }
    lane.walk_backlog();
    lane.walk_connected();
    assert_eq!(lane.parking.count, lane.catching.values().filter(|it| it.slow).count());
    for key in lane.groups.keys() {
        assert!(lane.session(key).is_some(), "a request of nobody is under way");
    }
    for key in lane.said_ms.keys() {
        assert!(lane.session(*key).is_some(), "nobody is listened to");
    }
    for key in lane.behind.keys() {
        assert!(lane.is_joining(*key), "commands wait for nothing");
    }
}

fn is_reply(text: &str) -> bool {
    const WORDS: [&str; 19] = [
        "all ",
        "none ",
        "response ",
        "lost ",
        "drain",
        "history",
        "roster",
        "marked",
        "receipts",
        "welcome",
        "pong",
        "joined",
        "left",
        "accepted",
        "refused",
        "refreshed",
        "expiring",
        "gap ",
        "degraded",
    ];
    let text = ["z ", "m ", "mz "].iter().find_map(|it| text.strip_prefix(it)).unwrap_or(text);
    WORDS.iter().any(|word| text.starts_with(word))
}

/// Session ids are long; most of their digits are zeros.
fn short(text: &str) -> String {
    text.replace(&"0".repeat(31), "")
}

fn room(name: &str) -> RoomName {
    let padded = match name.strip_prefix("session-") {
        Some(number) => format!("session-{number:0>32}"),
        None => name.to_owned(),
    };
    RoomName::parse(&padded).expect("a room's name")
}

/// The number under which a script knows a session.
fn number_of(keys: &BTreeMap<u32, SessionKey>, key: SessionKey) -> u32 {
    keys.iter().find(|(_, held)| **held == key).map_or(u32::MAX, |(number, _)| *number)
}

fn options(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(' ').filter_map(|word| word.split_once('='))
}

fn content_text(content: &Content) -> String {
    match content {
        Content::Json(bytes) | Content::Text(bytes) | Content::Binary(bytes) => {
            String::from_utf8(bytes.to_vec()).unwrap()
        }
    }
}

/// Secrets that count.
fn counted() -> Secrets {
    let mut last = 0;
    Box::new(move || {
        last += 1;
        last
    })
}

fn saved(save: &SaveSession) -> String {
    let list = |rooms: &[RoomRecord]| {
        let one = |kept: &RoomRecord| {
            let at = kept.safe.map_or(String::new(), |at| format!("@{}", frames::place(at)));
            let waits = kept.unacked.map_or(String::new(), |offset| format!("!{offset}"));
            format!("{}{at}{waits}", kept.room)
        };
        rooms.iter().map(one).collect::<Vec<_>>().join(",")
    };
    let SaveSession { session, generation, state, secret, turn, confirmed, record, obeyed, .. } =
        save;
    let state = match state {
        SessionState::Attached => "attached",
        SessionState::Detached => "detached",
        SessionState::Ended => "ended",
    };
    let mut text = format!("{:x}/{generation} {state} with {}", { session.0 }, { secret.0 });
    if let Some(turn) = turn {
        text.push_str(&format!(" turn {}", { turn.0 }));
    }
    if !confirmed {
        text.push_str(" unconfirmed");
    }
    if let Some(obeyed) = obeyed {
        text.push_str(&format!(" as of order {}", frames::place(*obeyed)));
    }
    if let Some(record) = record {
        text.push_str(&format!(" [{}] own [{}]", list(&record.rooms), list(&record.own)));
    }
    text
}

/// How a client's session goes on: `resume=1.5 covered=tape@5,news@3 hands-over`, or `knowing` of it.
fn continuation(text: &str) -> Option<Box<Continuation>> {
    let option = |name| options(text).find(|(held, _)| *held == name).map(|(_, value)| value);
    let has = |word| text.split(' ').any(|held| held == word);
    let resume = option("resume").map(|it| {
        let (session, secret) = it.split_once('.').unwrap();
        let session = SessionId(u128::from_str_radix(session, 16).unwrap());
        ResumeToken { session, secret: Secret(secret.parse().unwrap()) }
    });
    let one = |text: &str| {
        let (name, at) = text.split_once('@').unwrap();
        (name.into(), position(at))
    };
    let covered = option("covered").map_or(Vec::new(), |it| it.split(',').map(one).collect());
    let hands_over = has("hands-over");
    let device = option("device").map(Into::into);
    let any = resume.is_some() || hands_over || device.is_some() || has("knowing");
    any.then(|| Box::new(Continuation { resume, covered, device, hands_over }))
}

/// What comes from the hub: `news hi class=high ttl=3 requires=a,b`, `user-ann hi of=dialog-ann:bob@7 unread=3 said=2`.
fn publication(name: &str, rest: &str, now: Now) -> Publication {
    let mut all = publish(&format!("{name} {rest}"));
    let ttl = all.ttl_s.map(|ttl| now.unix_ms + u64::from(ttl) * 1_000);
    Publication {
        room: room(&all.room),
        id: all.id.take().unwrap_or_else(|| "id".into()),
        kind: options(rest).find(|(held, _)| *held == "kind").map_or(all.kind, |it| it.1.into()),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: all.sender.take().unwrap_or_else(|| "somebody".into()),
        content: all.content,
        priority: all.priority,
        ttl_s: all.ttl_s,
        expires_unix_ms: ttl,
        correlation_id: None,
        requires: all.requires,
        requires_ack: all.wants_ack,
        isolated: false,
        origin: conversations::origin(rest),
        position: options(rest).find(|(held, _)| *held == "pos").map(|(_, at)| position(at)),
        put_under: None,
    }
}

/// What a room keeps: `head=9 first=1 whole 4:text 5:? 6:text!permission 7:text<expires_ms 8:- 9:text*` (8 was removed, 9
/// has to be acked under its text, `text^2` was said to ann in session 2 of bob's), or `none`.
fn page(text: &str) -> Option<Page> {
    let option = |name| options(text).find(|(held, _)| *held == name).map(|(_, value)| value);
    let entry = |(at, text): (&str, &str)| {
        let position = position(at);
        if text == "?" {
            return Kept::Unreadable(position);
        }
        if text == "-" {
            return Kept::Removed(position);
        }
        let (text, ack) = text.strip_suffix('*').map_or((text, ""), |text| (text, " ack"));
        let (text, said) = text.split_once('^').unwrap_or((text, ""));
        let of = format!(" of=dialog-ann:bob@{at} unread=1 sender=bob said={said}");
        let of = if said.is_empty() { "" } else { &of };
        let (text, expires) = text.split_once('<').unwrap_or((text, ""));
        let (text, requires) = text.split_once('!').unwrap_or((text, ""));
        let rest = format!("{text} pos={at} id={text}{ack}{of}");
        let mut all = publication(option("in").unwrap_or("tape"), &rest, Now::default());
        all.requires.extend((!requires.is_empty()).then(|| requires.into()));
        all.expires_unix_ms = expires.parse().ok();
        Kept::Publication(Arc::new(all))
    };
    let head = position(option("head")?);
    let first = option("first").map_or(1, |first| first.parse().unwrap());
    let entries = text.split(' ').filter_map(|word| word.split_once(':')).map(entry).collect();
    let whole = text.split(' ').any(|word| word == "whole");
    Some(Page { head: Head { position: head, first }, entries, whole })
}

fn command(text: &str) -> Command {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<_> = rest.split(' ').collect();
    let id = words.iter().find_map(|word| word.strip_prefix('#')).map(Into::into);
    let has = |word| words.contains(&word);
    let first = words[0];
    match verb {
        "token" => Command::Authenticate(Authenticate {
            reply: ReplyTo { id, room: None, part: false },
            token: first.into(),
            compressed: has("compressed"),
            continuation: continuation(rest),
        }),
        "joins" | "leaves" => {
            let reply = ReplyTo { id, room: Some(first.into()), part: false };
            let request = RoomRequest {
                reply,
                room: first.into(),
                since: words.iter().find_map(|word| {
                    let at = word.strip_prefix("since")?;
                    Some(position(at.strip_prefix('=').unwrap_or("1")))
                }),
            };
            if verb == "joins" { Command::Join(request) } else { Command::Leave(request) }
        }
        "all" => groups::command(rest),
        "publishes" => Command::Publish(Box::new(publish(rest))),
        "looks" => presence::looks(first, rest),
        "marks" | "queries" => receipts::command(verb, rest),
        "requests" => requests::command(id, first, rest),
        "pings" => Command::KeepAlive(
            (!first.is_empty()).then(|| Bytes::copy_from_slice(first.as_bytes())),
        ),
        "acks-own" => Command::AckEvent(first.parse().unwrap()),
        "hides" => Command::Away,
        "acks" => Command::Ack {
            id: first.into(),
            room: rest.split_once(" of ").map(|(_, room)| room.into()),
        },
        "asks" => Command::History(HistoryRequest {
            reply: ReplyTo { id, room: Some(first.into()), part: false },
            room: first.into(),
            direction: if has("forward") { Direction::Forward } else { Direction::Backward },
            from: options(rest).find(|it| it.0 == "from").map(|it| it.1.parse().unwrap()),
            limit: options(rest).find(|it| it.0 == "limit").map(|it| it.1.parse().unwrap()),
        }),
        "garbles" | "garbles-token" => Command::Unreadable(Unreadable {
            reply: ReplyTo { id, room: None, part: false },
            refused: Refused::new(Refusal::BadJson),
            raw: None,
            authenticates: verb == "garbles-token",
        }),
        _ => panic!("no command {verb}"),
    }
}

fn publish(rest: &str) -> Publish {
    let words: Vec<_> = rest.split(' ').collect();
    let option = |name| options(rest).find(|(held, _)| *held == name).map(|(_, value)| value);
    let text = |name| option(name).map(Into::into);
    Publish {
        reply: ReplyTo {
            id: words.iter().find_map(|word| word.strip_prefix('#')).map(Into::into),
            room: Some(words[0].into()),
            part: false,
        },
        room: words[0].into(),
        kind: text("kind").unwrap_or_else(|| "message".into()),
        id: text("id"),
        timestamp: text("at"),
        sender: text("sender"),
        content: Content::Text(words[1].to_owned().into()),
        agent_id: text("agent"),
        priority: option("class").and_then(Priority::parse),
        ttl_s: option("ttl").map(|ttl| ttl.parse().unwrap()),
        requires: option("requires")
            .map_or(Vec::new(), |it| it.split(',').map(Into::into).collect()),
        correlation_id: text("corr"),
        wants_ack: words.contains(&"ack") || words.contains(&"members-ack"),
        members_ack: words.contains(&"members-ack"),
    }
}
