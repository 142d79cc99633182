//! How far users have got, and read, rooms (G17): what lanes say of them is gathered, and the broker told in steps, one of
//! a room under way at a time, repeated until it is answered: marks only grow. It never decides what stands: the broker
//! does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::position::{Epoch, Keep, Position};
use roomcast_protocol::receipts::{
    MARK_USERS_MAX, MARKS_MAX, Mark, MarkChange, Marked, MarksSet, Receipt, SetMarks,
};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use crate::messages::{HubEffect, LaneMessage, Said};
use crate::talks::Heard;

/// How often a room takes a step for what its users got. Units: milliseconds.
pub(super) const MARKS_MS: u64 = 1_000;

/// The same where a user waits for the answer. Units: milliseconds.
pub(super) const MARKS_SAID_MS: u64 = 250;

/// How long after a step was not answered it is made again. Units: milliseconds.
pub(super) const MARKS_AGAIN_MS: u64 = 500;

/// How long a user waits for an answer; what was said may be done all the same. Units: milliseconds.
pub(super) const SAID_MS: u64 = 5_000;

/// Steps under way at once, each of another room; the other rooms wait for their turn.
pub(super) const MARK_STEPS_MAX: usize = 64;

/// Marks that users said, and that wait; beyond it they are refused.
pub(super) const SAID_MAX: usize = 4_096;

/// Users of all rooms whose marks by arriving wait; those beyond are marked by what they get later.
pub(super) const ARRIVED_MAX: usize = 65_536;

/// A user's own mark that waits for its step.
#[derive(Debug)]
struct Asked {
    lane: LaneId,
    session: SessionKey,
    reply: ReplyTo,
    said: Said,
    /// Units: monotonic milliseconds.
    until_ms: u64,
}

impl Asked {
    fn offset(&self, mark: Mark) -> Option<u64> {
        match mark {
            Mark::Delivered => self.said.delivered,
            Mark::Read => self.said.read,
        }
    }
}

/// What waits in a room.
#[derive(Debug)]
struct RoomMarks {
    keep: Keep,
    /// Of what has arrived.
    epoch: Epoch,
    /// How far each user has certainly got.
    arrived: BTreeMap<Box<str>, u64>,
    /// Oldest first.
    said: VecDeque<Asked>,
    under_way: bool,
    /// When the last step left. Units: monotonic milliseconds.
    stepped_ms: Option<u64>,
    /// When it is looked at. Units: monotonic milliseconds.
    due_ms: Option<u64>,
    /// Users of a step: fewer where one for whom there is no place would stop the others.
    users_max: usize,
}

/// A step under way.
#[derive(Debug)]
struct Step {
    room: RoomName,
    epoch: Epoch,
    changes: Vec<MarkChange>,
    arrived: Vec<(Box<str>, u64)>,
    said: Vec<Asked>,
}

/// Marks on their way to the broker.
#[derive(Debug, Default)]
pub(super) struct Marks {
    rooms: BTreeMap<RoomName, RoomMarks>,
    deadlines: BTreeSet<(u64, RoomName)>,
    /// Bounds: [`MARK_STEPS_MAX`].
    steps: BTreeMap<u64, Step>,
    /// When something that users said is given up. Bounds: for each room as many as [`SAID_MS`] has [`MARKS_SAID_MS`].
    ends: BTreeSet<(u64, RoomName)>,
    requests: u64,
    /// Those of conversations, by the numbers of their questions.
    for_talks: BTreeMap<u64, u64>,
    /// Bounds: [`SAID_MAX`].
    said: usize,
    /// Bounds: [`ARRIVED_MAX`].
    arrived: usize,
}

