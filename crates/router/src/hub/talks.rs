//! Conversations: what sessions ask of them, each carried out by the steps of [`crate::talks`]. Owns how many are under way,
//! when a question that was not answered is asked again, and how long somebody waits.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Act, Answered};
use roomcast_protocol::envelope::{Accepted, BrokerCommand};
use roomcast_protocol::ids::{LaneId, SessionKey};
use roomcast_protocol::position::{Keep, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::RECEIPTS_PAGE_MAX;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Hub;
use super::held::{Held, Load};
use super::lists::Changed;
use super::relay::RETRY_MS;
use super::standings::Member;
use super::turns::{Line, Turns};
use crate::messages::{HubEffect, LaneMessage, MemberChange, QueryId, Talk, TalkOf, Ticket};
use crate::orders::{Order, Whom};
use crate::reader::Reader;
use crate::talks::{Counted, Heard, NUMBERS, Question, Speaker, Step, Talking};

/// What the name of the room begins with in which a user's conversations are listed. Nobody hears it.
const INDEX: &str = "$talks-";

/// What such a room keeps: of each conversation the newest entry alone.
const INDEX_KEEP: Keep = Keep {
    size: 1_000,
    bytes_max: 1 << 20,
    ttl_ms: 365 * 24 * 3_600_000,
    replicated: false,
    inbox: None,
};

/// Things asked of conversations that are under way at once; beyond it they are refused.
pub const TALKS_MAX: usize = 4_096;

/// How long somebody waits for an answer; what was said may be done all the same. Units: milliseconds.
pub const TALK_MS: u64 = 5_000;

/// How long after a question that was not answered it is asked again. Units: milliseconds.
const TALK_AGAIN_MS: u64 = 500;

/// How long what has begun to stand is completed although nobody waits any more. Units: milliseconds.
pub const TALK_ENDS_MS: u64 = 60_000;

/// Users and conversations of which is remembered that they were listed; beyond it all are forgotten, and listed again.
const ENROLLED_MAX: usize = 65_536;

/// Conversations of which is remembered what was counted; beyond it all are counted anew.
const COUNTED_MAX: usize = 16_384;

/// Users of whom is remembered that no group is called so; beyond it all are forgotten, and looked at again.
const PEOPLE_MAX: usize = 65_536;

/// Messages that reached users and wait to be marked, by conversation and user; those beyond are marked by what comes later.
pub const REACHED_MAX: usize = 65_536;

/// Of those, so many are marked at once.
pub(super) const REACHED_UNDER_WAY_MAX: usize = 256;

/// What the room of groups' numbers keeps: who is asked for again has the same number for that long.
const NUMBERS_KEEP: Keep = Keep { size: 10_000, ..INDEX_KEEP };

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Asker {
    /// A session.
    Session(LaneId, SessionKey, ReplyTo),
    /// The server API, which wants it told to all nodes; how long they have. Units: milliseconds.
    Query(QueryId, u64),
    /// The user is to be told its conversations.
    List(Box<str>),
    /// This node's lanes are to obey what is answered.
    Standing(Member),
}

/// One thing asked.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) talking: Talking,
    /// What it holds.
    pub(super) load: Load,
    /// `None`: nobody, or nobody any more.
    pub(super) asker: Option<Asker>,
    /// When it is asked again, or its asker told that nobody knows, or it is given up. Units: monotonic milliseconds.
    due_ms: u64,
    /// Units: monotonic milliseconds.
    until_ms: u64,
    /// A question was not answered.
    again: bool,
    /// [`Talks::admissions`] when it began.
    admissions: u64,
    /// Its asker went out of a group meanwhile, of which it may show something.
    barred: bool,
    /// Where it has to wait for its turn.
    line: Option<Line>,
    /// Whom it marks, if a message that was given is to be marked.
    reached: Option<((RoomName, Box<str>), Position)>,
}

