//! The reference model and the checkers. The model knows what was published, what servers carried out and in which
//! order; checkers compare what clients hear with it, one property each, and end the run at the first violation.

mod agents;
mod currency;
pub(crate) mod dialogs;
mod fences;
pub(crate) mod groups;
mod handed;
mod hearing;
pub(crate) mod inflight;
mod kicks;
mod occupancy;
mod presence;
pub(crate) mod recovery;
mod runs;
mod settled;
pub(crate) mod stay;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::{Accepted, Level};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::{Priority, Publication};

use crate::losses::Losses;
use crate::rules::{ROOMS, ROOMS_ALL, name_of, room_index, rule};
use crate::wire;
use crate::world::World;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its numbers in the design: `G3/I3`.
    pub property: &'static str,
    /// What happened.
    pub text: String,
    /// Words by which the lines of the trace that concern it are found.
    pub about: Vec<String>,
}

/// How a publication was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) room: usize,
    pub(crate) acks: bool,
    pub(crate) requires: bool,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) bytes: usize,
}

/// One publication, with all that came of it.
#[derive(Clone, Debug)]
pub(crate) struct Pub {
    pub(crate) made: Made,
    pub(crate) made_ms: u64,
    pub(crate) attempts: u32,
    /// Attempts that were refused with a known outcome.
    pub(crate) refused: u32,
    pub(crate) acked: bool,
    /// Some node accepted it in isolation; there it is not delivered again, whoever joined meanwhile (G10).
    pub(crate) isolated: bool,
    /// When it was carried out: numbers of executions.
    pub(crate) executed: Vec<u64>,
    /// By the cluster's clock, as the server saw it. Units: milliseconds since the Unix epoch.
    pub(crate) expires_ms: Option<u64>,
}

/// One execution of a publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Execution {
    pub(crate) seq: u64,
    pub(crate) number: usize,
    pub(crate) at_ms: u64,
    pub(crate) server: usize,
    /// On the master of the majority.
    pub(crate) current: bool,
}

/// An order to end a user's sessions that the broker has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kick {
    /// Whose sessions.
    pub(crate) client: usize,
    /// When it was given.
    pub(crate) asked_ms: u64,
    /// It revokes tokens from before that; sessions with others go on.
    pub(crate) before_ms: Option<u64>,
    /// When it was carried out: sessions that began before it end.
    pub(crate) at_ms: u64,
    /// When whoever gave it was told so.
    pub(crate) told_ms: u64,
}

/// What is known of a run.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) pubs: Vec<Pub>,
    /// By room, in order.
    pub(crate) executions: Vec<Vec<Execution>>,
    /// Which publication a position names.
    pub(crate) places: BTreeMap<(usize, Epoch, u64), usize>,
    newest: Vec<Option<Position>>,
    /// Numbers of executions after which ids may have been forgotten.
    ids_lost: Vec<u64>,
    /// The last probe of each room.
    pub(crate) probes: Vec<Option<usize>>,
    /// When orders to all nodes were carried out first.
    pub(crate) orders: BTreeMap<(Epoch, u64), u64>,
    /// Orders to end a user's sessions that the broker has.
    pub(crate) kicks: Vec<Kick>,
    pub(crate) fences: fences::Fences,
    pub(crate) queries: u64,
    pub(crate) people: presence::People,
    pub(crate) losses: Losses,
    /// Rooms whose cursors were lost.
    pub(crate) losses_blurred: BTreeSet<usize>,
    pub(crate) agents: agents::Agents,
    pub(crate) told: occupancy::Told,
    pub(crate) dialogs: dialogs::Dialogs,
    pub(crate) violation: Option<Violation>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            pubs: Vec::new(),
            executions: vec![Vec::new(); ROOMS_ALL],
            places: BTreeMap::new(),
            newest: vec![None; ROOMS_ALL],
            ids_lost: Vec::new(),
            probes: vec![None; ROOMS_ALL],
            orders: BTreeMap::new(),
            kicks: Vec::new(),
            fences: fences::Fences::default(),
            queries: 0,
            people: presence::People::default(),
            losses: Losses::default(),
            losses_blurred: BTreeSet::new(),
            agents: agents::Agents::default(),
            told: occupancy::Told::default(),
            dialogs: dialogs::Dialogs::default(),
            violation: None,
        }
    }
}

