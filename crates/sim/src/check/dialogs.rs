//! What was said in dialogs, where servers put it, and what its people may therefore hear: an answer names where it stands,
//! an event or a message shows what was said, to nobody else, once for each device; marks rise, and nobody is said to have
//! got or read what it has not.

use std::collections::BTreeMap;

use roomcast_protocol::conversation;
use roomcast_protocol::directory::SetEntry;
use roomcast_protocol::inbox::CursorName;
use roomcast_protocol::position::Position;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::groups::Groups;
use crate::talkers::packets::{Packet, Payload, Shown};
use crate::talkers::{chat_named, dialog, is_group, name, room_of, user_named};
use crate::world::World;

/// How the error begins that those get who change what was taken back.
pub(crate) const TAKEN_BACK: &str = "This message was deleted";

/// What kind of thing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    New,
    /// The saying of this number is another from now on.
    Edit(usize),
    /// It is taken back.
    Delete(usize),
}

/// One thing that a client said.
#[derive(Clone, Debug)]
pub(crate) struct Saying {
    pub(crate) what: What,
    /// Which client.
    pub(crate) by: usize,
    /// Its user, and with whom that talks: somebody, or a group.
    pub(crate) people: (usize, usize),
    /// Executions until it was said first.
    pub(crate) asked: u64,
    /// It was answered for a user of the group's name: its user was no member.
    pub(crate) strayed: bool,
    /// What was answered: number and id, and executions until then.
    pub(crate) answered: Option<(u64, String, u64)>,
}

impl Saying {
    pub(crate) const fn new(what: What, by: usize, people: (usize, usize), asked: u64) -> Self {
        Self { what, by, people, asked, strayed: false, answered: None }
    }

    pub(crate) fn room(&self) -> RoomName {
        let of = if self.strayed { dialog } else { room_of };
        of(self.people.0, self.people.1)
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self.what {
            What::New => "new",
            What::Edit(_) => "edit",
            What::Delete(_) => "delete",
        }
    }
}

/// Where a server put something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) seq: u64,
    pub(super) at_ms: u64,
    pub(super) at: Position,
    server: usize,
    /// On the master of the majority.
    pub(crate) current: bool,
}

/// Something asked, or given, that may mark what its user got and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    people: (usize, usize),
    /// Which message by which mark; of something said all before it.
    mark: Option<(&'static str, u64)>,
    /// Executions until then.
    seq: u64,
    at_ms: u64,
}

/// How long a node completes what has begun to stand. Units: milliseconds. Source: the hub.
const ENDS_MS: u64 = 60_000;

/// How long that takes where nothing is wrong with the node, and how long something stays wrong. Units: milliseconds.
const CALM_MS: u64 = 3_000;

/// All that is known of dialogs.
#[derive(Debug, Default)]
pub(crate) struct Dialogs {
    pub(crate) sayings: Vec<Saying>,
    /// By room and id.
    placed: BTreeMap<(RoomName, String), Vec<Placed>>,
    /// Numbers of executions after which servers had less than before.
    losses: Vec<u64>,
    causes: Vec<Cause>,
    /// Which node has things put somewhere just now.
    pub(crate) node: usize,
    /// The furthest message that an inbox was told to be marked, by room, mark and user, and the execution of that.
    rose: BTreeMap<(RoomName, RoomName, String), (u64, u64)>,
    /// When messages were marked first, as their authors were told, and executions until then.
    times: BTreeMap<(RoomName, usize, String, String), (u64, u64)>,
    /// Who is in which group.
    pub(crate) groups: Groups,
    /// Number of the execution since which an inbox knows a device.
    known: BTreeMap<(RoomName, Box<str>), u64>,
    /// Up to which message a user may count as having got, or read, what another one said.
    marks: BTreeMap<(String, (usize, usize)), u64>,
}

impl Dialogs {
    pub(crate) fn make(&mut self, saying: Saying) -> usize {
        self.sayings.push(saying);
        self.sayings.len() - 1
    }