impl Marks {
    /// Nothing is kept, and nothing on its way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        let empty = self.rooms.is_empty() && self.steps.is_empty() && self.ends.is_empty();
        empty && self.deadlines.is_empty() && self.said == 0 && self.arrived == 0
    }

    /// A step that a conversation takes by itself.
    pub(super) fn ask_for_talk(&mut self, asked: u64) -> u64 {
        self.requests += 1;
        self.for_talks.insert(self.requests, asked);
        self.requests
    }

    fn room(&mut self, name: &RoomName, keep: Keep, epoch: Epoch) -> &mut RoomMarks {
        self.rooms.entry(name.clone()).or_insert_with(|| RoomMarks {
            keep,
            epoch,
            arrived: BTreeMap::new(),
            said: VecDeque::new(),
            under_way: false,
            stepped_ms: None,
            due_ms: None,
            users_max: MARKS_MAX,
        })
    }

    /// Has the room looked at in its time, `rest_ms` after its last step at the earliest.
    fn list(&mut self, mono_ms: u64, name: &RoomName, rest_ms: u64) {
        let Some(room) = self.rooms.get_mut(name).filter(|room| !room.under_way) else { return };
        let rested_ms = room.stepped_ms.map_or(0, |at| at.saturating_add(rest_ms));
        let at_ms = rested_ms.max(mono_ms);
        if room.due_ms.is_some_and(|due_ms| due_ms <= at_ms) {
            return;
        }
        if let Some(due_ms) = room.due_ms.replace(at_ms) {
            self.deadlines.remove(&(due_ms, name.clone()));
        }
        self.deadlines.insert((at_ms, name.clone()));
    }

    /// The same, by what waits in it.
    fn list_waiting(&mut self, mono_ms: u64, name: &RoomName) {
        let said = self.rooms.get(name).is_some_and(|room| !room.said.is_empty());
        self.list(mono_ms, name, if said { MARKS_SAID_MS } else { MARKS_MS });
    }

    /// A user has certainly got so much; `current`: the room's epoch, as the node knows it. Says whether there was a place
    /// for it.
    fn arrive(
        &mut self,
        (name, keep): (&RoomName, Keep),
        user: Box<str>,
        at: Position,
        current: Option<Epoch>,
    ) -> bool {
        let full = self.arrived >= ARRIVED_MAX;
        let room = self.room(name, keep, at.epoch);
        let mut freed = 0;
        if room.epoch != at.epoch {
            if current != Some(at.epoch) && !room.arrived.is_empty() {
                return true; // of an epoch that is over
            }
            freed = std::mem::take(&mut room.arrived).len();
            room.epoch = at.epoch;
        }
        let held = room.arrived.get_mut(&user);
        let is_new = held.is_none();
        match held {
            Some(offset) => *offset = at.offset.max(*offset),
            None if full => {}
            None => {
                room.arrived.insert(user, at.offset);
            }
        }
        self.arrived = self.arrived + usize::from(is_new && !full) - freed;
        !is_new || !full
    }

    /// Takes what the room's next step says.
    fn take_step(&mut self, name: &RoomName) -> Option<Step> {
        let room = self.rooms.get_mut(name)?;
        let epoch = room.said.front().map_or(room.epoch, |asked| asked.said.epoch);
        let mut changes: BTreeMap<(Box<str>, Mark), u64> = BTreeMap::new();
        let (mut said, mut later) = (Vec::new(), VecDeque::new());
        for asked in std::mem::take(&mut room.said) {
            let offsets = Mark::ALL.map(|mark| (mark, asked.offset(mark)));
            let of = |mark| changes.get(&(asked.said.user.clone(), mark)).copied();
            let fits = |(mark, offset): &(Mark, Option<u64>)| match (of(*mark), offset) {
                (Some(held), Some(offset)) => held == *offset,
                (Some(_) | None, None) | (None, Some(_)) => true,
            };
            let space = said.len() < room.users_max && changes.len() + 2 <= MARKS_MAX;
            if !space || asked.said.epoch != epoch || !offsets.iter().all(fits) {
                later.push_back(asked);
                continue;
            }
            for (mark, offset) in offsets {
                if let Some(offset) = offset {
                    changes.insert((asked.said.user.clone(), mark), offset);
                }
            }
            said.push(asked);
        }
        room.said = later;
        // Who said less at the same time is answered for that; the more that has arrived follows.
        let said_less = |user: &str, offset: u64| {
            let held = changes.get(&(user.into(), Mark::Delivered));
            held.is_some_and(|held| *held < offset)
        };
        let space = (room.users_max - said.len()).min(MARKS_MAX - changes.len());
        let space = if epoch == room.epoch { space } else { 0 };
        let waiting = room.arrived.iter().filter(|(user, offset)| !said_less(user, **offset));
        let arrived = waiting.take(space).map(|(user, offset)| (user.clone(), *offset));
        let arrived: Vec<_> = arrived.collect();
        for (user, offset) in &arrived {
            room.arrived.remove(user);
            changes.entry((user.clone(), Mark::Delivered)).or_insert(*offset);
        }
        let change = |((user, mark), offset)| MarkChange { user, mark, offset };
        let changes: Vec<MarkChange> = changes.into_iter().map(change).collect();
        if changes.is_empty() {
            return None;
        }
        Some(Step { room: name.clone(), epoch, changes, arrived, said })
    }

    /// The step is made again, with what came meanwhile. Who waited for too long is given back.
    fn put_back(&mut self, mono_ms: u64, step: Step) -> Vec<Asked> {
        let Step { room: name, epoch, arrived, said, .. } = step;
        let Some(room) = self.rooms.get_mut(&name) else { return said };
        let mut late = Vec::new();
        for asked in said.into_iter().rev() {
            if asked.until_ms <= mono_ms {
                late.push(asked);
            } else {
                room.said.push_front(asked);
            }
        }
        let same = room.epoch == epoch;
        self.arrived -= arrived.len();
        for (user, offset) in arrived.into_iter().filter(|_| same) {
            self.arrived += usize::from(!room.arrived.contains_key(&user));
            let held = room.arrived.entry(user).or_default();
            *held = offset.max(*held);
        }
        late
    }
}

