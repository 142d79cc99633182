//! Steps of scripts about sessions, presence and inboxes, and what is heard of them.
//!
//! Sessions: `1 saves ann s1 gen=1 secret=7 [detached|ended] [turn=9] [confirmed] [rooms=news,talk] [own=x] [window=ms]
//! [obeyed=4]` (without `rooms` and `own` what is kept stays), `2 takes ann s1 secret=7 new=8 [alive=1,2] [window=ms] [above=5]`, or
//! `2 takes ann any new=8` for the only one without a connection; `2 ends ann order=5` (of epoch 1; `2:5` of the second), `loses session ann s1`. `s2..9` are several, one by one.
//!
//! Presence: `1 sets news 3 +ann/s1 -bob/s2 +cid/s3/2 [life=2] [grace=ms]`: step 3 of node 1's incarnation in the room;
//! a change is a user, its session, and the session's generation (1); `+u*500` are users u001 to u500. More than eight
//! names are only counted. `1 asks news [after=ann] [limit=2]`,
//! `1 lives [life=2] [retired=1] [reads]` (a beat of which the answer is shown), `occupancies news` (of the room's partition),
//! `loses presence news`.
//!
//! Inboxes: `1 publishes box a keep=3 inbox=user [low] [collapse=k]`, `1 looks box [device=d]`, `1 acks box e0:3
//! [above=5,7] [device=d] [told=2]` (`above=3..9/2` are 3, 5, 7 and 9), `loses cursors box`.

use std::collections::BTreeMap;

use super::stage::{Epochs, Stage, options};
use super::{BrokerUnderTest, Lost};
use crate::envelope::{BrokerCommand, BrokerEvent};
use crate::ids::{NodeId, SessionId};
use crate::inbox::{Acked, CursorName, InboxState, Told};
use crate::position::{Epoch, Position};
use crate::presence::{
    Incarnation, Lease, PresenceChange, PresenceDiff, PresenceSet, ROSTER_PAGE_MAX, RosterPage,
    SetPresence,
};
use crate::room::RoomName;
use crate::session::{
    AttachSession, AttachedSession, Former, ResumeToken, RoomRecord, SaveSession, SavedSession,
    Secret, SessionRecord, SessionState, Wish,
};

/// How long sessions can be resumed where a script does not say it. Units: milliseconds.
const WINDOW_MS: u64 = 60_000;

/// More than so many names or numbers are only counted.
const SHOWN_MAX: usize = 8;

type Options<'a> = BTreeMap<&'a str, &'a str>;

impl<B: BrokerUnderTest> Stage<B> {
    /// Takes a node's step; `None`: it cannot be read.
    pub(super) fn stateful(&mut self, node: NodeId, verb: &str, words: &[&str]) -> Option<()> {
        let options = options(words);
        if let Some((first, last)) = words.get(1).and_then(|word| word.split_once("..")) {
            let (first, last): (u64, u64) =
                (first.strip_prefix('s')?.parse().ok()?, last.parse().ok()?);
            for id in first..=last {
                let id = format!("s{id}");
                let mut words = words.to_vec();
                *words.get_mut(1)? = &id;
                self.stateful(node, verb, &words)?;
            }
            return Some(());
        }
        self.request += 1;
        let command = match verb {
            "saves" => self.save(words, &options)?,
            "takes" => self.take(words, &options)?,
            "ends" => {
                let user = (*words.first()?).into();
                let order = order(options.get("order")?)?;
                BrokerCommand::EndSessions { request: self.request, user, order }
            }
            "sets" => self.set(node, words, &options)?,
            "asks" => BrokerCommand::Roster {
                request: self.request,
                room: room(words.first()?)?,
                after: options.get("after").map(|user| (*user).into()),
                count_max: number(&options, "limit", ROSTER_PAGE_MAX.into())?.try_into().ok()?,
            },
            "seeks" => {
                let users = words.iter().skip(1).map(|user| (*user).into()).collect();
                let room = room(words.first()?)?;
                BrokerCommand::Present { request: self.request, room, users }
            }
            "lives" => {
                self.lives.insert(self.request);
                let retired = options.get("retired").map(|life| life.parse().ok());
                let retired = if let Some(life) = retired { Some(life?) } else { None };
                let life = number(&options, "life", 1)?.try_into().ok()?;
                let (seq, taken) = (self.request, Vec::new());
                let told = options.get("told").map(|at| self.epochs.named(at));
                let told = if let Some(at) = told { Some(at?) } else { None };
                let reads = words.contains(&"reads");
                BrokerCommand::Beat { seq, hears: true, life, retired, taken, told, reads }
            }
            "looks" => {
                let cursor = cursor(words, &options)?;
                let keep = self.keep(&cursor.room, &options)??;
                self.looks.insert(self.request, cursor.clone());
                BrokerCommand::Inbox { request: self.request, cursor, keep }
            }
            "acks" => {
                let cursor = cursor(words, &options)?;
                let keep = self.keep(&cursor.room, &options)??;
                let watermark = self.epochs.named(words.get(1)?)?;
                let above = options.get("above").map_or(Some(Vec::new()), |it| list(it))?;
                let count = number(&options, "told", 0)?;
                let number = self.cursors.get(&cursor).copied().unwrap_or(0);
                let told = Told { cursor: number, count };
                BrokerCommand::Ack { cursor, keep, acked: Acked { watermark, above }, told }
            }
            _ => return None,
        };
        self.broker.execute(node, self.mono_ms, command);
        Some(())
    }

