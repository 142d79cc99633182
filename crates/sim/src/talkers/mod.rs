//! Clients of the chat dialect, who talk in dialogs and groups: they say, edit, take back, mark and ask; repeat what was not
//! answered on the connection after; ack at once, late or not at all; vanish, fall silent and come back to another node. In
//! every other run, each of a device of its own; what they decide is random by itself, so that the other runs stay as they are.
//!
//! With whom somebody talks is a number: below [`PEOPLE`] a user's, from there on a group's.

mod groups;
mod hearing;
pub(crate) mod packets;

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::command::Continuation;
use roomcast_protocol::conversation;
use roomcast_protocol::guard::Policy;
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::Keep;
use roomcast_protocol::room::RoomName;

use crate::check::dialogs::{Saying, What};
use crate::node::LANES;
use crate::node::lane::Inbound;
use crate::node::socket::{Said, Socket};
use crate::random::Random;
use crate::rules::token;
use crate::world::{Event, HEAL_MS, NODES, World};
use packets::{Chat, Shown};

/// Where the numbers of these clients' sockets begin, behind those of all others.
const TALKERS_FROM: usize = 1_000;

/// Whose clients they are: some users have two devices.
const USERS: [usize; 6] = [0, 1, 2, 3, 0, 1];

/// People who talk.
pub(crate) const PEOPLE: usize = 4;

/// Groups in which they do, if they are members.
pub(crate) const GROUPS: usize = 2;

/// All with whom somebody may talk.
pub(crate) const CHATS: usize = PEOPLE + GROUPS;

/// How long a client waits for a response before it says the same again. Units: milliseconds.
const ANSWER_MS: u64 = 8_000;

/// How long after an error it does. Units: milliseconds.
const AGAIN_MS: u64 = 1_000;

/// After how much silence a client asks whether anybody is there, and after how much it goes. Units: milliseconds.
const SILENT_MS: (u64, u64) = (3_000, 7_000);

/// What the own rooms of these users say: the built-in rule where clients of chat are served.
pub(crate) fn inbox_policy() -> Policy {
    let device = Some(CursorOf::Device);
    let (size, bytes_max, ttl_ms) = (1_000, 1 << 20, 7 * 86_400_000);
    let history = Some(Keep { size, bytes_max, ttl_ms, replicated: false, inbox: device });
    Policy { history, cursor: device, quiet: true, ..Policy::OPEN }
}

/// What the rooms of dialogs, and of groups, say, in the same way.
pub(crate) fn dialog_policy() -> Policy {
    let (size, bytes_max, ttl_ms) = (10_000, 64 << 20, 365 * 86_400_000);
    let history = Some(Keep { size, bytes_max, ttl_ms, replicated: false, inbox: None });
    Policy { history, receipts: true, conversation: true, ..Policy::OPEN }
}

/// What happens to these clients, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Connect(usize),
    Act(usize),
    Ack {
        socket: usize,
        event: u64,
    },
    /// Everybody asks for all messages, a last time.
    Ask,
    /// The application wants a user in a group, or out of it.
    Member {
        user: usize,
        group: usize,
        joins: bool,
    },
    /// What it asked and was not answered it asks again.
    Tend,
}

/// What a client asked and has no answer to.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Saying(usize),
    Mark,
    Messages {
        with: usize,
        last: bool,
        /// Executions until it was asked first.
        seq: u64,
    },
    /// A group, or all chats.
    Chat(usize),
    Chats,
}

#[derive(Clone, Debug)]
struct Waiting {
    asked: Asked,
    text: String,
    /// When it is said again.
    again_ms: u64,
}

/// One client, with what its device knows.
#[derive(Debug, Default)]
pub(crate) struct Talker {
    pub(crate) user: usize,
    pub(crate) device: String,
    pub(crate) socket: Option<usize>,
    pub(crate) ready: bool,
    requests: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Events that it has shown, by id.
    seen: BTreeSet<u64>,
    /// What it has shown, by kind and id.
    pub(crate) shown: BTreeSet<(String, RoomName, String)>,
    /// The newest message that it has shown, by who else is in the dialog.
    newest: BTreeMap<usize, u64>,
    /// How far messages were when it was answered last, and executions until then.
    ranks: BTreeMap<(usize, u64, String), (u8, u64)>,
    /// The last answers.
    pub(crate) last: BTreeMap<usize, Vec<Shown>>,
    /// What the number of each event means.
    events: BTreeMap<u64, String>,
    /// The offset of what it was shown last of each group on this connection, and as which execution that was said.
    rose: BTreeMap<usize, (u64, u64)>,
    /// What groups are in the end: asked one by one, and all at once.
    pub(crate) groups: BTreeMap<usize, Chat>,
    pub(crate) chats: Vec<Chat>,
}