impl Hub {
    /// A user has certainly got a room up to there.
    pub(super) fn mark_arrived(&mut self, now: Now, name: &RoomName, user: Box<str>, at: Position) {
        let Some(keep) = self.keep_of(name).filter(|_| at.offset > 0) else { return };
        let track = self.rooms.get(name).and_then(|room| room.track.as_ref());
        let current = track.and_then(|track| track.at).map(|at| at.epoch);
        let placed = self.receipts.marks.arrive((name, keep), user, at, current);
        self.counters.marks_dropped += u64::from(!placed);
        self.receipts.marks.list_waiting(now.mono_ms, name);
    }

    /// A user says how far it has got, or read, a room.
    pub(super) fn mark_said(
        &mut self,
        now: Now,
        (lane, session): (LaneId, SessionKey),
        reply: ReplyTo,
        (name, said): (RoomName, Said),
        out: &mut Vec<HubEffect>,
    ) {
        let until_ms = now.mono_ms.saturating_add(SAID_MS).next_multiple_of(MARKS_SAID_MS);
        let asked = Asked { lane, session, reply, said, until_ms };
        let Some(keep) = self.keep_of(&name) else {
            return refuse(asked, &name, &has_none(), out);
        };
        if !self.may_ask() || self.receipts.marks.said >= SAID_MAX {
            let text = "The broker is away, or too many marks wait";
            return refuse(asked, &name, &Refused::unavailable(text.into(), MARKS_MS), out);
        }
        self.receipts.marks.said += 1;
        self.receipts.marks.ends.insert((until_ms, name.clone()));
        self.receipts.marks.room(&name, keep, asked.said.epoch).said.push_back(asked);
        self.receipts.marks.list_waiting(now.mono_ms, &name);
    }

    /// Makes the steps that are due, and gives up what users waited for too long.
    pub(super) fn mark_steps(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.receipts.marks.ends.first().is_some_and(|(at, _)| *at <= now.mono_ms) {
            let Some((_, name)) = self.receipts.marks.ends.pop_first() else { break };
            let Some(room) = self.receipts.marks.rooms.get_mut(&name) else { continue };
            let late = |asked: &Asked| asked.until_ms <= now.mono_ms;
            let (late, rest): (Vec<_>, Vec<_>) = room.said.drain(..).partition(late);
            room.said = rest.into();
            self.give_up_said(late, &name, out);
        }
        while self.may_ask()
            && self.receipts.marks.steps.len() < MARK_STEPS_MAX
            && self.receipts.marks.deadlines.first().is_some_and(|(at, _)| *at <= now.mono_ms)
        {
            let Some((_, name)) = self.receipts.marks.deadlines.pop_first() else { break };
            let Some(room) = self.receipts.marks.rooms.get_mut(&name) else { continue };
            room.due_ms = None;
            let keep = room.keep;
            let Some(step) = self.receipts.marks.take_step(&name) else {
                self.receipts.marks.rooms.remove(&name);
                continue;
            };
            self.receipts.marks.requests += 1;
            let request = self.receipts.marks.requests;
            if let Some(room) = self.receipts.marks.rooms.get_mut(&name) {
                room.under_way = true;
                room.stepped_ms = Some(now.mono_ms);
            }
            let changes = step.changes.clone();
            let set = Box::new(SetMarks { room: name, epoch: step.epoch, changes });
            self.receipts.marks.steps.insert(request, step);
            out.push(HubEffect::Broker(BrokerCommand::SetMarks { request, keep, set }));
        }
    }

    /// When [`Hub::mark_steps`] has something to do. Units: monotonic milliseconds.
    pub(super) fn next_marks_ms(&self) -> Option<u64> {
        let steps = self.may_ask() && self.receipts.marks.steps.len() < MARK_STEPS_MAX;
        let step = self.receipts.marks.deadlines.first().filter(|_| steps).map(|(at, _)| *at);
        let end = self.receipts.marks.ends.first().map(|(at, _)| *at);
        step.into_iter().chain(end).min()
    }