    /// Under which number it was answered.
    pub(crate) fn number_of(&self, saying: usize) -> u64 {
        self.sayings[saying].answered.as_ref().map_or(0, |it| it.0)
    }

    /// Messages of a user's that were answered.
    pub(crate) fn answered_of(&self, user: usize) -> Vec<usize> {
        let all = self.sayings.iter().enumerate();
        let own = all
            .filter(|(_, it)| it.what == What::New && it.people.0 == user && it.answered.is_some())
            .filter(|(_, it)| !it.strayed);
        own.map(|(number, _)| number).collect()
    }

    /// Servers have less from now on. A device whose place in its inbox is lost may begin where its user's furthest one is.
    pub(crate) fn lost(&mut self, executed: u64) {
        self.losses.push(executed);
        self.known.clear();
        self.groups.doubt();
    }

    /// Since which execution the inbox knows the device.
    pub(crate) fn known_since(&self, room: &RoomName, device: &str) -> Option<u64> {
        self.known.get(&(room.clone(), device.into())).copied()
    }

    /// Where it was put, each time.
    pub(crate) fn placed(&self, room: &RoomName, id: &str) -> &[Placed] {
        self.placed.get(&(room.clone(), id.to_owned())).map_or(&[], |it| it)
    }

    /// The user may count as being so far in the dialog.
    pub(crate) fn may_mark(&mut self, kind: &str, people: (usize, usize), number: u64) {
        let may = self.marks.entry((kind.to_owned(), people)).or_default();
        *may = number.max(*may);
    }

    /// The furthest message that an inbox was told to be read by a user.
    pub(crate) fn told_read(&self, inbox: &RoomName, room: &RoomName, by: usize) -> u64 {
        let key = (inbox.clone(), room.clone(), format!("read {}", name(by)));
        self.rose.get(&key).map_or(0, |it| it.0)
    }

    fn may(&self, kind: &str, people: (usize, usize)) -> u64 {
        self.marks.get(&(kind.to_owned(), people)).copied().unwrap_or(0)
    }

    fn said(&self, id: &str) -> Option<&Saying> {
        let number: usize = id.strip_prefix('m')?.parse().ok()?;
        self.sayings.get(number)
    }
}

/// A device among those of all members of a group.
pub(crate) fn member(user: &str, device: &str) -> Box<str> {
    format!("{user} {device}").into()
}

impl World {
    /// What stood when this was executed may be lost by now, or stand twice.
    pub(crate) fn talks_blurred_since(&self, seq: u64) -> bool {
        let bus = &self.bus;
        let mut servers = bus.servers.iter().enumerate();
        self.book.dialogs.losses.iter().any(|at| *at >= seq)
            || servers.any(|(at, it)| it.writes && !it.dead && !bus.is_current(at))
    }

    /// A server takes how far a member's device is in a group. What is of another epoch says little.
    pub(crate) fn note_place(&mut self, server: usize, set: &SetEntry) {
        let user = set.directory.as_str().strip_prefix("$cursors-");
        let (place, value) = (set.name.split_once(' '), set.value.as_deref().unwrap_or_default());
        if let (Some(user), Some((room, device))) = (user, place)
            && let Ok(room) = RoomName::parse(room)
            && value.starts_with(self.place_of(&room).epoch.to_string().as_bytes())
        {
            self.note_device(server, &CursorName { room, device: member(user, device) });
        }
    }

    /// A server knows a device in its inbox, or in a group.
    pub(crate) fn note_device(&mut self, server: usize, cursor: &CursorName) {
        if self.bus.is_current(server) {
            let key = (cursor.room.clone(), cursor.device.clone());
            self.book.dialogs.known.entry(key).or_insert(self.bus.executed);
        }
    }

