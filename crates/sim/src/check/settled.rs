//! What stands of dialogs when all has been well for long: each message that was answered, once, under its number; its copy in
//! both inboxes; shown by each device of its people; and the same to whoever asks. Nothing is half done.

use std::collections::BTreeMap;

use roomcast_protocol::position::{Epoch, Kept, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::RECEIPTS_PAGE_MAX;
use roomcast_protocol::room::RoomName;
use roomcast_store::{At, Place};

use super::dialogs::{Saying, What, member};
use super::groups::{Stand, pairs};
use crate::bus::partition_of;
use crate::talkers::packets::Chat;
use crate::talkers::{
    CHATS, PEOPLE, dialog, dialog_policy, inbox, inbox_policy, is_group, name, room_of,
};
use crate::world::World;

impl World {
    /// All faults are long over.
    pub(crate) fn check_settled(&mut self) {
        for (number, it) in self.talkers.all.iter().enumerate() {
            if it.socket.is_none() || !it.ready || !it.is_idle() {
                let about = [format!("t{number}")];
                let text = format!("t{number}: connected {:?}, asks {:?}", it.socket, it.open());
                return self.book.violate("chat: settled", &about, || text);
            }
        }
        for node in 0..self.nodes.len() {
            let under_way = self.nodes[node].core.hub.presence_sizes().talks;
            if under_way > 0 && self.nodes[node].up {
                let text = format!("node {node} still does {under_way} things of conversations");
                self.book.violate("chat: settled", &[], || text);
            }
        }
        for saying in 0..self.book.dialogs.sayings.len() {
            self.check_saying_stands(saying);
        }
        self.check_same_for_all();
        self.check_groups_settled();
        self.check_read_is_told();
    }

    /// Where a room is now. Changes nothing.
    pub(crate) fn place_of(&self, room: &RoomName) -> Position {
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let mut store = server.data.stores[usize::from(partition_of(room))].clone();
        store.head(room, at).unwrap_or(Position { epoch: at.fresh, offset: 0 })
    }

    /// How far users have read a dialog, as its room has it. Changes nothing.
    fn read_up_to(&self, room: &RoomName, user: usize) -> u64 {
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let mut store = server.data.stores[usize::from(partition_of(room))].clone();
        let page = store.receipts(at, room, None, None, RECEIPTS_PAGE_MAX);
        let receipts = page.map_or_else(Vec::new, |page| page.receipts);
        let own = receipts.iter().find(|it| *it.user == *name(user));
        own.and_then(|it| it.read).map_or(0, |it| it.offset)
    }

    /// Of what counts as read its author was told.
    fn check_read_is_told(&mut self) {
        for saying in 0..self.book.dialogs.sayings.len() {
            let it = self.book.dialogs.sayings[saying].clone();
            let (author, with) = it.people;
            let Some((number, ..)) = it.answered else { continue };
            if it.what != What::New || self.talks_blurred_since(self.first_seq(saying)) {
                continue;
            }
            let readers = if is_group(with) { 0..PEOPLE } else { with..with + 1 };
            for reader in readers.filter(|reader| *reader != author) {
                self.check_told_read((saying, number), (author, reader), &it.room());
            }
        }
    }

    fn check_told_read(
        &mut self,
        (saying, number): (usize, u64),
        (author, reader): (usize, usize),
        room: &RoomName,
    ) {
        if number > self.read_up_to(room, reader) {
            return;
        }
        self.stats.chat_read += 1;
        let told = self.book.dialogs.told_read(&inbox(author), room, reader);
        if told < number {
            let about = [format!("m{saying}"), room.to_string(), inbox(author).to_string()];
            self.book.violate("chat: half done", &about, || {
                let reader = name(reader);
                format!("m{saying} at {number} of {room} counts as read by {reader}, and its author is told of {told}")
            });
        }
    }

    /// What a room keeps now. Changes nothing.
    fn kept(&self, room: &RoomName) -> Vec<std::sync::Arc<Publication>> {
        let is_inbox = roomcast_protocol::conversation::owner(room).is_some();
        let policy = if is_inbox { inbox_policy() } else { dialog_policy() };
        let keep = policy.history.expect("both keep something");
        let server = &self.bus.servers[self.bus.masters[self.bus.shard_of(room)]];
        let at = At { now_ms: server.time_ms(self.now_ms), fresh: Epoch(u128::MAX) };
        let mut store = server.data.stores[usize::from(partition_of(room))].clone();
        let (mut kept, mut from) = (Vec::new(), 0);
        while let Some(found) = store.read(room, &keep, at, &Span::above(from)) {
            for place in found.entries {
                if let Place::Entry(entry) = place
                    && let Kept::Publication(it) = entry.payload
                {
                    from = it.position.map_or(from, |at| at.offset);
                    kept.push(it);
                }
            }
            if found.whole {
                break;
            }
        }
        kept
    }

    /// It was answered and is not lost: it stands, its copies do, and each device has shown it.
    fn check_saying_stands(&mut self, saying: usize) {
        let it = self.book.dialogs.sayings[saying].clone();
        // What somebody said who was no member went nowhere.
        let Some((number, id, _)) = it.answered.as_ref().filter(|_| !it.strayed) else { return };
        let since = self.first_seq(saying);
        if self.talks_blurred_since(since) {
            return;
        }
        self.stats.chat_checked += 1;
        let room = it.room();
        let about = [format!("m{saying}"), id.clone(), room.to_string()];
        let stands: Vec<_> = self.kept(&room).into_iter().filter(|it| *it.id == **id).collect();
        let offsets: Vec<_> =
            stands.iter().filter_map(|it| it.position.map(|at| at.offset)).collect();
        if offsets != [*number] {
            return self.book.violate("chat: accepted", &about, || {
                format!("m{saying} was answered as {id} at {number} of {room}, and stands at {offsets:?}")
            });
        }
        let copied = if is_group(it.people.1) { vec![] } else { vec![it.people.0, it.people.1] };
        for user in copied {
            let own = inbox(user);
            let copies = self.kept(&own);
            let is_copy = |copy: &&std::sync::Arc<Publication>| {
                copy.origin.as_ref().is_some_and(|origin| {
                    origin.room == room && *origin.id == **id && &*copy.kind == it.kind()
                })
            };
            let count = copies.iter().filter(is_copy).count();
            if count != 1 {
                return self.book.violate("chat: half done", &about, || {
                    format!("{own} has {count} copies of m{saying} ({id} of {room})")
                });
            }
        }
        self.check_all_shown(saying, id);
    }

    fn check_all_shown(&mut self, saying: usize, id: &str) {
        let since = self.first_seq(saying);
        let it = self.book.dialogs.sayings[saying].clone();
        let room = it.room();
        for talker in 0..self.talkers.all.len() {
            let device = &self.talkers.all[talker];
            let user = device.user;
            let concerns = if is_group(it.people.1) {
                self.is_in_since(user, it.people.1, since)
            } else {
                user == it.people.0 || user == it.people.1
            };
            let knows = self.knows_device(talker, &it, since);
            // What two devices of one user took back both may hear of from one another.
            let is_own =
                talker == it.by || matches!(it.what, What::Delete(_)) && device.user == it.people.0;
            let key = (it.kind().to_owned(), room.clone(), id.to_owned());
            if concerns && knows && !is_own && !device.shown.contains(&key) {
                let about = [format!("t{talker}"), format!("m{saying}"), id.to_owned()];
                self.book.violate("chat: shown", &about, || {
                    format!("t{talker} was never told of m{saying} ({id} of {room})")
                });
            }
        }
    }

    /// Where the device goes on was known when something was executed.
    fn knows_device(&self, talker: usize, it: &Saying, seq: u64) -> bool {
        let device = &self.talkers.all[talker];
        let dialogs = &self.book.dialogs;
        let known = if is_group(it.people.1) {
            // Of one device alone it is where its user became a member, unless the group's room began anew.
            let others = self.talkers.all.iter().filter(|it| it.user == device.user);
            if others.count() == 1 && !self.talks_blurred_since(0) {
                return true;
            }
            dialogs.known_since(&it.room(), &member(&name(device.user), &device.device))
        } else {
            dialogs.known_since(&inbox(device.user), &device.device)
        };
        known.is_some_and(|known| known < seq)
    }

    /// Whoever asks for the messages of a dialog, or of a group, is told what stands there.
    fn check_same_for_all(&mut self) {
        for talker in 0..self.talkers.all.len() {
            let user = self.talkers.all[talker].user;
            for (with, shown) in self.talkers.all[talker].last.clone() {
                let told: Vec<_> = shown
                    .into_iter()
                    .map(|it| (it.message_id, it.client_message_id, it.message))
                    .collect();
                let groups = &self.book.dialogs.groups;
                let is_strange = is_group(with) && !groups.is_wanted(user, with);
                let room = if is_strange { dialog(user, with) } else { room_of(user, with) };
                let stands = self.texts(&room);
                if told != stands {
                    let about = [format!("t{talker}"), room.to_string()];
                    self.book.violate("chat: same", &about, || {
                        format!(
                            "t{talker} is told {told:?} of {}, where {stands:?} stands",
                            name(with)
                        )
                    });
                }
            }
        }
    }

    /// Who is a member is settled, and all members are told the same of their groups.
    fn check_groups_settled(&mut self) {
        for (user, group) in pairs() {
            if self.book.dialogs.groups.stand(user, group) == Stand::Open {
                let text = format!("whether {} is in {} is not settled", name(user), name(group));
                self.book.violate("chat: settled", &[], || text);
            }
        }
        for talker in 0..self.talkers.all.len() {
            (PEOPLE..CHATS).for_each(|group| self.check_group_shown(talker, group));
        }
    }

    /// What a client is told of a group: who is in it, what was said last, and how much its user has not read.
    fn check_group_shown(&mut self, talker: usize, group: usize) {
        let it = &self.talkers.all[talker];
        let (user, is_it) = (it.user, |chat: &&Chat| chat.chat_id == name(group));
        let of_all = it.chats.iter().find(|chat| is_it(chat) && chat.kind == "group").cloned();
        let groups = &self.book.dialogs.groups;
        let room = room_of(user, group);
        let expected = groups.is_wanted(user, group).then(|| {
            let members = (0..PEOPLE).filter(|user| groups.is_wanted(*user, group));
            let read = self.read_up_to(&room, user);
            let messages = self.messages(&room);
            let gone = self.texts(&room).into_iter().filter(|(.., text)| text.is_empty());
            let gone: Vec<_> = gone.map(|(offset, ..)| offset).collect();
            let missed = messages.iter().filter(|(offset, sender, _)| {
                *offset > read && *sender != name(user) && !gone.contains(offset)
            });
            let last = messages.last().map(|(offset, _, id)| (*offset, id.clone()));
            (members.map(name).collect::<Vec<_>>(), last, missed.count() as u64)
        });
        let told = |chat: &Chat| {
            let mut people = chat.participants.clone();
            people.sort();
            let last = chat.last_message.as_ref();
            let last = last.map(|it| (it.message_id, it.client_message_id.clone()));
            (people, last, chat.missed)
        };
        let by_name = it.groups.get(&group).map(told);
        let of_all = of_all.as_ref().map(told);
        if by_name != expected || of_all != expected {
            let about = [format!("t{talker}"), room.to_string()];
            self.book.violate("chat: same", &about, || {
                format!("{room} is {expected:?}; t{talker} is told {by_name:?}, and among all {of_all:?}")
            });
        }
    }

    /// Number, sender and id of each message of a room.
    fn messages(&self, room: &RoomName) -> Vec<(u64, String, String)> {
        let messages = self.kept(room).into_iter().filter(|it| &*it.kind == "new");
        messages
            .map(|it| {
                let offset = it.position.map_or(0, |at| at.offset);
                (offset, it.sender.to_string(), it.id.to_string())
            })
            .collect()
    }

    /// Number, id and text of each message of a dialog, as it is now.
    fn texts(&self, room: &RoomName) -> Vec<(u64, String, String)> {
        let mut texts = BTreeMap::new();
        for it in self.kept(room) {
            let amends = it.origin.as_ref().and_then(|origin| origin.amends.as_ref());
            let offset = it.position.map_or(0, |at| at.offset);
            match amends {
                None => {
                    texts.insert(offset, (it.id.to_string(), it.id.to_string()));
                }
                Some(amends) => {
                    // What stood there before all was lost was another message.
                    if let Some((id, text)) = texts.get_mut(&amends.offset)
                        && *id == *amends.id
                        && !text.is_empty()
                    {
                        *text = if amends.erases { String::new() } else { it.id.to_string() };
                    }
                }
            }
        }
        texts.into_iter().map(|(offset, (id, text))| (offset, id, text)).collect()
    }
}
