//! A lane's shell: the real lane with its sockets, as `gateway/src/lane` has them.

use std::collections::VecDeque;

use roomcast_dialects::chat::CHAT;
use roomcast_dialects::native::NATIVE;
use roomcast_protocol::codes::Close;
use roomcast_protocol::command::Command;
use roomcast_protocol::dialect::{Dialect, Encoding, Format};
use roomcast_protocol::frame::Frame;
use roomcast_protocol::ids::{SessionId, SessionKey};
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::time::Now;
use roomcast_router::lane::{Lane, SLICE_MEMBERS};
use roomcast_router::messages::{Effect, HubMessage, LaneMessage};

use super::core::FromLane;
use crate::world::{Event, World};

/// What a message to the core weighs beside its publication. Units: bytes.
const MESSAGE_BYTES: usize = 128;

/// How often sockets are looked at that take nothing. Units: milliseconds.
const HOUSEKEEPING_MS: u64 = 1_000;

/// Messages taken at once.
const TURN_MAX: u64 = 64;

/// What comes to a lane from its sockets.
#[derive(Debug)]
pub(crate) enum Inbound {
    Open(usize),
    Text(usize, Box<str>),
    Pong(usize, u32),
    Gone(usize),
    Drain(usize),
}

/// One lane with its queue.
pub(crate) struct LaneActor {
    pub(crate) lane: Lane,
    pub(crate) inbox: VecDeque<(usize, LaneMessage)>,
    pub(crate) inbox_bytes: usize,
    pub(crate) inbound: VecDeque<Inbound>,
    pub(crate) turn_at_ms: Option<u64>,
    pub(crate) stalled_until_ms: u64,
    /// The socket of each session, by the session's index.
    pub(crate) sockets: Vec<Option<usize>>,
    /// Sockets with an outbox.
    pub(crate) blocked: Vec<usize>,
    /// Sockets whose outbox holds too much, and those whose lane waits for space, until the turn's effects are done.
    over: Vec<usize>,
    awaiting: Vec<usize>,
    housekept_ms: u64,
}

impl LaneActor {
    pub(crate) const fn new(lane: Lane) -> Self {
        Self {
            lane,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            inbound: VecDeque::new(),
            turn_at_ms: None,
            stalled_until_ms: 0,
            sockets: Vec::new(),
            blocked: Vec::new(),
            over: Vec::new(),
            awaiting: Vec::new(),
            housekept_ms: 0,
        }
    }

    pub(crate) fn socket(&self, index: u32) -> Option<usize> {
        self.sockets.get(index as usize).copied().flatten()
    }
}

impl World {
    /// Has the lane take its turn by then.
    pub(crate) fn want_lane(&mut self, node: usize, lane: usize, in_ms: u64) {
        let actor = &mut self.nodes[node].lanes[lane];
        let at = (self.now_ms + in_ms).max(actor.stalled_until_ms);
        if actor.turn_at_ms.is_none_or(|turn| turn > at) {
            actor.turn_at_ms = Some(at);
            let life = self.nodes[node].life;
            self.at(at, Event::LaneTurn { node, life, lane });
        }
    }

    /// Something comes to a lane from one of its sockets.
    pub(crate) fn inbound(&mut self, (node, lane): (usize, usize), inbound: Inbound) {
        self.nodes[node].lanes[lane].inbound.push_back(inbound);
        let in_ms = self.random.below(2);
        self.want_lane(node, lane, in_ms);
    }

