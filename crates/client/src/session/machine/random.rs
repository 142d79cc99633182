//! The machine against a node that is replaced, cut and forgetful at random: whatever happens, each offset of a room is
//! given once, in order, or told as lost, and in the end the session is current.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::Machine;
use crate::driver::LinkId;
use crate::error::{Closed, Error};
use crate::event::Position;
use crate::options::Format;
use crate::session::effect::{Effect, Out, Reply, Waiter};
use crate::session::event::{SessionEvent, SessionState};
use crate::session::options::SessionOptions;
use crate::wire;

/// Publications that the room keeps.
const KEPT: u64 = 12;

#[derive(Debug, Default)]
struct Link {
    queue: VecDeque<Value>,
    /// It brings the room's publications.
    member: bool,
    /// It is the new one of a hand-over: the first thing it says ends the old one.
    takes_over: Option<LinkId>,
    /// It ends with this code once its queue is empty.
    ends: Option<u16>,
    drained: bool,
}

struct World {
    machine: Machine,
    random: u64,
    now_ms: u64,
    head: u64,
    links: BTreeMap<LinkId, Link>,
    failing: Vec<LinkId>,
    /// What the application was told last of the room.
    last: Option<u64>,
    sessions: u64,
    /// The node puts each new session into the room by itself.
    own: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut options = SessionOptions::new("ws://localhost", "t");
        options.reconnect.attempts_max = 1_000;
        Self {
            machine: Machine::new(options, seed),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ms: 0,
            head: 3,
            links: BTreeMap::new(),
            failing: Vec::new(),
            last: None,
            sessions: 0,
            own: seed.is_multiple_of(2),
        }
    }

    /// One of `many`.
    fn pick(&mut self, many: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % many
    }

    fn step(&mut self, act: impl FnOnce(&mut Machine, u64, &mut Out)) {
        let mut out = Out::new(Format::Json);
        act(&mut self.machine, self.now_ms, &mut out);
        for effect in out.effects {
            self.carry_out(effect);
        }
    }

    fn publication(offset: u64) -> Value {
        json!({"type": "note", "id": format!("p{offset}"), "sender": "b", "room": "news",
            "data": offset, "metadata": {"epoch": "e", "offset": offset}})
    }

    /// What a node says to who has covered `since`, and the room's publications behind it.
    fn enter(&mut self, link: LinkId, id: Option<&str>, since: Option<u64>) {
        let first = self.head.saturating_sub(KEPT) + 1;
        let recovered = since.map(|since| since + 1 >= first);
        let at = since.filter(|_| recovered == Some(true)).unwrap_or(self.head);
        let mut answer = json!({"type": "subscribed", "data": {"room": "news"},
            "metadata": {"epoch": "e", "offset": at}});
        if let Some(recovered) = recovered {
            answer["data"]["recovered"] = recovered.into();
            answer["data"]["reason"] = "too_old".into();
        }
        if let Some(id) = id {
            answer["metadata"]["correlation_id"] = id.into();
        }
        let missed = (at + 1..=self.head).map(Self::publication);
        let Some(link) = self.links.get_mut(&link) else { return };
        link.member = true;
        link.queue.push_back(answer);
        link.queue.extend(missed);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link, continuation, .. } => {
                if self.pick(4) == 0 {
                    return self.failing.push(link);
                }
                let resumed = continuation.resume_token.as_ref().map(|_| self.pick(4) > 0);
                let draining = self.links.iter().find(|(_, it)| it.drained).map(|(id, _)| *id);
                self.sessions += u64::from(resumed != Some(true));
                let mut welcome = json!({"type": "welcome", "user_id": "u", "permissions": [],
                    "session_id": format!("s{}", self.sessions), "resume_token": "k"});
                if let Some(resumed) = resumed {
                    welcome["resumed"] = resumed.into();
                }
                let takes_over = draining.filter(|_| resumed == Some(true));
                let made = Link { queue: [welcome].into(), takes_over, ..Link::default() };
                self.links.insert(link, made);
                let covered = continuation.covered.get("news").map(|it| it.offset);
                if resumed != Some(true) && self.own {
                    self.enter(link, None, None);
                }
                // Now and then the record knows nothing of the room.
                if resumed == Some(true) && covered.is_some() && self.pick(8) > 0 {
                    self.enter(link, None, covered);
                }
            }
            Effect::Send { link, bytes } => self.said(link, &bytes),
            Effect::Close(link) | Effect::Drop(link) => drop(self.links.remove(&link)),
            Effect::Tell(event) => self.told(event),
            Effect::Answer(_, Ok(Reply::Joined(joined))) if joined.recovered.is_some() => {
                // Whoever waits for the join is told there.
                if joined.recovered != Some(Ok(())) {
                    self.last = joined.position.map(|it| it.offset);
                }
            }
            Effect::GetToken | Effect::Answer(..) => {}
        }
    }

    fn said(&mut self, link: LinkId, bytes: &[u8]) {
        let message: Value = serde_json::from_slice(bytes).unwrap();
        if message["type"] == "subscribe" {
            let since = message["data"]["since"]["offset"].as_u64();
            let id = message["id"].as_str().map(str::to_owned);
            self.enter(link, id.as_deref(), since);
        }
        if message["type"] == "ping"
            && let Some(link) = self.links.get_mut(&link)
        {
            link.queue.push_back(json!({"type": "pong", "timestamp": message["timestamp"]}));
        }
        let old = self.links.get_mut(&link).and_then(|link| link.takes_over.take());
        if let Some(old) = old.and_then(|old| self.links.get_mut(&old)) {
            (old.ends, old.member, old.drained) = (Some(4_202), false, false);
        }
    }

    fn told(&mut self, event: SessionEvent) {
        let at = |position: Option<Position>| position.map(|it| it.offset);
        match event {
            SessionEvent::Publication(publication) => {
                let offset = at(publication.metadata.position()).unwrap();
                assert_eq!(Some(offset), self.last.map(|last| last + 1), "once, and in order");
                self.last = Some(offset);
            }
            SessionEvent::Gap { position, reason, .. } => {
                assert_eq!(reason, "too_old");
                let to = at(position).unwrap();
                assert!(self.last.is_none_or(|last| to > last), "a gap that goes back");
                self.last = Some(to);
            }
            SessionEvent::Joined(joined) => {
                self.last = self.last.or(at(joined.position));
            }
            SessionEvent::Skip { .. }
            | SessionEvent::Lost { .. }
            | SessionEvent::Presence(_)
            | SessionEvent::Receipts(_)
            | SessionEvent::RoomLost { .. }
            | SessionEvent::Connected(_)
            | SessionEvent::Resumed { .. }
            | SessionEvent::HandedOver
            | SessionEvent::Reconnecting { .. }
            | SessionEvent::MaxReconnectAttemptsReached { .. }
            | SessionEvent::TakenOut { .. }
            | SessionEvent::Degraded { .. }
            | SessionEvent::TokenExpiring { .. }
            | SessionEvent::Unpublished { .. }
            | SessionEvent::Error(_)
            | SessionEvent::Other(_)
            | SessionEvent::Closed(_) => {}
        }
    }

    fn publish(&mut self) {
        self.head += 1;
        let publication = Self::publication(self.head);
        for link in self.links.values_mut().filter(|link| link.member) {
            link.queue.push_back(publication.clone());
        }
    }

    /// One of the links brings its next message, or its end.
    fn bring(&mut self) {
        let Some(id) = self.any_link() else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        match (link.queue.pop_front(), link.ends) {
            (Some(message), _) => {
                let incoming = wire::decode(Format::Json, message.to_string().as_bytes()).unwrap();
                self.step(|machine, now_ms, out| machine.heard(now_ms, id, incoming, out));
            }
            (None, Some(code)) => self.end(id, code),
            (None, None) => {}
        }
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let count = u64::try_from(self.links.len()).unwrap();
        let index = self.pick(count.max(1));
        self.links.keys().nth(usize::try_from(index).unwrap()).copied()
    }

    fn end(&mut self, id: LinkId, code: u16) {
        self.links.remove(&id);
        let closed = Closed { code, reason: String::new() };
        self.step(|machine, now_ms, out| machine.closed(now_ms, id, closed, out));
    }

    fn pass_time(&mut self) {
        self.now_ms += 250;
        for link in std::mem::take(&mut self.failing) {
            let error = Error::Timeout { what: "connect", after: std::time::Duration::ZERO };
            self.step(|machine, now_ms, out| machine.failed(now_ms, link, &error, out));
        }
        self.step(|machine, now_ms, out| machine.tick(now_ms, true, out));
    }

    fn drain(&mut self) {
        let Some(id) = self.any_link() else { return };
        if self.machine.link() != Some(id) || self.links.values().any(|link| link.drained) {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.drained = true;
        link.queue.push_back(json!({"type": "drain", "data": {"turn_ms": 3000,
            "resume_token": "turn", "reason": "drain"}}));
    }

    fn anything(&mut self) {
        match self.pick(40) {
            0 => {
                if let Some(id) = self.any_link() {
                    self.end(
                        id,
                        [1_006, 1_012, 4_200, 4_300][usize::try_from(self.head % 4).unwrap()],
                    );
                }
            }
            1 => self.drain(),
            2..=7 => self.publish(),
            8..=11 => self.pass_time(),
            _ => self.bring(),
        }
    }
}