/// What is asked of conversations.
#[derive(Debug, Default)]
pub(super) struct Talks {
    numbers: u64,
    /// Bounds: [`TALKS_MAX`], and what this node asks by itself, each with a bound of its own.
    pub(super) open: BTreeMap<u64, Open>,
    /// What they hold.
    pub(super) held: Held,
    deadlines: BTreeSet<(u64, u64)>,
    /// Questions under way, by whose they are and their place there.
    pub(super) questions: BTreeMap<u64, (u64, usize)>,
    /// Bounds: [`ENROLLED_MAX`].
    enrolled: BTreeSet<(Box<str>, RoomName)>,
    /// With whom somebody talks, and no group is called so. Bounds: [`PEOPLE_MAX`].
    people: BTreeSet<Box<str>>,
    /// How often that was in doubt.
    admissions: u64,
    /// What was counted when something was said. Bounds: [`COUNTED_MAX`].
    pub(super) counted: BTreeMap<RoomName, Counted>,
    /// Up to where messages have reached users. Bounds: [`REACHED_MAX`].
    pub(super) reached: BTreeMap<(RoomName, Box<str>), Position>,
    /// Those of them that are being marked.
    pub(super) marking: BTreeSet<(RoomName, Box<str>)>,
    /// Marks that are under way, whoever wants them. Bounds: [`TALKS_MAX`], and [`REACHED_UNDER_WAY_MAX`].
    turns: Turns,
}

impl Talks {
    /// Things under way.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// What they hold. Units: bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Nothing is asked, and nothing waits.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.open.is_empty()
            && self.deadlines.is_empty()
            && self.questions.is_empty()
            && self.reached.is_empty()
            && self.marking.is_empty()
            && self.turns.are_over()
            && self.held.bytes() == 0
    }

    /// What was counted when something was said.
    fn remember(&mut self, room: &RoomName, counted: Counted) {
        if self.counted.get(room).is_some_and(|held| !counted.is_newer(held)) {
            return;
        }
        if self.counted.len() >= COUNTED_MAX {
            self.counted.clear();
        }
        self.counted.insert(room.clone(), counted);
    }

    /// Of what is asked nobody waits for the answer.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// An order came: what it changes of somebody's groups may not be asked, or answered, as if nothing had changed.
    pub(super) fn obey(&mut self, order: &Order) {
        match order {
            Order::Admit(user, membership) => {
                self.doubt_groups_of(user);
                self.is_a_group(conversation::group_of(&membership.room));
            }
            Order::Leave(group, Whom::User(user)) => {
                self.doubt_groups_of(user);
                self.bar(group, user);
            }
            Order::Leave(_, Whom::Session(_))
            | Order::End(_)
            | Order::Revoke(_)
            | Order::Enter(..) => {}
        }
    }

    /// A user's groups have changed: whoever asks for them asks again.
    fn doubt_groups_of(&mut self, user: &str) {
        self.open.values_mut().for_each(|open| open.talking.doubt_groups_of(user));
    }

    /// A user goes out of a group: what it asked before is not answered with what was said since.
    pub(super) fn bar(&mut self, group: &RoomName, user: &str) {
        for open in self.open.values_mut() {
            open.barred |= open.talking.shows(group, user);
        }
    }

    /// A group has members, or `None`: any may have.
    pub(super) fn is_a_group(&mut self, group: Option<&str>) {
        self.admissions += 1;
        match group {
            Some(group) => drop(self.people.remove(group)),
            None => self.people.clear(),
        }
    }

    /// What was listed may be lost.
    pub(super) fn doubt(&mut self) {
        self.enrolled.clear();
    }
}

/// What the room in which a user's conversations are listed keeps; `None`: it is another room.
pub(super) fn index_keep(room: &str) -> Option<Keep> {
    room.starts_with(INDEX).then_some(INDEX_KEEP)
}

/// What a system room keeps of which conversations know; `None`: it is another room.
pub(super) fn keep(room: &str) -> Option<Keep> {
    index_keep(room).or_else(|| (room == NUMBERS).then_some(NUMBERS_KEEP))
}

/// Of what the newest entry is enough there: the conversation.
pub(super) fn index_key(publication: &Publication) -> Option<Box<str>> {
    let Content::Text(name) = &publication.content else { return None };
    std::str::from_utf8(name).ok().map(Into::into)
}

pub(super) fn index_of(user: &str) -> Option<RoomName> {
    RoomName::system(&format!("{INDEX}{user}")).ok()
}