    pub(crate) fn lane_turn(&mut self, node: usize, lane: usize) {
        let actor = &mut self.nodes[node].lanes[lane];
        if actor.turn_at_ms != Some(self.now_ms) {
            return;
        }
        actor.turn_at_ms = None;
        if actor.stalled_until_ms > self.now_ms {
            return self.want_lane(node, lane, 0);
        }
        let now = self.nodes[node].now(self.now_ms);
        let (reads, messages) = (self.random.range(1, TURN_MAX), self.random.range(1, TURN_MAX));
        let mut congested = false;
        for _ in 0..reads {
            congested = self.nodes[node].is_congested();
            let actor = &mut self.nodes[node].lanes[lane];
            let waits = |it: &Inbound| matches!(it, Inbound::Text(..));
            if congested && actor.inbound.front().is_some_and(waits) {
                break;
            }
            let Some(inbound) = actor.inbound.pop_front() else { break };
            self.take_inbound((node, lane), now, inbound);
        }
        for _ in 0..messages {
            let actor = &mut self.nodes[node].lanes[lane];
            let Some((weight, message)) = actor.inbox.pop_front() else { break };
            actor.inbox_bytes -= weight;
            self.act((node, lane), |it, out| it.message(now, message, out));
        }
        if self.nodes[node].lanes[lane].lane.next_wake().is_some_and(|wake| wake <= now.mono_ms) {
            self.act((node, lane), |it, out| it.tick(now, out));
        }
        let mut more = false;
        self.act((node, lane), |it, out| more = it.serve(SLICE_MEMBERS, out));
        self.nodes[node].lanes[lane].lane.take_served().clear();
        self.end_stalled((node, lane), now);
        self.check_lane(node, lane);
        let actor = &self.nodes[node].lanes[lane];
        if more || !actor.inbox.is_empty() || !actor.inbound.is_empty() && !congested {
            self.want_lane(node, lane, 0);
        } else if congested {
            self.want_lane(node, lane, 1);
        }
        let mut next_ms = self.nodes[node].lanes[lane].housekept_ms + HOUSEKEEPING_MS;
        if let Some(wake) = self.nodes[node].lanes[lane].lane.next_wake() {
            next_ms = next_ms.min(self.nodes[node].run_ms(wake));
        }
        self.want_lane(node, lane, next_ms.saturating_sub(self.now_ms).max(1));
    }

    /// Lets the lane act, then carries out what it wants.
    pub(crate) fn act(
        &mut self,
        (node, lane): (usize, usize),
        act: impl FnOnce(&mut Lane, &mut Vec<Effect>),
    ) {
        let mut out = Vec::new();
        act(&mut self.nodes[node].lanes[lane].lane, &mut out);
        while !out.is_empty() {
            let mut next = Vec::new();
            for effect in out {
                self.effect((node, lane), effect, &mut next);
            }
            self.settle_outboxes((node, lane), &mut next);
            out = next;
        }
    }

    /// Has full outboxes let go of what they may, and says which have space.
    fn settle_outboxes(&mut self, (node, lane): (usize, usize), next: &mut Vec<Effect>) {
        let now = self.nodes[node].now(self.now_ms);
        for socket in std::mem::take(&mut self.nodes[node].lanes[lane].over) {
            let shed = self.shed(socket, now);
            let Some(key) = self.sockets[socket].key else { continue };
            let lane = &mut self.nodes[node].lanes[lane].lane;
            match shed {
                Some(shed) => lane.shed(now, key, &shed, next),
                None => lane.close(key, Close::Slow, next),
            }
        }
        for socket in std::mem::take(&mut self.nodes[node].lanes[lane].awaiting) {
            self.give_space((node, lane), socket, next);
        }
    }

    /// Says that the socket's outbox has space, if the lane waits for it.
    fn give_space(&mut self, (node, lane): (usize, usize), socket: usize, next: &mut Vec<Effect>) {
        let now = self.nodes[node].now(self.now_ms);
        if let Some(key) = self.sockets[socket].key
            && let Some(space) = self.take_space(socket)
        {
            self.nodes[node].lanes[lane].lane.relieved(now, key, space, next);
        }
    }