    /// Loses something by two names; `None`: it cannot be read.
    pub(super) fn lose_session(&mut self, user: &str, id: &str) -> Option<()> {
        self.broker.lose(Lost::Session { user, session: session(id)? });
        Some(())
    }

    /// Writes down what rooms of a partition became.
    pub(super) fn occupancies(&mut self, name: &str) -> Option<()> {
        let events = self.broker.occupancies(&room(name)?);
        let shown = events.iter().map(|event| self.epochs.occupancy(event));
        let shown: Vec<_> = shown.collect();
        let shown = if shown.is_empty() { "nothing".into() } else { shown.join(", ") };
        self.heard.push(format!("occupancies: {shown}"));
        Some(())
    }

    fn save(&self, words: &[&str], options: &Options<'_>) -> Option<BrokerCommand<u64>> {
        let state = match words {
            _ if words.contains(&"detached") => SessionState::Detached,
            _ if words.contains(&"ended") => SessionState::Ended,
            _ => SessionState::Attached,
        };
        let rooms = |name: &str| {
            let rooms = options.get(name).map_or("", |rooms| *rooms).split(',');
            let rooms = rooms.filter(|name| !name.is_empty());
            rooms
                .map(|name| Some(RoomRecord { room: room(name)?, safe: None, unacked: None }))
                .collect()
        };
        let (rooms, own): (Option<Vec<_>>, Option<Vec<_>>) = (rooms("rooms"), rooms("own"));
        let is_given = options.contains_key("rooms") || options.contains_key("own");
        let save = SaveSession {
            user: (*words.first()?).into(),
            session: session(words.get(1)?)?,
            generation: number(options, "gen", 1)?,
            state,
            secret: secret(options, "secret")?,
            turn: options.contains_key("turn").then(|| secret(options, "turn")).flatten(),
            confirmed: words.contains(&"confirmed"),
            record: is_given.then_some(SessionRecord { rooms: rooms?, own: own? }),
            window_ms: number(options, "window", WINDOW_MS)?,
            obeyed: match options.get("obeyed") {
                Some(at) => Some(order(at)?),
                None => None,
            },
        };
        Some(BrokerCommand::Save { request: self.request, save: Box::new(save) })
    }

    fn take(&self, words: &[&str], options: &Options<'_>) -> Option<BrokerCommand<u64>> {
        let wish = match *words.get(1)? {
            "any" => Wish::OnlyDetached,
            id => {
                let (session, secret) = (session(id)?, secret(options, "secret")?);
                Wish::Token(ResumeToken { session, secret })
            }
        };
        let alive: Vec<u64> = options.get("alive").map_or(Some(Vec::new()), |it| list(it))?;
        let attach = AttachSession {
            user: (*words.first()?).into(),
            wish,
            secret: secret(options, "new")?,
            alive: alive.into_iter().map(NodeId).collect(),
            window_ms: number(options, "window", WINDOW_MS)?,
            above: Some(number(options, "above", 0)?),
        };
        Some(BrokerCommand::Attach { request: self.request, attach: Box::new(attach) })
    }

