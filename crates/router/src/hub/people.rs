//! Which users are online, in the whole cluster (G19): each is a user of the agents' room under a name that no agent has. The
//! node that is given what changed there tells those with whom the user has a dialog, and who listen, in their inboxes; and
//! whoever came is told which of them are online. Two users tell each other once: what the later one's coming tells of both.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Origin};
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::ids::SessionId;
use roomcast_protocol::lists::List;
use roomcast_protocol::people::{OFFLINE, ONLINE, Status};
use roomcast_protocol::position::{Keep, Kept, Page, Position, Span};
use roomcast_protocol::presence::{AGENTS, AWAY, PERSON, PRESENT_MAX, PresenceChange};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::agents::quote;
use super::asks::Ask;
use super::{Hub, NOTICE_AGAIN_MS, NOTICE_MS, NOTICES_MAX, talks};
use crate::made;
use crate::messages::{HubEffect, Person};
use crate::reader::Reader;
use crate::talks::{Heard, listed};

/// What the name of the room begins with in which stands when a user was online last. Nobody hears it.
const SEEN: &str = "$seen-";

/// What such a room keeps: the newest time.
pub const SEEN_KEEP: Keep = Keep {
    size: 1,
    bytes_max: 1 << 12,
    ttl_ms: 365 * 24 * 3_600_000,
    replicated: false,
    inbox: None,
};

/// Comings and goings of users that wait to be told; those beyond are not, counted.
pub const PEOPLE_MAX: usize = 20_000;

/// Of these, those whose contacts are asked for at once.
pub const PEOPLE_UNDER_WAY_MAX: usize = 8;

/// Contacts of a user: those beyond are not told, as lists of conversations do not have them.
pub const CONTACTS_MAX: usize = 1_000;

/// Notices that have not been accepted, up to which more are made: each contact is told of the user, and the user of it.
pub(super) const NOTICES_BEFORE_MAX: usize = NOTICES_MAX - 2 * CONTACTS_MAX - 1;

/// A session that is an agent as well has two parts in the agents' room: that as a person under its id with this bit turned.
const PART: u128 = 1;

/// How far telling of a coming or going got.
#[derive(Debug)]
enum Stage {
    /// Its contacts are to be asked for. Units: monotonic milliseconds.
    Due(u64),
    /// They are read, or who of them listens is asked.
    UnderWay(Vec<Box<str>>),
    /// Since when the user is online, and each of its contacts is and listens.
    Known(Option<u64>, Vec<Contact>),
}

#[derive(Debug)]
struct Contact {
    user: Box<str>,
    online: Option<u64>,
    listens: Option<u64>,
}

/// A user came or went.
#[derive(Debug)]
struct Turn {
    user: Box<str>,
    came: bool,
    version: Position,
    /// When it was given to this node to tell. Units: milliseconds since the Unix epoch.
    at_unix_ms: u64,
    /// When it is given up. Units: monotonic milliseconds.
    until_ms: u64,
    stage: Stage,
}

/// Who asks who is online.
#[derive(Debug)]
pub(super) enum Asker {
    /// A turn, by its number: its contacts are to be read, or sought.
    Turn(u64),
    /// A conversation's question.
    Talk(u64),
    /// A user is to be told its conversations.
    List(Box<str>),
    /// A read of a lane, whose page tells of these users in the inbox of the last one, who is there under two names.
    Page(u64, Box<Page>, Vec<Box<str>>),
}

/// Comings and goings that are yet to be told, in order.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Bounds: [`PEOPLE_MAX`].
    turns: VecDeque<Turn>,
    /// The number of the first.
    first: u64,
    asks: u64,
    /// Bounds: of turns [`PEOPLE_UNDER_WAY_MAX`], of conversations and reads as many as there are of them.
    asked: BTreeMap<u64, Asker>,
    /// The read whose page has been looked through and is being given.
    checked: Option<u64>,
}

impl People {
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    fn turn(&mut self, number: u64) -> Option<&mut Turn> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.turns.get_mut(at)
    }

    fn ask(&mut self, asker: Asker) -> u64 {
        self.asks += 1;
        self.asked.insert(self.asks, asker);
        self.asks
    }

    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.turns.is_empty() && self.asked.is_empty()
    }
}

/// Whether a user of the agents' room is a person.
pub(super) fn is_person(name: &str) -> bool {
    name.starts_with(PERSON) || name.starts_with(AWAY)
}