    fn effect(&mut self, (node, lane): (usize, usize), effect: Effect, next: &mut Vec<Effect>) {
        let now = self.nodes[node].now(self.now_ms);
        match effect {
            Effect::Send { to, frame, class, mark } => {
                let Some(socket) = self.nodes[node].lanes[lane].socket(to) else { return };
                self.check_handed(socket, &frame);
                if self.send_down(socket, now, (frame, class), mark) {
                    self.nodes[node].lanes[lane].over.push(socket);
                }
            }
            Effect::Await { to, empty } => {
                let Some(socket) = self.nodes[node].lanes[lane].socket(to) else { return };
                let awaits = &mut self.sockets[socket].awaits;
                *awaits = Some(empty && awaits.unwrap_or(true));
                self.nodes[node].lanes[lane].awaiting.push(socket);
            }
            Effect::Ping { to, number } => {
                let Some(socket) = self.nodes[node].lanes[lane].socket(to) else { return };
                if self.send_ping(socket, now, number) {
                    self.nodes[node].lanes[lane].over.push(socket);
                }
            }
            Effect::Close { to, close } => {
                let place = self.nodes[node].lanes[lane].sockets.get_mut(to as usize);
                if let Some(socket) = place.and_then(Option::take) {
                    self.begin_close(socket, close);
                }
            }
            Effect::Silent { to, said_unix_ms: _ } => {
                let place = self.nodes[node].lanes[lane].sockets.get_mut(to as usize);
                if let Some(socket) = place.and_then(Option::take) {
                    self.begin_close(socket, Close::Silent);
                }
            }
            Effect::Drop { to, close: _ } => {
                let place = self.nodes[node].lanes[lane].sockets.get_mut(to as usize);
                if let Some(socket) = place.and_then(Option::take) {
                    self.reset(socket);
                }
            }
            Effect::Ready { to } => {
                let actor = &mut self.nodes[node].lanes[lane];
                let Some(socket) = actor.socket(to) else { return };
                let Some(key) = self.sockets[socket].key else { return };
                for command in actor.lane.take_early(key) {
                    actor.lane.command(now, key, command, next);
                }
                self.sockets[socket].ready = true;
                for text in std::mem::take(&mut self.sockets[socket].leftover) {
                    self.inbound((node, lane), Inbound::Text(socket, text));
                }
            }
            Effect::Hub(message) => {
                self.note_said(node, &message);
                let weight = weight_of(&message);
                self.tell_core_from_lane(node, weight, FromLane::Hub(message));
            }
            // There is no application here, to be asked or told.
            Effect::Request(_) | Effect::Permit { .. } | Effect::Happened { .. } => {}
            Effect::Answer(query, _) => {
                self.tell_core_from_lane(node, MESSAGE_BYTES, FromLane::Answer(query));
            }
        }
    }

    fn take_inbound(&mut self, at: (usize, usize), now: Now, inbound: Inbound) {
        match inbound {
            Inbound::Open(socket) => self.open(at, now, socket),
            Inbound::Text(socket, text) => self.text(at, now, socket, text),
            Inbound::Pong(socket, number) => {
                if let Some(key) = self.sockets[socket].key {
                    self.act(at, |lane, out| {
                        lane.heard(now, key);
                        lane.ponged(now, key, number, out);
                    });
                }
            }
            Inbound::Gone(socket) => self.detach(at, socket),
            Inbound::Drain(socket) => {
                self.drain(socket, now);
                let mut next = Vec::new();
                self.give_space(at, socket, &mut next);
                self.act(at, |_, effects| *effects = next);
            }
        }
    }

    fn open(&mut self, (node, lane): (usize, usize), now: Now, socket: usize) {
        let is_chat = self.sockets[socket].talker().is_some();
        let dialect: &dyn Dialect = if is_chat { &CHAT } else { &NATIVE };
        let format = Format { dialect, encoding: Encoding::Json };
        let id = SessionId(self.random.u128());
        let token = self.sockets[socket].token.clone();
        let continuation = self.sockets[socket].continuation.clone();
        let actor = &mut self.nodes[node].lanes[lane];
        // Who comes before tokens can be judged, or with one that is no good, comes again.
        let admitted =
            actor.lane.takes_tokens().then(|| actor.lane.admit(now, &token, continuation));
        let Some(Ok(opening)) = admitted else { return self.reset(socket) };
        let mut out = Vec::new();
        let key = actor.lane.open(now, id, format, opening, &mut out);
        let index = key.index as usize;
        if actor.sockets.len() <= index {
            actor.sockets.resize(index + 1, None);
        }
        actor.sockets[index] = Some(socket);
        let unknown_before = actor.lane.counters().inboxes_unknown;
        let it = &mut self.sockets[socket];
        it.key = Some(key);
        it.opened_ms = Some(self.now_ms);
        it.unknown_before = unknown_before;
        it.decoder = Some(dialect.decoder(Encoding::Json, DecodeLimits::default()));
        self.act((node, lane), |_, effects| *effects = out);
    }