impl Book {
    pub(crate) fn make(&mut self, now_ms: u64, made: Made) -> usize {
        self.pubs.push(Pub {
            made,
            made_ms: now_ms,
            attempts: 0,
            refused: 0,
            acked: false,
            isolated: false,
            executed: Vec::new(),
            expires_ms: None,
        });
        self.pubs.len() - 1
    }

    /// The message by which a client publishes it.
    pub(crate) fn text_of(&self, number: usize) -> String {
        let made = &self.pubs[number].made;
        let (room, pad) = (name_of(made.room), "x".repeat(made.bytes));
        let acks = if made.acks { ",\"requiresAck\":true" } else { "" };
        let ttl = made.ttl_s.map(|ttl| format!("\"ttl\":{ttl}"));
        let requires = made.requires.then(|| "\"requires\":[\"r\"]".to_owned());
        let metadata: Vec<_> = ttl.into_iter().chain(requires).collect();
        format!(
            "{{\"id\":\"p{number}\",\"type\":\"message\",\"room\":\"{room}\"{acks},\"metadata\":{{{}}},\"data\":{{\"n\":{number},\"pad\":\"{pad}\"}}}}",
            metadata.join(",")
        )
    }

    /// Servers have less of everything than before this execution.
    pub(crate) fn all_lost(&mut self, executed: u64) {
        self.ids_lost(executed);
        self.dialogs.lost(executed);
    }

    /// Servers may have forgotten ids that they knew before this execution.
    pub(crate) fn ids_lost(&mut self, executed: u64) {
        self.ids_lost.push(executed);
        // Orders may have been lost with them.
        self.kicks.clear();
    }

    /// Servers have lost data in between.
    pub(crate) fn data_was_lost(&self, after: u64, until: u64) -> bool {
        self.ids_were_lost(after, until)
    }

    /// No server has lost anything in the whole run.
    pub(crate) fn has_lost_nothing(&self) -> bool {
        self.ids_lost.is_empty()
    }

    fn ids_were_lost(&self, after: u64, until: u64) -> bool {
        self.ids_lost.iter().any(|at| (after..=until).contains(at))
    }

    pub(crate) fn newest(&self, room: usize) -> Option<Position> {
        self.newest[room]
    }

    /// Ends the run, unless an earlier violation does.
    pub(crate) fn violate(
        &mut self,
        property: &'static str,
        about: &[String],
        text: impl FnOnce() -> String,
    ) {
        if self.violation.is_none() {
            self.violation = Some(Violation { property, text: text(), about: about.to_vec() });
        }
    }

    /// G2, I4: a position names one publication for ever.
    pub(crate) fn place(&mut self, room: usize, at: Position, number: usize) {
        if self.newest[room].is_none_or(|it| it.epoch != at.epoch || it.offset < at.offset) {
            self.newest[room] = Some(at);
        }
        let first = *self.places.entry((room, at.epoch, at.offset)).or_insert(number);
        if first != number {
            let about = [format!("p{first}"), format!("p{number}")];
            self.violate("G2/I4", &about, || {
                let room = name_of(room);
                format!("{room} {}:{} is p{first} and p{number}", at.epoch, at.offset)
            });
        }
    }
}

impl World {
    /// A server carried a publication out.
    pub(crate) fn book_execution(&mut self, server: usize, publication: &Publication) {
        let seq = self.bus.executed;
        let current = self.bus.is_current(server);
        let now_ms = self.now_ms;
        self.stats.executed += 1;
        self.book_order(publication);
        self.book_talk(server, publication);
        let (Some(room), Some(number)) =
            (room_index(publication.room.as_str()), wire::number_of(&publication.id))
        else {
            return;
        };
        let place = publication.position;
        self.trace.line(now_ms, || {
            let at = place.map_or(String::new(), |at| format!(" at {}:{}", short(at), at.offset));
            format!("server {server} carries out p{number} in {}{at} (#{seq})", name_of(room))
        });
        let execution = Execution { seq, number, at_ms: now_ms, server, current };
        let executions = &mut self.book.executions[room];
        let before = executions
            .iter()
            .rev()
            .find(|it| it.number == number && (it.server == server || it.current && current));
        let before = before.map(|it| it.seq);
        executions.push(execution);
        if let Some(at) = place {
            self.book.place(room, at, number);
        }
        let it = &mut self.book.pubs[number];
        it.expires_ms = it.expires_ms.max(publication.expires_unix_ms);
        it.executed.push(seq);
        let remembered = it.made.acks || rule(room).keep.is_some();
        if let Some(before) = before.filter(|_| remembered)
            && !self.book.ids_were_lost(before, seq)
        {
            let about = [format!("p{number}")];
            self.book.violate("G5/I2", &about, || {
                format!("p{number} was carried out twice (#{before}, #{seq}), and no id was lost")
            });
        }
    }

