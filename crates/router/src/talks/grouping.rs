//! The groups of a user, and where its device goes on in each: two directories are read, one after the other.

use std::collections::BTreeMap;

use roomcast_protocol::conversation::{self, Answered, Membership};
use roomcast_protocol::directory::{DirectoryPage, ENTRIES_PAGE_MAX, Entries};
use roomcast_protocol::position::Position;
use roomcast_protocol::room::RoomName;

use super::{Question, Step, held};
use crate::membership;

/// In which groups a user is: an entry for each, under its id. `None`: no group's member can be called so.
pub(super) fn groups_of(user: &str) -> Option<RoomName> {
    RoomName::system(&format!("$groups-{user}")).ok()
}

/// How far the devices of a user have acked its groups.
pub(crate) fn cursors_of(user: &str) -> Option<RoomName> {
    RoomName::system(&format!("$cursors-{user}")).ok()
}

/// Under which name the place of one device in one group stands there. Rooms have no spaces in their names.
pub(crate) fn cursor_entry(room: &RoomName, device: &str) -> String {
    format!("{room} {device}")
}

/// How far reading got.
#[derive(Debug)]
pub(super) struct Grouping {
    device: Box<str>,
    /// By room; `None`: to be read.
    groups: Option<BTreeMap<RoomName, Membership>>,
    /// How far the device is; where it is new, how far the user's furthest one is.
    own: BTreeMap<RoomName, Position>,
    furthest: BTreeMap<RoomName, Position>,
    /// Cursors behind this one are to be read.
    after: Option<Box<str>>,
    /// What was read does not count.
    doubted: bool,
}

impl Grouping {
    pub(super) const fn new(device: Box<str>) -> Self {
        Self {
            device,
            groups: None,
            own: BTreeMap::new(),
            furthest: BTreeMap::new(),
            after: None,
            doubted: false,
        }
    }

    /// The groups have changed meanwhile.
    pub(super) const fn doubt(&mut self) {
        self.doubted = true;
    }

    pub(super) fn held(&self) -> usize {
        let rooms = self
            .own
            .keys()
            .chain(self.furthest.keys())
            .chain(self.groups.iter().flatten().map(|it| it.0));
        let one = size_of::<Membership>() + held::ROW_BYTES;
        rooms.map(|room| one + room.as_str().len()).sum()
    }

    pub(super) fn question(&self, groups: &RoomName, user: &str) -> Question {
        let behind = |after| Entries::Behind { after, count_max: ENTRIES_PAGE_MAX };
        match (&self.groups, cursors_of(user)) {
            (Some(_), Some(cursors)) => Question::Entries(cursors, behind(self.after.clone())),
            (Some(_), None) | (None, _) => Question::Entries(groups.clone(), behind(None)),
        }
    }

    /// Another page is read.
    pub(super) fn read(mut self, page: DirectoryPage) -> (Self, Step) {
        if self.doubted {
            return (Self::new(self.device), Step::Ask);
        }
        let Some(groups) = &self.groups else {
            let groups = page.entries.iter().filter_map(|(id, value)| membership_in(id, value));
            let groups: BTreeMap<_, _> = groups.map(|it| (it.room.clone(), it)).collect();
            let none = groups.is_empty();
            self.groups = Some(groups);
            return if none { self.answer() } else { (self, Step::Ask) };
        };
        for (name, value) in &page.entries {
            let Some((room, device)) = name.split_once(' ') else { continue };
            let Some((room, _)) =
                RoomName::parse(room).ok().and_then(|it| groups.get_key_value(&it))
            else {
                continue;
            };
            let place = std::str::from_utf8(value).ok().and_then(membership::parse_place);
            let Some(place) = place else { continue };
            if *device == *self.device {
                self.own.insert(room.clone(), place);
            }
            let held = self.furthest.entry(room.clone()).or_insert(place);
            *held = later(*held, place);
        }
        self.after = page.next;
        if self.after.is_some() { (self, Step::Ask) } else { self.answer() }
    }

    fn answer(mut self) -> (Self, Step) {
        let groups = self.groups.take().unwrap_or_default().into_iter().map(|(room, it)| {
            let place = self.own.get(&room).or_else(|| self.furthest.get(&room));
            (it, place.copied())
        });
        let answer = Answered::Groups(groups.collect());
        (self, Step::Over(Ok(answer)))
    }
}

/// The later of two places; of two epochs nobody knows, and the second counts.
pub(crate) fn later(one: Position, other: Position) -> Position {
    if one.epoch == other.epoch && one.offset > other.offset { one } else { other }
}

/// What stands under a group's id; `None`: nothing that a node wrote.
pub(super) fn membership_in(id: &str, value: &[u8]) -> Option<Membership> {
    let room = conversation::group(id).ok()?;
    membership::parse(room, std::str::from_utf8(value).ok()?)
}