    /// Something is asked, or given, that may mark a message.
    pub(crate) fn cause(&mut self, people: (usize, usize), mark: Option<(&'static str, u64)>) {
        let (seq, at_ms) = (self.bus.executed, self.now_ms);
        self.book.dialogs.causes.push(Cause { people, mark, seq, at_ms });
    }

    /// An inbox is told of a mark: no older one than before, unless both were under way at once.
    fn check_mark_rises(&mut self, publication: &Publication) {
        let Publication { room, kind, sender, origin, .. } = publication;
        let wire = match &**kind {
            "delivered" => "dlvrd",
            "read" => "read",
            _ => return,
        };
        let Some(origin) = origin else { return };
        let Some(number) = origin.position.map(|at| at.offset) else { return };
        let key = (room.clone(), origin.room.clone(), format!("{wire} {sender}"));
        let before = self.book.dialogs.rose.get(&key).copied();
        let Some((furthest, seq)) = before.filter(|(it, _)| *it > number) else {
            self.book.dialogs.rose.insert(key, (number, self.bus.executed));
            return;
        };
        let author = conversation::owner(room).and_then(user_named);
        let group = conversation::group_of(&origin.room).and_then(chat_named);
        let (Some(by), Some(author)) = (user_named(sender), group.or(author)) else { return };
        let (now_ms, troubled_ms) = (self.now_ms, self.nodes[self.book.dialogs.node].troubled_ms);
        let may = self.book.dialogs.causes.iter().any(|it| {
            let ends_ms = if troubled_ms + CALM_MS > it.at_ms { ENDS_MS } else { CALM_MS };
            let open = it.seq <= seq && it.at_ms + ends_ms > now_ms;
            let is_it = it.mark.is_none_or(|(mark, up_to)| mark == wire && up_to >= number);
            it.people == (by, author) && is_it && open
        });
        if !may && !self.talks_blurred_since(seq) {
            let about = [room.to_string(), origin.room.to_string()];
            let text = format!(
                "{room} is told {wire} {number} of {}, and was told {furthest} (#{seq})",
                origin.room
            );
            self.book.violate("chat: marks", &about, || text);
        }
    }

    /// A server has put something into the room of a dialog or a group, or into somebody's inbox: no id stands twice.
    pub(super) fn book_talk(&mut self, server: usize, publication: &Publication) {
        let (room, Some(at)) = (&publication.room, publication.position) else { return };
        let is_inbox = conversation::owner(room).is_some_and(|it| user_named(it).is_some());
        let people = conversation::people(room);
        let group = conversation::group_of(room).and_then(chat_named);
        if !is_inbox && people.is_none() && group.is_none() {
            return;
        }
        let (seq, current) = (self.bus.executed, self.bus.is_current(server));
        let id = publication.id.to_string();
        self.trace.line(self.now_ms, || {
            format!("server {server} puts {id} into {room} at {}:{} (#{seq})", at.epoch, at.offset)
        });
        // Who says something has read what was said before.
        if let Some([one, other]) = people.as_ref().map(|it| it.each_ref().map(|it| user_named(it)))
            && let (Some(one), Some(other)) = (one, other)
            && publication.kind == "new".into()
        {
            let from = user_named(&publication.sender).unwrap_or(one);
            let with = if from == one { other } else { one };
            self.book.dialogs.may_mark("read", (from, with), at.offset);
        }
        if current && is_inbox {
            self.check_mark_rises(publication);
        }
        let placed = self.book.dialogs.placed.entry((room.clone(), id.clone())).or_default();
        let same = |it: &&Placed| it.server == server || it.current && current;
        let before = placed.iter().rev().find(same).map(|it| it.seq);
        placed.push(Placed { seq, at_ms: self.now_ms, at, server, current });
        if let Some(before) = before
            && !self.book.dialogs.losses.iter().any(|it| (before..=seq).contains(it))
        {
            let (about, room) = ([id.clone()], room.clone());
            self.book.violate("chat: once", &about, || {
                format!("{id} was put into {room} twice (#{before}, #{seq}), and nothing was lost")
            });
        }
    }

    /// A request is answered: what it said stands under that number, the same one each time.
    pub(crate) fn check_answered(&mut self, saying: usize, number: u64, id: &str) {
        let seq = self.bus.executed;
        let it = &self.book.dialogs.sayings[saying];
        let ((user, with), asked) = (it.people, it.asked);
        let stands_in = |room: &RoomName| {
            self.book.dialogs.placed(room, id).iter().any(|it| it.at.offset == number)
        };
        let strayed = is_group(with) && !stands_in(&it.room()) && stands_in(&dialog(user, with));
        let room = if strayed { dialog(user, with) } else { it.room() };
        let expected = match it.what {
            What::New | What::Edit(_) => format!("m{saying}"),
            What::Delete(of) => format!("delete-{}", self.book.dialogs.number_of(of)),
        };
        let placed = self.book.dialogs.placed(&room, id);
        let stands = placed.iter().any(|it| it.at.offset == number);
        let about = [format!("m{saying}")];
        if id != expected || !stands {
            let placed = placed.to_vec();
            self.book.violate("chat: answers", &about, || {
                format!(
                    "m{saying} ({expected}) is answered as {id} at {number} of {room}: {placed:?}"
                )
            });
        } else if strayed && self.is_in_since(user, with, asked) {
            self.book.violate("chat: answers", &about, || {
                format!("m{saying} of a member of {} is put into {room}", name(with))
            });
        }
        let it = &mut self.book.dialogs.sayings[saying];
        (it.answered, it.strayed) = (Some((number, id.to_owned(), seq)), strayed);
    }

    /// A message that is to be changed is refused as not there, or as another's, or as taken back.
    pub(crate) fn check_refused_saying(&mut self, saying: usize, exception: &str) {
        let it = &self.book.dialogs.sayings[saying];
        let (What::Edit(of) | What::Delete(of)) = it.what else {
            let about = [format!("m{saying}")];
            let text = format!("m{saying} is refused: {exception}");
            return self.book.violate("chat: answers", &about, || text);
        };
        let (user, with) = it.people;
        let deletion = format!("delete-{}", self.book.dialogs.number_of(of));
        let is_deleted = !self.book.dialogs.placed(&it.room(), &deletion).is_empty();
        if is_deleted && exception.starts_with(TAKEN_BACK) && matches!(it.what, What::Edit(_)) {
            return;
        }
        let is_there = !is_group(with) || self.is_in_since(user, with, it.asked);
        if is_there && !self.talks_blurred_since(self.first_seq(of)) {
            let about = [format!("m{saying}"), format!("m{of}")];
            let text = format!("m{saying} is refused, and m{of} is not lost: {exception}");
            self.book.violate("chat: answers", &about, || text);
        }
    }

    /// The first execution of a saying; of one that was taken in by no server the newest of all.
    pub(crate) fn first_seq(&self, saying: usize) -> u64 {
        let it = &self.book.dialogs.sayings[saying];
        let id = it.answered.as_ref().map_or_else(|| format!("m{saying}"), |it| it.1.clone());
        let placed = self.book.dialogs.placed(&it.room(), &id);
        placed.first().map_or(self.bus.executed, |it| it.seq)
    }

    /// An event tells of something said: to one of the two, of what was said there, under its number, once.
    pub(crate) fn check_event(
        &mut self,
        talker: usize,
        (user, with): (usize, usize),
        (kind, is_new): (&str, bool),
        payload: &Payload,
    ) {
        let (id, number) = (&payload.client_message_id, payload.message_id);
        let room = room_of(user, with);
        let placed = self.book.dialogs.placed(&room, id);
        let first = placed.first().map_or(self.bus.executed, |it| it.seq);
        let stood = placed.iter().any(|it| it.at.offset == number);
        let said = self.book.dialogs.said(id);
        let fits = match said {
            Some(it) => {
                it.kind() == kind
                    && room_of(it.people.0, it.people.1) == room
                    && name(it.people.0) == payload.sender
                    && payload.message == *id
            }
            None => kind == "delete" && id.starts_with("delete-"),
        };
        let about = [format!("t{talker}"), id.clone()];
        if !fits || !stood {
            let placed = placed.to_vec();
            self.book.violate("chat: privacy", &about, || {
                format!(
                    "t{talker} is told {kind} {payload:?} in {room}, where it stood at {placed:?}"
                )
            });
        } else if !is_new && !self.talks_blurred_since(first) {
            self.book.violate("chat: once", &about, || {
                format!("t{talker} is shown {kind} {id} of {room} again, and nothing was lost")
            });
        } else if is_group(with) {
            let at_ms = placed.first().map_or(self.now_ms, |it| it.at_ms);
            self.check_may_hear(talker, (user, with), (id, first, at_ms));
        }
    }

    /// A message of an answer is what was said there, or what was said instead.
    pub(crate) fn check_shown(
        &mut self,
        talker: usize,
        (user, with): (usize, usize),
        (message, asked): (&Shown, u64),
    ) {
        let mut room = room_of(user, with);
        let id = &message.client_message_id;
        if is_group(with) && self.is_strayed(user, with, message) {
            room = dialog(user, with);
        } else if is_group(with) {
            self.check_may_read(talker, (user, with), (id, asked));
        }
        let placed = self.book.dialogs.placed(&room, id);
        let stood = placed.iter().any(|it| it.at.offset == message.message_id);
        let said = self.book.dialogs.said(id);
        let talks_in = |it: &Saying| room_of(it.people.0, it.people.1) == room_of(user, with);
        let is_said = said.is_some_and(|it| {
            it.what == What::New && talks_in(it) && name(it.people.0) == message.sender
        });
        let text = &message.message;
        let is_text = text == id
            || text.is_empty() && message.status == "deleted"
            || self
                .book
                .dialogs
                .said(text)
                .is_some_and(|it| matches!(it.what, What::Edit(_)) && talks_in(it));
        if !stood || !is_said || !is_text {
            let (about, placed) = ([format!("t{talker}"), id.clone()], placed.to_vec());
            self.book.violate("chat: privacy", &about, || {
                format!("t{talker} is shown {message:?} in {room}, where it stood at {placed:?}")
            });
        }
    }

    /// A mark says no more than its user got, or said to have read.
    pub(crate) fn check_mark(
        &mut self,
        talker: usize,
        kind: &str,
        (user, with): (usize, usize),
        payload: &Payload,
    ) {
        let number = payload.message_id;
        let (by, chat) = if is_group(with) {
            (user_named(&payload.user_id).unwrap_or(user), with)
        } else {
            (with, user)
        };
        let dialogs = &self.book.dialogs;
        let read = dialogs.may("read", (by, chat));
        let may = if kind == "read" { read } else { read.max(dialogs.may("dlvrd", (by, chat))) };
        let room = room_of(user, with);
        let about = [format!("t{talker}"), room.to_string()];
        if number > may {
            let text =
                format!("t{talker} is told {kind} {number} by {}, who is at {may}", name(by));
            self.book.violate("chat: marks", &about, || text);
        }
        let (key, seq) =
            ((room, by, kind.to_owned(), payload.client_message_id.clone()), self.bus.executed);
        // Put anew into what was lost, a message is marked anew; the author may be told of both, late.
        let placed = self.book.dialogs.placed(&key.0, &key.3).first().map_or(seq, |it| it.seq);
        let first = *self.book.dialogs.times.entry(key).or_insert((payload.timestamp, seq));
        if first.0 != payload.timestamp && !self.talks_blurred_since(placed.min(first.1)) {
            self.book.violate("chat: marks", &about, || {
                format!(
                    "t{talker} is told {kind} {number} by {} at {first:?}: {payload:?}",
                    name(by)
                )
            });
        }
    }

    /// A lane hands a packet to a client: what it says has got there.
    pub(crate) fn note_handed_chat(&mut self, talker: usize, text: &str) {
        if !text.contains("\"eventType\":\"new\"") {
            return;
        }
        let payload = Packet::read(text).and_then(|it| it.payload());
        let user = self.talkers.all[talker].user;
        if let Ok(payload) = payload
            && let Some(with) = user_named(&payload.chat_id)
        {
            let number = payload.message_id;
            self.book.dialogs.may_mark("dlvrd", (user, with), number);
            self.cause((user, with), Some(("dlvrd", number)));
        }
    }
}
