//! Who is in which group, as the application was answered, and what members and others may therefore hear:
//!
//! * an accepted message is shown to each device of whoever was a member all the while, from before it was said to the end,
//!   once, as in dialogs (`settled.rs`); nothing makes up for it: what is closed comes back, and is given it then;
//! * whoever was taken out, as an answer said that all nodes have carried out, is shown nothing that was said after that, until
//!   it is put in again; nor does it read anything there. Whoever never was a member neither hears nor reads;
//! * the number of an event means one thing for a client, and those of one group rise as they are shown first
//!   (`talkers/hearing.rs`);
//! * no mark is told to an author after a further one of the same user, unless both were under way at once, and each keeps the
//!   time at which it was told first (`dialogs.rs`);
//! * in the end all members are told the same of participants, last message and what they have not read (`settled.rs`).
//!
//! What servers lost since then is exempt. A change that was not answered may be carried out all the same, as long as its node
//! completes what it has begun: until that is over, nobody knows who is a member.

use crate::talkers::packets::{Payload, Shown};
use crate::talkers::{CHATS, PEOPLE, dialog, name, room_of};
use crate::world::World;

/// How long a node may not have heard what was said, and how long after trouble. Units: milliseconds.
const BEHIND_MS: u64 = 3_000;

/// Whether somebody is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It is, at least since that many executions.
    In(u64),
    /// It is not.
    Out,
    /// A change is under way, or was lost.
    Open,
}

/// Somebody and a group.
#[derive(Clone, Debug)]
struct Stay {
    wanted: bool,
    stand: Stand,
    /// Executions between which it certainly was no member; without an end: so far. And when the end was.
    outs: Vec<(u64, Option<(u64, u64)>)>,
    /// The newest question of the application's, if there was one.
    newest: Option<usize>,
}

/// One question of the application's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) user: usize,
    pub(crate) group: usize,
    pub(crate) joins: bool,
    /// By which node, in which of its lives.
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) asked_ms: u64,
    /// Executions until then.
    pub(crate) seq: u64,
    pub(crate) answered: bool,
    /// Nothing of it is carried out any more.
    pub(crate) over: bool,
}

/// Who is in which group.
#[derive(Debug)]
pub(crate) struct Groups {
    /// By user and group.
    stays: Vec<Stay>,
    pub(crate) changes: Vec<Change>,
}

impl Default for Groups {
    fn default() -> Self {
        let outs = vec![(0, None)];
        let stay = Stay { wanted: false, stand: Stand::Out, outs, newest: None };
        Self { stays: vec![stay; PEOPLE * (CHATS - PEOPLE)], changes: Vec::new() }
    }
}

/// All users with all groups.
pub(crate) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..PEOPLE).flat_map(|user| (PEOPLE..CHATS).map(move |group| (user, group)))
}

const fn place(user: usize, group: usize) -> usize {
    user * (CHATS - PEOPLE) + group - PEOPLE
}

impl Groups {
    /// The application wants the user in the group.
    pub(crate) fn is_wanted(&self, user: usize, group: usize) -> bool {
        self.stays[place(user, group)].wanted
    }

    pub(crate) fn stand(&self, user: usize, group: usize) -> Stand {
        self.stays[place(user, group)].stand
    }

    /// Since so many executions, and then, nobody knows whether the user is a member.
    pub(crate) fn open(&mut self, (user, group): (usize, usize), joins: bool, end: (u64, u64)) {
        let stay = &mut self.stays[place(user, group)];
        (stay.wanted, stay.stand) = (joins, Stand::Open);
        end_last(&mut stay.outs, end);
    }

    /// Another question is asked.
    pub(crate) fn ask(&mut self, change: Change) -> usize {
        self.changes.push(change);
        let number = self.changes.len() - 1;
        self.stays[place(change.user, change.group)].newest = Some(number);
        number
    }

    /// The newest question about the user and the group.
    pub(crate) fn newest(&self, user: usize, group: usize) -> Option<usize> {
        self.stays[place(user, group)].newest
    }

    /// A change is carried out by all nodes, and no other one is under way.
    pub(crate) fn stands(&mut self, change: &Change, executed: u64) {
        let stay = &mut self.stays[place(change.user, change.group)];
        if change.joins {
            stay.stand = Stand::In(executed);
        } else {
            stay.stand = Stand::Out;
            stay.outs.push((executed, None));
        }
    }