#[test]
fn whatever_happens_each_offset_is_given_once_or_told() {
    let (mut hand_overs, mut gaps, mut repeats, mut early) = (0, 0, 0, 0);
    for seed in 1..=400 {
        let mut world = World::new(seed);
        world.step(|machine, now_ms, out| machine.start(now_ms, out));
        if !world.own {
            let room = ("news".to_owned(), Some(Position { epoch: "e".into(), offset: 3 }));
            world.last = Some(3);
            world.step(|machine, now_ms, out| machine.join(now_ms, room, Waiter(1), out));
        }
        for _ in 0..600 {
            world.anything();
        }
        world.publish();
        // All is well again; it becomes current.
        for _ in 0..400 {
            world.pass_time();
            for _ in 0..40 {
                world.bring();
            }
        }
        assert_eq!(world.machine.state(), SessionState::Connected, "seed {seed}");
        world.publish();
        for _ in 0..100 {
            world.bring();
        }
        assert_eq!(world.last, Some(world.head), "seed {seed}: it is current");
        let counters = world.machine.counters();
        assert_eq!(counters.holes, 0, "seed {seed}");
        hand_overs += counters.hand_overs;
        gaps += counters.gaps;
        repeats += counters.repeats_by_position;
        early += counters.early;
    }
    for count in [hand_overs, gaps, repeats, early] {
        assert!(
            count > 100,
            "{hand_overs} hand-overs, {gaps} gaps, {repeats} repeats, {early} early"
        );
    }
}