/// What a room keeps that says when a user was online last; `None`: it is another room.
pub(super) fn seen_keep(room: &str) -> Option<Keep> {
    room.starts_with(SEEN).then_some(SEEN_KEEP)
}

/// The room that says when a user was online last.
pub(crate) fn seen_of(user: &str) -> Option<RoomName> {
    RoomName::system(&format!("{SEEN}{user}")).ok()
}

fn person(user: &str) -> Box<str> {
    format!("{PERSON}{user}").into()
}

/// As which users of the agents' room one is there, while somebody looks and while nobody does.
fn both(user: &str) -> [Box<str>; 2] {
    [person(user), format!("{AWAY}{user}").into()]
}

impl Hub {
    /// A session of a user came or went, or whether somebody looks at it has changed.
    pub(super) fn person(&mut self, now: Now, Person { change, away }: &Person) {
        let Ok(room) = RoomName::system(AGENTS) else { return };
        let user =
            if *away { format!("{AWAY}{}", change.user).into() } else { person(&change.user) };
        let session = SessionId(change.session.0 ^ PART);
        // Whoever says that nobody looks is not expected back.
        self.presence(now, &room, PresenceChange { session, user, ..*change }, *away);
    }

    /// A user came or went, and this node is to tell it.
    pub(super) fn tell_of_person(&mut self, now: Now, version: Position, name: &str, came: bool) {
        let Some(user) = name.strip_prefix(PERSON) else { return };
        if self.people.turns.len() >= PEOPLE_MAX {
            self.counters.people_lost += 1;
            return;
        }
        let until_ms = now.mono_ms.saturating_add(NOTICE_MS);
        let (at_unix_ms, stage) = (now.unix_ms, Stage::Due(now.mono_ms));
        let turn = Turn { user: user.into(), came, version, at_unix_ms, until_ms, stage };
        self.people.turns.push_back(turn);
        self.notices.hold(version, true);
    }