    fn set(
        &self,
        node: NodeId,
        words: &[&str],
        options: &Options<'_>,
    ) -> Option<BrokerCommand<u64>> {
        let [name, seq, changes @ ..] = words else { return None };
        let changes = changes.iter().filter(|word| !word.contains('='));
        let mut read = Vec::new();
        for text in changes {
            read.extend(change(text)?);
        }
        let life = number(options, "life", 1)?.try_into().ok()?;
        let set = SetPresence {
            room: room(name)?,
            incarnation: Incarnation { node, life },
            seq: seq.parse().ok()?,
            changes: read,
            grace_ms: number(options, "grace", 0)?,
        };
        Some(BrokerCommand::SetPresence { request: self.request, set: Box::new(set) })
    }
}

impl Epochs {
    /// What is heard of sessions, presence and inboxes, where the broker has answered.
    pub(super) fn stateful(&mut self, event: &BrokerEvent<u64>) -> String {
        match event {
            BrokerEvent::Saved { outcome: Some(SavedSession::Saved), .. } => "saved".into(),
            BrokerEvent::Saved { outcome: Some(SavedSession::Fenced), .. } => "fenced".into(),
            BrokerEvent::Saved { outcome: Some(SavedSession::Ended), .. } => "over".into(),
            BrokerEvent::SessionsEnded { done: true, .. } => "ended".into(),
            BrokerEvent::Attached { outcome: Ok(attached), .. } => taken(attached),
            BrokerEvent::Attached { outcome: Err(why), .. } => format!("untaken {}", why.name()),
            BrokerEvent::PresenceSet { outcome: Some(PresenceSet::Reaped), .. } => "reaped".into(),
            BrokerEvent::PresenceSet { outcome: Some(PresenceSet::Done(None)), .. } => {
                "done".into()
            }
            BrokerEvent::PresenceSet { outcome: Some(PresenceSet::Done(Some(diff))), .. } => {
                format!("done {}", self.diff(diff))
            }
            BrokerEvent::Roster { page: Some(page), .. } => self.roster(page),
            BrokerEvent::Present { since: Some(since), .. } => {
                let shown =
                    |it: &Option<u64>| it.map_or(" away".into(), |it| format!(" since {it}"));
                format!("found{}", since.iter().map(shown).collect::<String>())
            }
            BrokerEvent::Inbox { state: Some(state), .. } => self.inbox(state),
            BrokerEvent::BeatAnswered { report: Some(report), .. } => {
                let lease = match report.lease {
                    // Which beat is the first depends on who was asked before: brokers' own tests look at that.
                    Lease::Held | Lease::New => "held",
                    Lease::Lost => "lost",
                };
                let agents = report.agents.iter().map(|diff| format!(" {}", self.diff(diff)));
                let unread = if report.unread.is_empty() { "" } else { " unread" };
                format!("{lease}{}{unread}", agents.collect::<String>())
            }
            BrokerEvent::Saved { outcome: None, .. }
            | BrokerEvent::SessionsEnded { done: false, .. }
            | BrokerEvent::PresenceSet { outcome: None, .. }
            | BrokerEvent::Roster { page: None, .. }
            | BrokerEvent::Present { since: None, .. }
            | BrokerEvent::Inbox { state: None, .. }
            | BrokerEvent::BeatAnswered { report: None, .. }
            | BrokerEvent::MarksSet { .. }
            | BrokerEvent::Receipts { .. }
            | BrokerEvent::EntrySet { .. }
            | BrokerEvent::Directory { .. }
            | BrokerEvent::Occupancies { .. }
            | BrokerEvent::Envelope(_)
            | BrokerEvent::Subscribed { .. }
            | BrokerEvent::Published { .. }
            | BrokerEvent::Heads { .. }
            | BrokerEvent::Read { .. }
            | BrokerEvent::FeedUp { .. }
            | BrokerEvent::FeedDown
            | BrokerEvent::Alive(_)
            | BrokerEvent::Beat { .. } => "unanswered".into(),
        }
    }

    /// The room, who came and went, the version, and how many there are.
    pub(super) fn diff(&mut self, diff: &PresenceDiff) -> String {
        let PresenceDiff { room, version, count, joined, left } = diff;
        let signed = |sign: char, users: &[Box<str>]| {
            let mut users: Vec<_> = users.to_vec();
            users.sort();
            if users.len() > SHOWN_MAX {
                return format!(" {sign}{} users", users.len());
            }
            users.iter().map(|user| format!(" {sign}{user}")).collect::<String>()
        };
        let (joined, left) = (signed('+', joined), signed('-', left));
        format!("{room}{joined}{left} {} of {count}", self.position(*version))
    }