impl Hub {
    /// A session asks something.
    pub(super) fn talk(&mut self, now: Now, talk: Talk, out: &mut Vec<HubEffect>) {
        let Talk { lane, session, reply, user, said_in, of } = talk;
        let signal =
            matches!(of, TalkOf::Room(_, Act::Signal(_)) | TalkOf::Group(_, _, Act::Signal(_)));
        let request = reply.id.clone().unwrap_or_default();
        let who = Speaker { user, said_in, request, at_unix_ms: now.unix_ms };
        let asker = Asker::Session(lane, session, reply);
        // Every session of such a dialect asks for its groups once: there are as many as connections.
        let counts = !matches!(of, TalkOf::Groups(_));
        let talking = match of {
            TalkOf::Room(room, act) => {
                let counted = self.talks.counted.get(&room).cloned();
                let talking = Talking::new(who, room, act).map(|talking| talking.knowing(counted));
                let is_known =
                    |it: &Talking| it.other().is_none_or(|it| self.talks.people.contains(it));
                talking
                    .map(|it| if signal || is_known(&it) { it } else { it.unless_it_is_a_group() })
            }
            TalkOf::Group(room, number, act) => Some(Talking::in_group(who, (room, number), act)),
            TalkOf::All => index_of(&who.user).map(|index| Talking::all(who, index)),
            TalkOf::Groups(device) => Talking::groups(who, device),
        };
        let Some(mut talking) = talking else {
            let refused = Refused::new(Refusal::PermissionDenied);
            return answer(asker, Err(refused), out);
        };
        if let Some(refused) = self.refuses_talk(talking.asked(), counts) {
            if !signal {
                answer(asker, Err(refused), out);
            }
            return;
        }
        self.counters.talks += 1;
        if signal {
            for (_, question) in talking.questions() {
                if let Question::Publish(publication) = question {
                    self.signal(publication, out);
                }
            }
            return;
        }
        self.begin_talk(now, talking, Some(asker), None, out);
    }

    /// A user is to be this in a group, or none of its members any more.
    pub(super) fn set_member(
        &mut self,
        now: Now,
        (query, timeout_ms): (QueryId, u64),
        change: MemberChange,
        out: &mut Vec<HubEffect>,
    ) {
        let who = Speaker::of_no_session(self.config.node.clone(), now);
        let text = "A group's id has at most 249 bytes, a user's name 247";
        let bad = || Refused::because(Refusal::BadName, text.into());
        let talking = Talking::member(who, change).ok_or_else(bad);
        let admitted =
            talking.and_then(|it| self.refuses_talk(it.asked(), true).map_or(Ok(it), Err));
        match admitted {
            Ok(talking) => {
                self.counters.talks += 1;
                let asker = Some(Asker::Query(query, timeout_ms));
                self.begin_talk(now, talking, asker, None, out);
            }
            Err(refused) => out.push(HubEffect::Ordered(query, Err(refused))),
        }
    }

    pub(super) fn begin_talk(
        &mut self,
        now: Now,
        talking: Talking,
        asker: Option<Asker>,
        reached: Option<((RoomName, Box<str>), Position)>,
        out: &mut Vec<HubEffect>,
    ) {
        #[cfg(feature = "planted")]
        let talking = talking.planted(self.planted);
        self.talks.numbers += 1;
        let number = self.talks.numbers;
        let until_ms = now.mono_ms.saturating_add(TALK_MS);
        let (due_ms, again, admissions) = (until_ms, false, self.talks.admissions);
        let line = talking.marks();
        line.iter().for_each(|line| self.talks.turns.enter(line, number));
        let barred = false;
        // What sessions ask that begin is bounded by their number.
        let load = Load::asked(if talking.is_of_a_session() { 0 } else { talking.asked() });
        self.talks.held.begin(&load);
        let open = Open {
            talking,
            load,
            asker,
            due_ms,
            until_ms,
            again,
            admissions,
            barred,
            line,
            reached,
        };
        self.talks.deadlines.insert((until_ms, number));
        self.talks.open.insert(number, open);
        self.ask_talk(now, number, out);
    }