impl Talker {
    /// Nothing that it asked is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What it asked and has no answer to.
    pub(crate) fn open(&self) -> Vec<&str> {
        self.waiting.values().map(|it| it.text.as_str()).collect()
    }
}

/// All of them.
pub(crate) struct Talkers {
    random: Random,
    pub(crate) all: Vec<Talker>,
}

impl Talkers {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x7a1c_0000_0000_0000);
        if seed.is_multiple_of(2) {
            return Self { random, all: Vec::new() };
        }
        let make = |(number, user): (usize, &usize)| {
            let device = format!("d{number}");
            Talker { user: *user, device, ..Talker::default() }
        };
        Self { random, all: USERS.iter().enumerate().map(make).collect() }
    }
}

/// A user's name, or a group's id.
pub(crate) fn name(chat: usize) -> String {
    if is_group(chat) { format!("g{}", chat - PEOPLE) } else { format!("t{chat}") }
}

/// Whether it is a group.
pub(crate) const fn is_group(chat: usize) -> bool {
    chat >= PEOPLE
}

/// The user of this name.
pub(crate) fn user_named(name: &str) -> Option<usize> {
    name.strip_prefix('t')?.parse().ok().filter(|user| *user < PEOPLE)
}

/// The chat of this name.
pub(crate) fn chat_named(name: &str) -> Option<usize> {
    let group = || {
        let number: usize = name.strip_prefix('g')?.parse().ok()?;
        Some(PEOPLE + number).filter(|chat| *chat < CHATS)
    };
    user_named(name).or_else(group)
}

/// The room in which a user talks there.
pub(crate) fn room_of(user: usize, chat: usize) -> RoomName {
    let group = || conversation::group(&name(chat)).expect("its id is short");
    if is_group(chat) { group() } else { dialog(user, chat) }
}

/// The room of two people. Who is in no group of that name talks to a user of that name.
pub(crate) fn dialog(one: usize, other: usize) -> RoomName {
    conversation::dialog(&name(one), &name(other)).expect("their names are short")
}

/// A user's own room.
pub(crate) fn inbox(user: usize) -> RoomName {
    conversation::inbox(&name(user)).expect("their names are short")
}

impl Socket {
    /// Which of these clients has it, if one of them does.
    pub(crate) const fn talker(&self) -> Option<usize> {
        self.client.checked_sub(TALKERS_FROM)
    }
}

impl World {
    pub(crate) fn begin_talkers(&mut self, begin_ms: u64, ask_ms: u64) {
        for talker in 0..self.talkers.all.len() {
            let at = self.talkers.random.below(begin_ms / 3);
            self.at(at, Event::Talk(Turn::Connect(talker)));
            self.at(begin_ms + at, Event::Talk(Turn::Act(talker)));
        }
        if !self.talkers.all.is_empty() {
            self.at(ask_ms, Event::Talk(Turn::Ask));
            self.begin_groups(begin_ms);
        }
    }

