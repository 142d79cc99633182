//! Members of a group are called: those who are none are not told.

use roomcast_protocol::conversation::{self, Saying};
use roomcast_protocol::directory::{DirectoryPage, Entries};
use roomcast_protocol::room::RoomName;

use super::joining::members_of;
use super::{Question, Stage, Step, Talking, held};

#[derive(Debug, PartialEq, Eq)]
enum Known {
    Waits,
    UnderWay,
    Is(bool),
}

/// How far it is known who of those that are called is a member.
#[derive(Debug)]
pub(super) struct Inviting {
    to: Vec<(Box<str>, Known)>,
    told: Saying,
    said: Option<Saying>,
}

impl Inviting {
    pub(super) fn new(to: Vec<Box<str>>, told: Saying, said: Option<Saying>) -> Self {
        let to = to.into_iter().map(|user| (user, Known::Waits)).collect();
        Self { to, told, said }
    }

    pub(super) fn asked(&self) -> usize {
        let said = self.said.as_ref().map_or(0, held::saying);
        held::saying(&self.told) + said + self.to.len() * held::EVENT_BYTES
    }

    pub(super) fn questions(&mut self, room: &RoomName) -> Vec<(usize, Question)> {
        let members = conversation::group_of(room).and_then(members_of);
        let Some(members) = members else { return Vec::new() };
        let waiting = self.to.iter_mut().enumerate().filter(|(_, it)| it.1 == Known::Waits);
        waiting
            .map(|(place, (user, known))| {
                *known = Known::UnderWay;
                (place, Question::Entries(members.clone(), Entries::One(user.clone())))
            })
            .collect()
    }

    /// The broker did not answer this one.
    pub(super) fn put_back(&mut self, place: usize) {
        if let Some((_, known)) = self.to.get_mut(place) {
            *known = Known::Waits;
        }
    }
}

impl Talking {
    /// Whether one of them is a member is known.
    pub(super) fn is_invited(
        &self,
        mut it: Inviting,
        place: usize,
        page: &DirectoryPage,
    ) -> (Stage, Step) {
        if let Some((_, known)) = it.to.get_mut(place) {
            *known = Known::Is(!page.entries.is_empty());
        }
        if it.to.iter().any(|(_, known)| !matches!(known, Known::Is(_))) {
            return (Stage::Inviting(it), Step::Wait);
        }
        let Inviting { to, told, said } = it;
        let members = to.iter().filter(|(_, known)| *known == Known::Is(true));
        let others = members.map(|(user, _)| user).filter(|user| **user != self.who.user);
        (self.tell(others, &told, said), Step::Ask)
    }
}