    /// Asks what is to be asked now.
    fn ask_talk(&mut self, now: Now, number: u64, out: &mut Vec<HubEffect>) {
        let Some(open) = self.talks.open.get_mut(&number) else { return };
        open.again = false;
        if open.line.as_ref().is_some_and(|line| !self.talks.turns.is_first(line, number)) {
            return;
        }
        let questions = open.talking.questions();
        if questions.is_empty() {
            let step = open.talking.settled();
            return self.step_talk(now, number, step, out);
        }
        for (place, question) in questions {
            self.talks.numbers += 1;
            let asked = self.talks.numbers;
            self.talks.questions.insert(asked, (number, place));
            #[cfg(feature = "planted")]
            let question = self.named_anew(question, asked);
            match question {
                Question::Read(room, span) => self.reads(Reader::Talk(asked), room, span, out),
                Question::Publish(publication) => {
                    self.publish(now, Ticket::Talk(asked), publication, true, out);
                }
                Question::Online(users) => self.who_is_online(asked, &users, out),
                Question::Enroll(user, room) => self.enroll(now, asked, user, &room, out),
                Question::Entries(directory, entries) if self.may_ask() => {
                    out.push(HubEffect::Broker(BrokerCommand::Directory {
                        request: asked,
                        directory,
                        entries,
                    }));
                }
                Question::Entries(..) => self.heard_talk(now, asked, Heard::Entries(None), out),
                Question::Enter(set) if self.may_ask() => {
                    let set = Box::new(set);
                    out.push(HubEffect::Broker(BrokerCommand::SetEntry { request: asked, set }));
                }
                Question::Enter(_) => self.heard_talk(now, asked, Heard::Entered(None), out),
                Question::Receipts(room, after) => {
                    let Some(keep) = self.keep_of(&room).filter(|_| self.may_ask()) else {
                        self.heard_talk(now, asked, Heard::Receipts(None), out);
                        continue;
                    };
                    let of = None;
                    let count_max = RECEIPTS_PAGE_MAX;
                    let request = self.receipts.ask_for_talk(asked);
                    out.push(HubEffect::Broker(BrokerCommand::Receipts {
                        request,
                        room,
                        keep,
                        of,
                        after,
                        count_max,
                    }));
                }
                Question::Set(set) => {
                    let Some(keep) = self.keep_of(&set.room).filter(|_| self.may_ask()) else {
                        self.heard_talk(now, asked, Heard::Set(None), out);
                        continue;
                    };
                    let request = self.receipts.marks.ask_for_talk(asked);
                    let set = Box::new(set);
                    out.push(HubEffect::Broker(BrokerCommand::SetMarks { request, keep, set }));
                }
            }
        }
    }

    /// With the planted bug: what goes into an inbox has an id of its own.
    #[cfg(feature = "planted")]
    fn named_anew(&self, question: Question, asked: u64) -> Question {
        use crate::planted::Planted;
        if let Question::Publish(publication) = &question
            && self.planted == Some(Planted::CopyNamedAnew)
            && roomcast_protocol::conversation::owner(&publication.room).is_some()
        {
            let id = format!("{}-{asked}", publication.id).into();
            return Question::Publish(Publication { id, ..(**publication).clone() }.into());
        }
        question
    }

    /// The user is to find the conversation among its own.
    fn enroll(
        &mut self,
        now: Now,
        asked: u64,
        user: Box<str>,
        room: &RoomName,
        out: &mut Vec<HubEffect>,
    ) {
        let index = index_of(&user);
        let is_known = !self.talks.enrolled.insert((user, room.clone()));
        let Some(index) = index.filter(|_| !is_known) else {
            return self.heard_talk(now, asked, Heard::Published(Ok(Accepted::WHOLE)), out);
        };
        if self.talks.enrolled.len() > ENROLLED_MAX {
            self.talks.enrolled.clear();
        }
        let publication = Publication {
            id: format!("{}-{asked}-{}", self.config.node, now.unix_ms).into(),
            kind: "conversation".into(),
            timestamp: roomcast_protocol::time::iso8601(now.unix_ms).into(),
            sender: self.config.node.clone(),
            ..Publication::bare(index, Content::Text(room.as_str().to_owned().into()))
        };
        self.publish(now, Ticket::Talk(asked), publication.into(), true, out);
    }

    /// What only those get who listen just now, and the room does not keep.
    fn signal(&mut self, publication: std::sync::Arc<Publication>, out: &mut Vec<HubEffect>) {
        self.counters.published += 1;
        let (ticket, dedup, keep, collapse) = (Ticket::Node, false, None, None);
        let command = BrokerCommand::Publish { ticket, publication, dedup, keep, collapse };
        out.push(HubEffect::Broker(command));
    }

    pub(super) fn step_talk(
        &mut self,
        now: Now,
        number: u64,
        step: Step,
        out: &mut Vec<HubEffect>,
    ) {
        match step {
            Step::Wait => {}
            Step::Ask => self.ask_talk(now, number, out),
            Step::Again => {
                let Some(open) = self.talks.open.get_mut(&number) else { return };
                if !std::mem::replace(&mut open.again, true) {
                    let at_ms = now.mono_ms.saturating_add(TALK_AGAIN_MS).min(open.until_ms);
                    self.talks.deadlines.remove(&(open.due_ms, number));
                    open.due_ms = at_ms;
                    self.talks.deadlines.insert((at_ms, number));
                }
            }
            Step::Over(outcome) => self.end_talk(now, number, outcome, out),
        }
    }