    pub(crate) fn talk_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Connect(talker) => self.talker_connects(talker),
            Turn::Act(talker) => self.talker_acts(talker),
            Turn::Ack { socket, event } => self.say_chat(socket, packets::ack(event)),
            Turn::Ask => {
                for talker in 0..self.talkers.all.len() {
                    (0..CHATS).for_each(|with| self.ask_messages(talker, with, true));
                    self.ask_chats(talker);
                }
            }
            Turn::Member { user, group, joins } => self.wish_member(user, group, joins),
            Turn::Tend => self.tend_members(),
        }
    }

    fn talker_connects(&mut self, talker: usize) {
        if self.talkers.all[talker].socket.is_some() || self.leaving {
            return;
        }
        let node = self.talkers.random.index(NODES);
        let lane = self.talkers.random.index(LANES);
        if !self.nodes[node].up || self.nodes[node].draining {
            let in_ms = self.talkers.random.range(50, 300);
            return self.at(self.now_ms + in_ms, Event::Talk(Turn::Connect(talker)));
        }
        let it = &mut self.talkers.all[talker];
        let token = token(&name(it.user), &[], self.now_ms);
        let device = Some(it.device.as_str().into());
        let life = self.nodes[node].life;
        let mut socket = Socket::new(TALKERS_FROM + talker, (node, life, lane), token);
        socket.continuation = Some(Box::new(Continuation { device, ..Continuation::default() }));
        socket.heard_ms = self.now_ms;
        let number = self.sockets.len();
        self.sockets.push(socket);
        (it.socket, it.ready) = (Some(number), false);
        // A node that came to a halt may have noted an older place of the device meanwhile.
        it.rose.clear();
        self.stats.connections += 1;
        self.trace.line(self.now_ms, || format!("t{talker} connects to node {node}/{lane}"));
        self.inbound((node, lane), Inbound::Open(number));
        self.say_chat(number, "ping".to_owned());
        self.repeat_requests(talker, u64::MAX);
    }

    /// The connection is gone, as the client sees it.
    pub(crate) fn talker_lost(&mut self, socket: usize, told: bool) {
        let Some(talker) = self.sockets[socket].talker() else { return };
        self.trace.line(self.now_ms, || format!("t{talker} is not connected any more"));
        self.drop_client_side(socket, told);
        let it = &mut self.talkers.all[talker];
        if it.socket == Some(socket) {
            (it.socket, it.ready) = (None, false);
            let in_ms = self.talkers.random.range(10, 900);
            self.at(self.now_ms + in_ms, Event::Talk(Turn::Connect(talker)));
        }
    }

    fn say_chat(&mut self, socket: usize, text: String) {
        self.client_sends(socket, Said::Text(text.into_boxed_str()));
    }

    /// Asks something, and asks it again until it is answered.
    fn ask_chat(&mut self, talker: usize, asked: Asked, (kind, payload): (&str, &str)) {
        let it = &mut self.talkers.all[talker];
        it.requests += 1;
        let number = it.requests;
        let text = packets::request(number, kind, payload);
        self.trace.line(self.now_ms, || format!("t{talker} -> {text}"));
        let again_ms = self.now_ms + ANSWER_MS;
        let waiting = Waiting { asked, text: text.clone(), again_ms };
        it.waiting.insert(number, waiting);
        if let Some(socket) = it.socket {
            self.say_chat(socket, text);
        }
    }

    /// What should have been said again by then is.
    fn repeat_requests(&mut self, talker: usize, until_ms: u64) {
        let it = &mut self.talkers.all[talker];
        let Some(socket) = it.socket else { return };
        let mut texts = Vec::new();
        for waiting in it.waiting.values_mut().filter(|it| it.again_ms <= until_ms) {
            waiting.again_ms = self.now_ms + ANSWER_MS;
            texts.push(waiting.text.clone());
        }
        self.stats.chat_repeats += texts.len() as u64;
        texts.into_iter().for_each(|text| self.say_chat(socket, text));
    }

    /// A client does something of its own accord.
    fn talker_acts(&mut self, talker: usize) {
        if self.leaving {
            return;
        }
        let in_ms = self.talkers.random.range(400, 1_600);
        self.at(self.now_ms + in_ms, Event::Talk(Turn::Act(talker)));
        let Some(socket) = self.talkers.all[talker].socket else { return };
        let it = &self.sockets[socket];
        let silent_ms = self.now_ms.saturating_sub(it.heard_ms.max(it.paused_until_ms));
        if silent_ms > SILENT_MS.1 {
            return self.talker_lost(socket, false);
        }
        if silent_ms > SILENT_MS.0 || self.talkers.random.chance(8) {
            self.say_chat(socket, "ping".to_owned());
        }
        self.repeat_requests(talker, self.now_ms);
        if self.now_ms >= HEAL_MS || !self.talkers.all[talker].ready {
            return;
        }
        let random = &mut self.talkers.random;
        let own = self.talkers.all[talker].user;
        let with = if random.chance(8) { own } else { random.index(CHATS) };
        let does = random.below(40);
        if does < 32 && is_group(with) && !self.book.dialogs.groups.is_wanted(own, with) {
            // Who is none of its members may listen at the door.
            return self.ask_messages(talker, with, false);
        }
        match does {
            0..=15 => self.talker_says(talker, with, What::New),
            16..=21 => self.talker_amends(talker),
            22..=27 => self.talker_marks(talker, with),
            28..=31 => self.ask_messages(talker, with, false),
            32 => self.talker_types(talker, with),
            33 | 34 => self.talker_lost(socket, true),
            35 => self.talker_lost(socket, false),
            36 => self.sockets[socket].silent = true,
            37 => {
                let until_ms = self.now_ms + self.talkers.random.range(500, 9_000);
                self.sockets[socket].paused_until_ms = until_ms.min(HEAL_MS);
            }
            _ => {}
        }
    }

    fn talker_says(&mut self, talker: usize, with: usize, what: What) {
        let from = self.talkers.all[talker].user;
        let saying = Saying::new(what, talker, (from, with), self.bus.executed);
        if !is_group(with) {
            self.cause((from, with), None);
        }
        let number = self.book.dialogs.make(saying);
        self.stats.chat_said += 1;
        let chat = name(with);
        let of = |of: usize| self.book.dialogs.number_of(of);
        let (kind, payload) = match what {
            What::New => {
                ("new", format!("\"clientMessageId\":\"m{number}\",\"message\":\"m{number}\""))
            }
            What::Edit(other) => (
                "edit",
                format!(
                    "\"clientMessageId\":\"m{number}\",\"messageId\":{},\"message\":\"m{number}\"",
                    of(other)
                ),
            ),
            What::Delete(other) => ("delete", format!("\"messageId\":{}", of(other))),
        };
        let payload = format!("\"chatId\":\"{chat}\",{payload}");
        self.ask_chat(talker, Asked::Saying(number), (kind, &payload));
    }

    /// A client changes, or takes back, something of its user's.
    fn talker_amends(&mut self, talker: usize) {
        let own = self.book.dialogs.answered_of(self.talkers.all[talker].user);
        let Some(of) = own.get(self.talkers.random.index(own.len().max(1))).copied() else {
            return;
        };
        let (user, with) = self.book.dialogs.sayings[of].people;
        if is_group(with) && !self.book.dialogs.groups.is_wanted(user, with) {
            return;
        }
        let erases = self.talkers.random.chance(4);
        let what = if erases { What::Delete(of) } else { What::Edit(of) };
        self.talker_says(talker, with, what);
    }

    fn talker_marks(&mut self, talker: usize, with: usize) {
        let Some(newest) = self.talkers.all[talker].newest.get(&with).copied() else { return };
        let user = self.talkers.all[talker].user;
        // Now and then one from before.
        let random = &mut self.talkers.random;
        let number = if random.chance(3) { random.range(1, newest + 1) } else { newest };
        let kind = if self.talkers.random.chance(4) { "dlvrd" } else { "read" };
        self.cause((user, with), Some((kind, number)));
        self.book.dialogs.may_mark(kind, (user, with), number);
        let payload = format!("\"chatId\":\"{}\",\"messageId\":{number}", name(with));
        self.ask_chat(talker, Asked::Mark, (kind, &payload));
    }

    fn ask_messages(&mut self, talker: usize, with: usize, last: bool) {
        let open = self.talkers.all[talker].waiting.values();
        if !last && open.into_iter().any(|it| matches!(it.asked, Asked::Messages { .. })) {
            return;
        }
        let payload = format!("\"chatId\":\"{}\",\"count\":500", name(with));
        let seq = self.bus.executed;
        self.ask_chat(talker, Asked::Messages { with, last, seq }, ("messages", &payload));
    }

    /// A client asks what its user's groups are, and for all chats.
    fn ask_chats(&mut self, talker: usize) {
        let user = self.talkers.all[talker].user;
        for group in PEOPLE..CHATS {
            if self.book.dialogs.groups.is_wanted(user, group) {
                let payload = format!("\"chatId\":\"{}\"", name(group));
                self.ask_chat(talker, Asked::Chat(group), ("chat", &payload));
            }
        }
        self.ask_chat(talker, Asked::Chats, ("chats", ""));
    }

    fn talker_types(&mut self, talker: usize, with: usize) {
        let Some(socket) = self.talkers.all[talker].socket else { return };
        let chat = name(with);
        self.say_chat(
            socket,
            format!("{{\"type\":\"event\",\"payloadType\":\"typing\",\"payload\":{{\"chatId\":\"{chat}\"}}}}"),
        );
    }
}