    /// Servers have less from now on: who was asked to be a member, or not to be one any more, may be something else.
    pub(crate) fn doubt(&mut self) {
        for stay in self.stays.iter_mut().filter(|stay| stay.newest.is_some()) {
            stay.stand = Stand::Open;
            // Whoever was none may be one again, and hears all from before as well.
            stay.outs.retain(|out| out.1.is_some());
        }
    }

    /// Since when the user was no member as something was executed, and when it was put in again.
    fn out_at(&self, user: usize, group: usize, seq: u64) -> Option<(u64, Option<u64>)> {
        let mut outs = self.stays[place(user, group)].outs.iter();
        let found = outs.find(|out| out.0 < seq && out.1.is_none_or(|to| seq <= to.0));
        found.map(|out| (out.0, out.1.map(|to| to.1)))
    }

    /// Since when the user has been no member, if it is none now.
    fn out_now(&self, user: usize, group: usize) -> Option<u64> {
        let last = self.stays[place(user, group)].outs.last();
        last.filter(|out| out.1.is_none()).map(|out| out.0)
    }
}

fn end_last(outs: &mut [(u64, Option<(u64, u64)>)], end: (u64, u64)) {
    if let Some((_, to)) = outs.last_mut() {
        to.get_or_insert(end);
    }
}

impl World {
    /// The user is a member, and was one when this was executed.
    pub(crate) fn is_in_since(&self, user: usize, group: usize, seq: u64) -> bool {
        matches!(self.book.dialogs.groups.stand(user, group), Stand::In(since) if since < seq)
    }

    /// Something of a group is shown that was said first as the `first` execution, at `at_ms`: its user was a member then, as
    /// far as anybody knows; or the user is one by now, and the node had not heard of it yet.
    pub(crate) fn check_may_hear(
        &mut self,
        talker: usize,
        (user, group): (usize, usize),
        (id, first, at_ms): (&str, u64, u64),
    ) {
        let node = self.talkers.all[talker].socket.map_or(0, |socket| self.sockets[socket].node);
        let troubled_ms = self.nodes[node].troubled_ms + BEHIND_MS;
        let was_behind = |put_ms| troubled_ms > at_ms || put_ms < at_ms + BEHIND_MS;
        let out = self.book.dialogs.groups.out_at(user, group, first);
        let out = out.filter(|(_, put_ms)| !put_ms.is_some_and(was_behind)).map(|it| it.0);
        if let Some(since) = out.filter(|since| !self.talks_blurred_since(*since)) {
            let about = [format!("t{talker}"), id.to_owned(), room_of(user, group).to_string()];
            self.book.violate("chat: members", &about, || {
                let (user, group) = (name(user), name(group));
                format!(
                    "t{talker} hears {id} (#{first}) of {group}, and {user} was out since #{since}"
                )
            });
        }
    }

    /// A message of a group is answered to a question that was asked after `asked` executions.
    pub(crate) fn check_may_read(
        &mut self,
        talker: usize,
        (user, group): (usize, usize),
        (id, asked): (&str, u64),
    ) {
        let placed = self.book.dialogs.placed(&room_of(user, group), id).first();
        let newest = placed.map_or(0, |it| it.seq).max(asked);
        let out = self.book.dialogs.groups.out_now(user, group);
        let out = out.filter(|since| *since < newest && !self.talks_blurred_since(*since));
        if let Some(since) = out {
            let about = [format!("t{talker}"), id.to_owned(), room_of(user, group).to_string()];
            self.book.violate("chat: members", &about, || {
                let (user, group) = (name(user), name(group));
                format!("t{talker} reads {id} of {group}, and {user} was out since #{since}")
            });
        }
    }

    /// A message that is shown of a group is one of those that its user said while it was no member, to a user of the group's
    /// name.
    pub(crate) fn is_strayed(&self, user: usize, group: usize, message: &Shown) -> bool {
        let placed = self.book.dialogs.placed(&dialog(user, group), &message.client_message_id);
        let is_there = placed.iter().any(|it| it.at.offset == message.message_id);
        is_there && message.sender == name(user)
    }

    /// What somebody said who was no member only its own devices hear of.
    pub(crate) fn check_strayed(&mut self, talker: usize, payload: &Payload) {
        if payload.sender != name(self.talkers.all[talker].user) {
            let about = [format!("t{talker}"), payload.client_message_id.clone()];
            self.book.violate("chat: privacy", &about, || {
                format!("t{talker} hears what was said to nobody: {payload:?}")
            });
        }
    }
}