    /// It is over: whoever waits is told.
    pub(super) fn end_talk(
        &mut self,
        now: Now,
        number: u64,
        outcome: Result<Answered, Refused>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(mut open) = self.talks.open.remove(&number) else { return };
        self.talks.deadlines.remove(&(open.due_ms, number));
        self.talks.held.end(&open.load);
        if let Some(next) = open.line.and_then(|line| self.talks.turns.leave(&line, number)) {
            self.ask_talk(now, next, out);
        }
        let is_unknown = outcome.as_ref().is_err_and(|refused| refused.unknown);
        let is_sure = outcome.is_ok() && open.admissions == self.talks.admissions;
        if let Some(other) = open.talking.other().filter(|_| is_sure) {
            if self.talks.people.len() >= PEOPLE_MAX {
                self.talks.people.clear();
            }
            self.talks.people.insert(other.into());
        }
        // What could not be written has to be found again: the speaker's own mark is among it.
        if let Some(counted) = open.talking.take_counted().filter(|_| outcome.is_ok()) {
            self.talks.remember(open.talking.room(), counted);
        }
        let changed = Changed::by(&open.talking, &outcome);
        match (open.asker.take(), outcome) {
            (Some(Asker::Query(query, timeout_ms)), Ok(answered)) => {
                let (group, asked) = (open.talking.room().clone(), (query, timeout_ms));
                self.tell_of_member(now, asked, &group, answered, changed, out);
            }
            (Some(Asker::List(user)), outcome) => self.listed(now, &user, outcome),
            (Some(Asker::Standing(member)), outcome) => {
                self.member_is_read(member, outcome, out);
            }
            (Some(asker), outcome) => {
                changed.into_iter().for_each(|it| self.tell_list(it));
                // While orders may be missing, it may be asked by somebody who may not be told any more.
                let is_doubted = open.barred || self.control.is_open();
                let shows =
                    matches!(&outcome, Ok(Answered::Messages(_) | Answered::Conversations { .. }));
                let outcome = if shows && is_doubted {
                    Err(Refused::unavailable("Not possible at the moment".into(), RETRY_MS))
                } else {
                    outcome
                };
                answer(asker, outcome, out);
            }
            (None, _) => changed.into_iter().for_each(|it| self.tell_list(it)),
        }
        if let Some((key, at)) = open.reached {
            self.talks.marking.remove(&key);
            if is_unknown && !self.talks.reached.contains_key(&key) {
                self.note_reached(key, at);
            }
            self.mark_reached(now, out);
        }
    }

    /// Asks again, and tells those who waited for too long.
    pub(super) fn talks_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while self.talks.deadlines.first().is_some_and(|(at, _)| *at <= now.mono_ms) {
            let Some((_, number)) = self.talks.deadlines.pop_first() else { break };
            let Some(open) = self.talks.open.get_mut(&number) else { continue };
            if open.until_ms > now.mono_ms {
                open.due_ms = open.until_ms;
                self.talks.deadlines.insert((open.until_ms, number));
                self.ask_talk(now, number, out);
                continue;
            }
            let text = "The broker did not answer in time";
            let refused = Refused { unknown: true, ..Refused::unavailable(text.into(), RETRY_MS) };
            match open.asker.take() {
                Some(asker) if open.talking.must_end() => {
                    answer(asker, Err(refused), out);
                    open.until_ms = now.mono_ms.saturating_add(TALK_ENDS_MS - TALK_MS);
                    open.due_ms = open.until_ms;
                    self.talks.deadlines.insert((open.until_ms, number));
                    if open.again {
                        self.ask_talk(now, number, out);
                    }
                }
                asker => {
                    open.asker = asker;
                    self.counters.talks_given_up += 1;
                    self.end_talk(now, number, Err(refused), out);
                }
            }
        }
    }

    /// When [`Hub::talks_turn`] has something to do. Units: monotonic milliseconds.
    pub(super) fn next_talk_ms(&self) -> Option<u64> {
        self.talks.deadlines.first().map(|(at, _)| *at)
    }
}

fn answer(asker: Asker, outcome: Result<Answered, Refused>, out: &mut Vec<HubEffect>) {
    match (asker, outcome) {
        (Asker::Session(lane, session, reply), outcome) => {
            let outcome = outcome.map(Box::new);
            out.push(HubEffect::Lane(lane, LaneMessage::Conversed { session, reply, outcome }));
        }
        (Asker::Query(query, _), Err(refused)) => {
            out.push(HubEffect::Ordered(query, Err(refused)));
        }
        (Asker::Query(..), Ok(_)) | (Asker::List(_) | Asker::Standing(_), _) => {}
    }
}