    /// The broker answered a step, or did not.
    pub(super) fn marked(
        &mut self,
        now: Now,
        request: u64,
        outcome: Option<MarksSet>,
        out: &mut Vec<HubEffect>,
    ) {
        if let Some(asked) = self.receipts.marks.for_talks.remove(&request) {
            return self.heard_talk(now, asked, Heard::Set(outcome), out);
        }
        let Some(step) = self.receipts.marks.steps.remove(&request) else { return };
        let name = step.room.clone();
        let users = step.arrived.len() + step.said.len();
        if let Some(room) = self.receipts.marks.rooms.get_mut(&name) {
            room.under_way = false;
            room.users_max = match outcome {
                Some(MarksSet::Full) => (users / 2).max(1),
                Some(MarksSet::Done { .. }) => (room.users_max * 2).min(MARKS_MAX),
                Some(MarksSet::Epoch(_)) | None => room.users_max,
            };
        }
        let mut rest_ms = (step.changes.len() >= MARKS_MAX).then_some(0);
        match outcome {
            Some(MarksSet::Done { head, marked }) => {
                self.counters.marks_set += step.changes.len() as u64;
                self.answer_said(step, head.epoch, &marked, out);
            }
            Some(MarksSet::Epoch(head)) => self.renew_marks(step, head, out),
            Some(MarksSet::Full) if users <= 1 => {
                self.counters.marks_refused_full += 1;
                self.end_said(step, &is_full(), out);
            }
            Some(MarksSet::Full) => {
                rest_ms = Some(0);
                let late = self.receipts.marks.put_back(now.mono_ms, step);
                self.give_up_said(late, &name, out);
            }
            None => {
                rest_ms = Some(MARKS_AGAIN_MS);
                let late = self.receipts.marks.put_back(now.mono_ms, step);
                self.give_up_said(late, &name, out);
                if let Some(room) = self.receipts.marks.rooms.get_mut(&name) {
                    room.stepped_ms = Some(now.mono_ms);
                }
            }
        }
        match rest_ms {
            Some(rest_ms) => self.receipts.marks.list(now.mono_ms, &name, rest_ms),
            None => self.receipts.marks.list_waiting(now.mono_ms, &name),
        }
    }

    /// Tells those who said so what stands.
    fn answer_said(
        &mut self,
        step: Step,
        epoch: Epoch,
        marked: &[Marked],
        out: &mut Vec<HubEffect>,
    ) {
        let Step { room: name, changes, arrived, said, .. } = step;
        self.receipts.marks.arrived -= arrived.len();
        self.receipts.marks.said -= said.len();
        for asked in said {
            let stands = |mark| {
                asked.offset(mark)?;
                let is_own = |it: &MarkChange| it.user == asked.said.user && it.mark == mark;
                marked.get(changes.iter().position(is_own)?).copied()
            };
            let [delivered, read] = Mark::ALL.map(stands);
            let receipt = Receipt { user: asked.said.user.clone(), delivered, read };
            answer(asked, &name, Ok((epoch, Box::new(receipt))), out);
        }
    }

    /// The room has another epoch: who marks by the former one asks anew, and what arrived in it is nobody's.
    fn renew_marks(&mut self, step: Step, head: Position, out: &mut Vec<HubEffect>) {
        if let Some(room) = self.receipts.marks.rooms.get_mut(&step.room)
            && room.epoch == step.epoch
        {
            self.receipts.marks.arrived -= std::mem::take(&mut room.arrived).len();
            room.epoch = head.epoch;
        }
        let text = "The room has another epoch now: subscribe again, and mark by its positions";
        let refused = Refused::because(Refusal::Schema, text.into());
        self.end_said(step, &refused, out);
    }

    fn end_said(&mut self, step: Step, refused: &Refused, out: &mut Vec<HubEffect>) {
        self.receipts.marks.arrived -= step.arrived.len();
        self.receipts.marks.said -= step.said.len();
        for asked in step.said {
            refuse(asked, &step.room, refused, out);
        }
    }

    fn give_up_said(&mut self, late: Vec<Asked>, name: &RoomName, out: &mut Vec<HubEffect>) {
        self.receipts.marks.said -= late.len();
        let text = "The broker did not answer in time";
        let refused = Refused { unknown: true, ..Refused::unavailable(text.into(), MARKS_MS) };
        for asked in late {
            refuse(asked, name, &refused, out);
        }
    }
}

fn refuse(asked: Asked, name: &RoomName, refused: &Refused, out: &mut Vec<HubEffect>) {
    answer(asked, name, Err(refused.clone()), out);
}

fn answer(
    asked: Asked,
    name: &RoomName,
    outcome: Result<(Epoch, Box<Receipt>), Refused>,
    out: &mut Vec<HubEffect>,
) {
    let Asked { lane, session, reply, .. } = asked;
    let room = name.clone();
    out.push(HubEffect::Lane(lane, LaneMessage::Marked { session, reply, room, outcome }));
}

/// The room's rule keeps no receipts.
pub(crate) fn has_none() -> Refused {
    let text = "This room keeps no receipts: its rule needs `receipts = true`";
    Refused::because(Refusal::Schema, text.into())
}

fn is_full() -> Refused {
    let text = format!("The room has receipts of {MARK_USERS_MAX} users, as many as it may");
    Refused::because(Refusal::Limit, text.into())
}