    fn text(&mut self, at: (usize, usize), now: Now, socket: usize, text: Box<str>) {
        let it = &mut self.sockets[socket];
        let Some(key) = it.key.filter(|_| it.server_open) else { return };
        if !it.ready {
            it.leftover.push(text);
            return;
        }
        self.note_acked(socket, &text);
        let it = &mut self.sockets[socket];
        let Some(decoder) = &mut it.decoder else { return };
        let mut commands = Vec::new();
        let frame = Frame { text: true, payload: text.as_bytes() };
        let decoded = decoder.decode(frame, &mut commands);
        self.act(at, |lane, _| lane.heard(now, key));
        for command in commands {
            self.command(at, now, (socket, key), command);
        }
        if let Err(close) = decoded {
            self.act(at, |lane, out| lane.close(key, close, out));
        }
    }

    fn command(
        &mut self,
        at: (usize, usize),
        now: Now,
        (socket, key): (usize, SessionKey),
        command: Command,
    ) {
        if let Command::Authenticate(request) = &command {
            self.note_refresh(socket, &request.token);
        }
        self.act(at, |lane, out| lane.command(now, key, command, out));
    }

    /// The socket is gone: the session ends without another word.
    pub(crate) fn detach(&mut self, (node, lane): (usize, usize), socket: usize) {
        let it = &mut self.sockets[socket];
        it.server_open = false;
        it.outbox = None;
        let Some(key) = it.key else { return };
        let actor = &mut self.nodes[node].lanes[lane];
        if let Some(place) = actor.sockets.get_mut(key.index as usize)
            && *place == Some(socket)
        {
            *place = None;
            let now = self.nodes[node].now(self.now_ms);
            self.act((node, lane), |it, out| it.closed(now, key, false, out));
        }
    }

    /// Ends connections whose socket took nothing for too long.
    fn end_stalled(&mut self, (node, lane): (usize, usize), now: Now) {
        let actor = &mut self.nodes[node].lanes[lane];
        if self.now_ms < actor.housekept_ms + HOUSEKEEPING_MS {
            return;
        }
        actor.housekept_ms = self.now_ms;
        let blocked = std::mem::take(&mut actor.blocked);
        let mut left = Vec::new();
        for socket in blocked {
            let it = &self.sockets[socket];
            let Some(outbox) = &it.outbox else { continue };
            let stalled = now.mono_ms >= outbox.progress_ms + super::socket::WRITE_MS;
            if let (true, Some(key)) = (stalled, it.key) {
                self.act((node, lane), |it, out| it.close(key, Close::Slow, out));
            }
            left.push(socket);
        }
        self.nodes[node].lanes[lane].blocked.extend(left);
    }
}

fn weight_of(message: &HubMessage) -> usize {
    match message {
        HubMessage::Publish { publication, .. } => MESSAGE_BYTES + publication.weight(),
        HubMessage::Join { .. }
        | HubMessage::Leave { .. }
        | HubMessage::Read { .. }
        | HubMessage::Late(_)
        | HubMessage::Order { .. }
        | HubMessage::CarriedOut { .. }
        | HubMessage::Survey { .. }
        | HubMessage::Surveyed { .. }
        | HubMessage::Attach { .. }
        | HubMessage::Save { .. }
        | HubMessage::Fence { .. }
        | HubMessage::Converse(_)
        | HubMessage::Reached { .. }
        | HubMessage::Presence { .. }
        | HubMessage::Person(_)
        | HubMessage::Roster { .. }
        | HubMessage::Inbox { .. }
        | HubMessage::Ack { .. }
        | HubMessage::Arrived { .. }
        | HubMessage::Mark { .. }
        | HubMessage::Receipts { .. }
        | HubMessage::AskReceipts { .. }
        | HubMessage::SetMember { .. }
        | HubMessage::AskRoster { .. } => MESSAGE_BYTES,
    }
}