    /// Asks for contacts of those whose turn it is, and tells those that are known, in order.
    pub(super) fn people_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        self.tell_known(now);
        for at in 0..PEOPLE_UNDER_WAY_MAX.min(self.people.turns.len()) {
            let number = self.people.first + at as u64;
            let Some(turn) = self.people.turns.get_mut(at) else { continue };
            let Stage::Due(due_ms) = turn.stage else { continue };
            if due_ms > now.mono_ms {
                continue;
            }
            match talks::index_of(&turn.user).filter(|_| turn.until_ms > now.mono_ms) {
                Some(index) => {
                    turn.stage = Stage::UnderWay(Vec::new());
                    let asked = self.people.ask(Asker::Turn(number));
                    self.reads(Reader::Person(asked), index, Span::above(0), out);
                }
                None => {
                    turn.stage = Stage::Known(None, Vec::new());
                    self.counters.people_lost += 1;
                }
            }
        }
        self.tell_known(now);
    }

    /// When [`Hub::people_turn`] has something to do by itself. Units: monotonic milliseconds.
    pub(super) fn next_people_ms(&self) -> Option<u64> {
        let turns = self.people.turns.iter().take(PEOPLE_UNDER_WAY_MAX);
        turns.filter_map(|turn| if let Stage::Due(at) = turn.stage { Some(at) } else { None }).min()
    }

    /// A page of a user's list of conversations was read, or not.
    pub(super) fn contacts_read(
        &mut self,
        now: Now,
        asked: u64,
        page: Option<Page>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(Asker::Turn(number)) = self.people.asked.remove(&asked) else { return };
        let Some(turn) = self.people.turn(number) else { return };
        let Stage::UnderWay(contacts) = &mut turn.stage else { return };
        let Some(page) = page else {
            turn.stage = Stage::Due(now.mono_ms.saturating_add(NOTICE_AGAIN_MS));
            return;
        };
        let others = listed(&page).filter_map(|room| conversation::with(&room, &turn.user));
        let others = others.filter(|other| *other != turn.user);
        contacts.extend(others.take(CONTACTS_MAX.saturating_sub(contacts.len())));
        let last = page.entries.last().and_then(Kept::position).map(|at| at.offset);
        match (last.filter(|_| !page.whole), talks::index_of(&turn.user)) {
            (Some(last), Some(index)) => {
                let asked = self.people.ask(Asker::Turn(number));
                self.reads(Reader::Person(asked), index, Span::above(last), out);
            }
            (None, _) | (_, None) => {
                contacts.sort_unstable();
                contacts.dedup();
                let own = person(&turn.user);
                let users =
                    [own].into_iter().chain(contacts.iter().flat_map(|it| both(it))).collect();
                self.ask_online(Asker::Turn(number), users, out);
            }
        }
    }

    fn ask_online(&mut self, asker: Asker, users: Vec<Box<str>>, out: &mut Vec<HubEffect>) {
        let Ok(room) = RoomName::system(AGENTS) else { return };
        let request = self.people.ask(asker);
        out.push(HubEffect::Broker(BrokerCommand::Present { request, room, users }));
    }

    /// Is the user there, looked at or not?
    pub(super) fn is_user_there(&mut self, user: Box<str>, out: &mut Vec<HubEffect>) {
        let both = both(&user).to_vec();
        self.ask_online(Asker::List(user), both, out);
    }

    /// A conversation wants to know which of these users are online.
    pub(super) fn who_is_online(
        &mut self,
        asked: u64,
        users: &[Box<str>],
        out: &mut Vec<HubEffect>,
    ) {
        let users = users.iter().map(|user| person(user)).collect();
        self.ask_online(Asker::Talk(asked), users, out);
    }

    /// The broker has answered who is online, or has not.
    pub(super) fn found(
        &mut self,
        now: Now,
        request: u64,
        since: Option<Vec<Option<u64>>>,
        out: &mut Vec<HubEffect>,
    ) {
        match self.people.asked.remove(&request) {
            Some(Asker::Talk(asked)) => self.heard_talk(now, asked, Heard::Online(since), out),
            Some(Asker::Page(read, page, users)) => {
                let page = since.map(|since| self.only_true(*page, &users, &since));
                self.people.checked = Some(read);
                self.page(now, read, page, out);
                self.people.checked = None;
            }
            Some(Asker::List(user)) => self.list_found(now, &user, since, out),
            Some(Asker::Turn(number)) => self.people.found(now, number, since.as_deref()),
            None => {}
        }
    }

    /// Tells those that are known, in order, while there is place for notices.
    fn tell_known(&mut self, now: Now) {
        let is_known = |turn: &mut Turn| matches!(turn.stage, Stage::Known(..));
        while self.notices.len() <= NOTICES_BEFORE_MAX
            && let Some(turn) = self.people.turns.pop_front_if(is_known)
        {
            self.people.first += 1;
            let version = turn.version;
            self.tell_contacts(now, turn);
            self.notices.hold(version, false);
        }
    }

    fn tell_contacts(&mut self, now: Now, turn: Turn) {
        let Turn { user, came, version, at_unix_ms, stage, .. } = turn;
        let Stage::Known(own, contacts) = stage else { return };
        let is_there = came && own.is_some_and(|since| since <= version.offset);
        if !came && let Some(room) = seen_of(&user) {
            let seen = status(room, (&user, false), version, at_unix_ms);
            let kept = self.notices.add(now, (version, &user), seen);
            self.counters.notices_lost += u64::from(!kept);
        }
        let was_there = |since: &u64| *since <= version.offset;
        for Contact { user: contact, online, listens } in contacts {
            let online = online.filter(was_there);
            if online.or(listens).is_some_and(|since| was_there(&since)) {
                self.notice(now, &contact, (&user, came), version, at_unix_ms);
            }
            // Of two who came at once each is told by the turn of the other.
            if is_there && online.is_some_and(|since| since < version.offset) {
                self.notice(now, &user, (&contact, true), version, at_unix_ms);
            }
        }
    }

    /// Somebody is to be told that a user is online, or not.
    fn notice(
        &mut self,
        now: Now,
        to: &str,
        (user, online): (&str, bool),
        version: Position,
        at_unix_ms: u64,
    ) {
        let Ok(inbox) = conversation::inbox(to) else { return };
        let told = status(inbox, (user, online), version, at_unix_ms);
        let kept = self.notices.add(now, (version, user), told);
        self.counters.notices_lost += u64::from(!kept);
    }

    /// A page for a lane that tells who is online, or which conversations there are, is given once it is known what of that is true.
    pub(super) fn checks_page(
        &mut self,
        read: u64,
        page: Option<Page>,
        out: &mut Vec<HubEffect>,
    ) -> Option<Option<Page>> {
        let Some(page) = page else { return Some(None) };
        let room = match self.asks.under_way.get(&read) {
            Some(Ask::History(Reader::Lane { .. }, room)) => room,
            Some(_) | None => return Some(Some(page)),
        };
        let Some(owner) = conversation::owner(room).filter(|_| self.people.checked != Some(read))
        else {
            return Some(Some(page));
        };
        let told = page.entries.iter().filter_map(status_of).map(|it| person(it.user));
        let mut users: Vec<_> = told.collect();
        if users.is_empty() && !page.entries.iter().any(|it| list_of(it).is_some()) {
            return Some(Some(page));
        }
        users.sort_unstable();
        users.dedup();
        users.truncate(PRESENT_MAX - 2);
        users.extend(both(owner));
        self.ask_online(Asker::Page(read, Box::new(page), users.clone()), users, out);
        None
    }

    /// What of a page tells who is online and is not true any more, or was told before the inbox's owner came, is not given;
    /// nor is a list of conversations from before.
    fn only_true(&mut self, page: Page, users: &[Box<str>], since: &[Option<u64>]) -> Page {
        let [own, away] = since.last_chunk().copied().unwrap_or_default();
        // Whether nobody looks at the client is no matter for a list.
        let there = own.into_iter().chain(away).min();
        let is_since = |list: List| there.is_some_and(|there| there <= list.since);
        let known: BTreeMap<&str, Option<u64>> =
            users.iter().map(|user| &**user).zip(since.iter().copied()).collect();
        let is_true = |status: &Status<'_>| {
            let since = known.get(&*person(status.user)).copied().flatten();
            let both = since.zip(own).map(|(since, own)| since.max(own));
            if status.online { both == Some(status.version.offset) } else { since.is_none() }
        };
        let mut dropped = 0;
        let one = |kept: Kept| {
            let told = list_of(&kept).is_none_or(is_since);
            if told && status_of(&kept).is_none_or(|it| is_true(&it)) {
                return kept;
            }
            dropped += 1;
            kept.position().map_or(kept, Kept::Removed)
        };
        let entries: Vec<_> = page.entries.into_iter().map(one).collect();
        self.counters.statuses_dropped += dropped;
        Page { entries, ..page }
    }
}