    /// The run publishes one probe in each room, as a back-end, until it is accepted.
    pub(crate) fn probe(&mut self) {
        self.check_marks();
        for room in 0..ROOMS.len() {
            let made = Made { room, acks: true, requires: false, ttl_s: None, bytes: 0 };
            let number = self.book.make(self.now_ms, made);
            self.book.probes[room] = Some(number);
            self.publish_by_core(number, crate::node::core::Asked::Probe(number));
        }
    }

    /// The run publishes something in a user's own room, as a back-end.
    pub(crate) fn push(&mut self, room: usize) {
        let made = Made { room, acks: true, requires: false, ttl_s: None, bytes: 0 };
        let number = self.book.make(self.now_ms, made);
        self.stats.publications += 1;
        self.publish_by_core(number, crate::node::core::Asked::Push(number));
    }

    fn publish_by_core(&mut self, number: usize, asked: crate::node::core::Asked) {
        let nodes: Vec<_> = (0..self.nodes.len()).filter(|node| self.nodes[*node].up).collect();
        let Some(node) = nodes.get(self.random.index(nodes.len().max(1))).copied() else { return };
        let is_low = crate::inboxes::is_low(self.book.pubs[number].made.room, number);
        let room = name_of(self.book.pubs[number].made.room);
        let publication = Publication {
            id: format!("p{number}").into(),
            kind: "message".into(),
            timestamp: "2026-01-01T00:00:00.000Z".into(),
            sender: "backend".into(),
            requires_ack: crate::inboxes::wants_ack(self.book.pubs[number].made.room, number),
            priority: is_low.then_some(Priority::Low),
            ..Publication::bare(
                roomcast_protocol::room::RoomName::parse(&room).expect("the rules name rooms"),
                roomcast_protocol::content::Content::Json(
                    format!("{{\"n\":{number}}}").into_bytes().into(),
                ),
            )
        };
        self.book.pubs[number].attempts += 1;
        let query = self.ask_core(node, asked);
        let message = roomcast_router::messages::HubMessage::Publish {
            ticket: roomcast_router::messages::Ticket::Query(query),
            publication: std::sync::Arc::new(publication),
            dedup: true,
        };
        let from = crate::node::core::FromLane::Hub(message);
        self.tell_core_from_lane(node, 512, from);
    }

    /// A back-end's publication ended.
    pub(crate) fn push_ended(&mut self, number: usize, outcome: &Result<Accepted, Refused>) {
        let it = &mut self.book.pubs[number];
        match outcome {
            Ok(accepted) if accepted.level == Level::Isolated => it.isolated = true,
            Ok(_) => it.acked = true,
            Err(refused) => it.refused += u32::from(!refused.unknown),
        }
    }

    /// A probe was accepted, or is tried again.
    pub(crate) fn probe_ended(&mut self, number: usize, outcome: &Result<Accepted, Refused>) {
        match outcome {
            Ok(_) => self.book.pubs[number].acked = true,
            Err(refused) => {
                let about = [format!("p{number}")];
                let text = refused.message.clone();
                let now_ms = self.now_ms;
                self.book.violate("G8/I7", &about, || {
                    format!("the probe p{number} is refused at {now_ms} ms: {text}")
                });
            }
        }
    }
}

/// The beginning of an epoch.
pub(crate) fn short(at: Position) -> String {
    let mut text = at.epoch.to_string();
    text.truncate(6);
    text
}