    /// The version of a room of which nothing is known is a name that nobody has heard of.
    fn roster(&mut self, page: &RosterPage) -> String {
        let RosterPage { version, count, users, more } = page;
        let users: String = users.iter().map(|user| format!(" {user}")).collect();
        let more = if *more { " more" } else { "" };
        match version.offset {
            0 => format!("roster{users} of {count}{more}"),
            _ => format!("roster{users} of {count} {}{more}", self.position(*version)),
        }
    }

    fn inbox(&mut self, state: &InboxState) -> String {
        let InboxState { acked, head, .. } = state;
        let watermark = self.position(acked.watermark);
        let above = match acked.above.as_slice() {
            [first, .., last] if acked.above.len() > SHOWN_MAX => {
                format!("+{} from {first} to {last}", acked.above.len())
            }
            all => all.iter().map(|offset| format!("+{offset}")).collect(),
        };
        let (head, first) = (head.position.offset, head.first);
        format!("inbox {watermark}{above} of {first} to {head} lost {}", state.untold())
    }

    /// A position as it is shown; of an epoch that was not heard of it is nobody's.
    fn named(&self, text: &str) -> Option<Position> {
        let (epoch, offset) = text.strip_prefix('e')?.split_once(':')?;
        let epoch = self.at(epoch.parse().ok()?);
        Some(Position { epoch, offset: offset.parse().ok()? })
    }
}

fn taken(attached: &AttachedSession) -> String {
    let AttachedSession { session, generation, record, former } = attached;
    let former = match former {
        Former::Gone => "nobody".into(),
        Former::Attached(node) => format!("node {}", node.0),
        Former::HandedOver(node) => format!("turn of node {}", node.0),
    };
    let names = |rooms: &[RoomRecord]| {
        let names = rooms.iter().map(|it| it.room.as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    let (rooms, own) = (names(&record.rooms), names(&record.own));
    let SessionId(id) = *session;
    format!("taken s{id} gen={generation} rooms=[{rooms}] own=[{own}] from {former}")
}

fn room(name: &str) -> Option<RoomName> {
    RoomName::system(name).ok()
}

/// `s7`.
/// `5` of the first epoch of orders, or `2:5`.
fn order(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once(':').unwrap_or(("1", text));
    Some(Position { epoch: Epoch(epoch.parse().ok()?), offset: offset.parse().ok()? })
}

fn session(text: &str) -> Option<SessionId> {
    text.strip_prefix('s')?.parse().ok().map(SessionId)
}

fn secret(options: &Options<'_>, name: &str) -> Option<Secret> {
    options.get(name)?.parse().ok().map(Secret)
}

fn number(options: &Options<'_>, name: &str, otherwise: u64) -> Option<u64> {
    options.get(name).map_or(Some(otherwise), |it| it.parse().ok())
}

fn list(text: &str) -> Option<Vec<u64>> {
    if let Some((first, rest)) = text.split_once("..") {
        let (last, step) = rest.split_once('/')?;
        let numbers = first.parse().ok()?..=last.parse().ok()?;
        return Some(numbers.step_by(step.parse().ok()?).collect());
    }
    text.split(',').map(|number| number.parse().ok()).collect()
}

fn cursor(words: &[&str], options: &Options<'_>) -> Option<CursorName> {
    let device = options.get("device").copied().unwrap_or_default().into();
    Some(CursorName { room: room(words.first()?)?, device })
}

/// `+ann/s1` or `-ann/s1/2`; `+u*3` are users u001 to u003, each with a session of its own.
fn change(text: &str) -> Option<Vec<PresenceChange>> {
    let present = text.starts_with('+');
    let rest = text.strip_prefix(['+', '-'])?;
    if let Some((name, count)) = rest.split_once('*') {
        let many = (1..=count.parse::<u128>().ok()?).map(|at| PresenceChange {
            session: SessionId(1_000 + at),
            user: format!("{name}{at:03}").into(),
            generation: 1,
            present,
        });
        return Some(many.collect());
    }
    let (user, rest) = rest.split_once('/')?;
    let (id, generation) = rest.split_once('/').unwrap_or((rest, "1"));
    let (session, generation) = (session(id)?, generation.parse().ok()?);
    Some(vec![PresenceChange { session, user: user.into(), generation, present }])
}