impl People {
    /// Who of a turn's contacts is online is known, or was not answered.
    fn found(&mut self, now: Now, number: u64, since: Option<&[Option<u64>]>) {
        let Some(turn) = self.turn(number) else { return };
        let Stage::UnderWay(contacts) = &mut turn.stage else { return };
        turn.stage = match since.and_then(<[_]>::split_first) {
            Some((own, both)) => {
                let each = std::mem::take(contacts).into_iter().zip(both.chunks_exact(2));
                let each = each.map(|(user, both)| Contact {
                    user,
                    online: both.first().copied().flatten(),
                    listens: both.last().copied().flatten(),
                });
                Stage::Known(*own, each.collect())
            }
            None => Stage::Due(now.mono_ms.saturating_add(NOTICE_AGAIN_MS)),
        };
    }
}

fn status_of(kept: &Kept) -> Option<Status<'_>> {
    readable(kept).and_then(Status::of)
}

fn list_of(kept: &Kept) -> Option<List> {
    readable(kept).and_then(List::of)
}

fn readable(kept: &Kept) -> Option<&Publication> {
    match kept {
        Kept::Publication(publication) => Some(publication),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    }
}

/// What tells that a user is online, or not. Told once more, by whichever node, it has the same id.
pub(super) fn status(
    room: RoomName,
    (user, online): (&str, bool),
    version: Position,
    at_unix_ms: u64,
) -> Publication {
    let kind = if online { ONLINE } else { OFFLINE };
    let mut text = String::from("{\"userId\":");
    quote(user, &mut text);
    if !online {
        text.push_str(&format!(",\"lastSeen\":{at_unix_ms}"));
    }
    text.push('}');
    let about = conversation::inbox(user).unwrap_or_else(|_| room.clone());
    let origin = Origin { position: Some(version), ..Origin::of(about, at_unix_ms) };
    Publication {
        id: format!("{kind}-{}-{}-{:016x}", version.epoch, version.offset, made::hash(user)).into(),
        kind: kind.into(),
        timestamp: iso8601(at_unix_ms).into(),
        sender: user.into(),
        requires_ack: true,
        origin: Some(Box::new(origin)),
        ..Publication::bare(room, Content::Json(text.into()))
    }
}
