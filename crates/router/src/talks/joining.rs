//! Somebody becomes a member of a group, or is none any more: it stands in the group's list of members and in the user's list
//! of groups, of which the user's decides. Each step can be repeated; a change that was not answered is asked for again.
//!
//! No step writes both lists, and several nodes may change one member at once. So whoever wrote one list reads the other one
//! behind it, and has the group's follow the user's until both say the same: whoever writes last reads what stays.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{
    self, Answered, GROUP_MEMBERS_MAX, GROUP_NUMBER_MAX, Membership, Role, USER_GROUPS_MAX,
};
use roomcast_protocol::directory::{DirectoryPage, Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::iso8601;

use super::grouping::{groups_of, membership_in};
use super::{Heard, Question, Speaker, Step, below};
use crate::hub::RETRY_MS;
use crate::membership;

/// The room that numbers groups: the offset of the publication whose id is the group's. No two groups have one number; a
/// group may get another one for members that come later, which harms nobody.
pub(crate) const NUMBERS: &str = "$numbers";

/// The number of the group that stands at this place of [`NUMBERS`]; `None`: there are no more. They begin anywhere, and run in a circle: were the
/// room lost, and begun again at 1, new groups would get the numbers that others got before.
pub(super) fn numbered_at(at: Position) -> Option<u32> {
    const COUNT: u128 = GROUP_NUMBER_MAX as u128 + 1;
    let (Epoch(begin), offset) = (at.epoch, u128::from(at.offset));
    let number = (offset < COUNT).then_some((begin % COUNT + offset) % COUNT);
    number.and_then(|it| u32::try_from(it).ok())
}

/// Who numbers groups.
const NUMBERED_BY: &str = "groups";

/// Who is in a group: an entry for each member, under its name within the cluster. `None`: no group is called so.
pub(super) fn members_of(group: &str) -> Option<RoomName> {
    RoomName::system(&format!("$chat-{group}")).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is the user there now?
    Knowing,
    /// Which number has the group?
    Numbering,
    /// Up to where was something said there?
    Placing,
    /// A new member is entered in the group's list.
    Listing,
    /// The user's list is changed.
    Owning,
    /// Does the group's list say what the user's does?
    Comparing,
    /// The group's list follows the user's.
    Following,
    /// Does the user's list still say that?
    Checking,
    /// Only what the user is there is asked.
    Reading,
}

/// How often the group's list follows the user's before whoever asked is told to ask again: each time somebody else has
/// changed it meanwhile.
pub(super) const FOLLOWS_MAX: u32 = 16;

/// How far it got.
#[derive(Debug)]
pub(super) struct Joining {
    members: RoomName,
    groups: RoomName,
    id: Box<str>,
    user: Box<str>,
    role: Option<Role>,
    phase: Phase,
    number: u32,
    /// What the user was.
    before: Option<Role>,
    /// What stands in the user's list, or is to stand there.
    now: Option<Membership>,
    /// Why it can not be what was asked for.
    refused: Option<Refused>,
    follows: u32,
}

impl Joining {
    pub(super) fn new(group: &RoomName, user: Box<str>, role: Option<Role>) -> Option<Self> {
        let id = conversation::group_of(group)?;
        conversation::inbox(&user).ok()?;
        let (members, groups) = (members_of(id)?, groups_of(&user)?);
        let (id, phase, number) = (id.into(), Phase::Knowing, 0);
        let (before, now, refused, follows) = (None, None, None, 0);
        Some(Self { members, groups, id, user, role, phase, number, before, now, refused, follows })
    }

    /// What a user is in a group, and nothing is changed.
    pub(super) fn read(group: &RoomName, user: Box<str>) -> Option<Self> {
        let it = Self::new(group, user, None)?;
        Some(Self { phase: Phase::Reading, ..it })
    }

    /// Whether something of it may stand already.
    pub(super) const fn has_begun(&self) -> bool {
        match self.phase {
            Phase::Knowing | Phase::Numbering | Phase::Placing | Phase::Reading => false,
            Phase::Listing
            | Phase::Owning
            | Phase::Comparing
            | Phase::Following
            | Phase::Checking => true,
        }
    }

    /// Who is to be what.
    pub(super) const fn wanted(&self) -> (&str, Option<Role>) {
        (&self.user, self.role)
    }

    pub(super) fn question(&self, room: &RoomName, who: &Speaker) -> Question {
        match self.phase {
            Phase::Knowing | Phase::Checking | Phase::Reading => {
                Question::Entries(self.groups.clone(), Entries::One(self.id.clone()))
            }
            Phase::Comparing => {
                Question::Entries(self.members.clone(), Entries::One(self.user.clone()))
            }
            Phase::Numbering => Question::Publish(Arc::new(self.wish_for_number(who.at_unix_ms))),
            Phase::Placing => Question::Read(
                room.clone(),
                roomcast_protocol::position::Span { count_max: 1, ..below(u64::MAX) },
            ),
            Phase::Listing | Phase::Following => Question::Enter(self.entry()),
            Phase::Owning => Question::Enter(SetEntry {
                directory: self.groups.clone(),
                name: self.id.clone(),
                value: self.now.as_ref().map(|it| membership::text(it).into()),
                entries_max: USER_GROUPS_MAX,
                idle_ms: None,
            }),
        }
    }

    /// What is to stand in the group's list.
    fn entry(&self) -> SetEntry {
        let value = self.role_now().map(|role| Bytes::from_static(role.name().as_bytes()));
        SetEntry {
            directory: self.members.clone(),
            name: self.user.clone(),
            value,
            entries_max: GROUP_MEMBERS_MAX,
            idle_ms: None,
        }
    }

    /// The same from every node: whoever asks first gives the group its number.
    fn wish_for_number(&self, at_unix_ms: u64) -> Publication {
        let content = Content::Text(self.id.to_string().into());
        let room = RoomName::system(NUMBERS).unwrap_or_else(|_| self.members.clone());
        Publication {
            id: self.id.clone(),
            kind: "group".into(),
            timestamp: iso8601(at_unix_ms).into(),
            sender: NUMBERED_BY.into(),
            ..Publication::bare(room, content)
        }
    }

    fn role_now(&self) -> Option<Role> {
        self.now.as_ref().map(|it| it.role)
    }

    /// The broker says something.
    pub(super) fn hear(mut self, room: &RoomName, heard: Heard) -> (Self, Step) {
        let next = match (self.phase, heard) {
            (Phase::Knowing, Heard::Entries(Some(page))) => {
                let before = self.read_own(&page);
                self.before = before.as_ref().map(|it| it.role);
                match (self.role, before) {
                    (Some(role), Some(before)) => self.takes(Membership { role, ..before }),
                    (Some(_), None) => Phase::Numbering,
                    // The user's own list first: what it names is heard.
                    (None, _) => Phase::Owning,
                }
            }
            (Phase::Numbering, Heard::Published(Ok(Accepted { position: Some(at), .. }))) => {
                match numbered_at(at) {
                    Some(number) => {
                        self.number = number;
                        Phase::Placing
                    }
                    None => {
                        let text =
                            format!("There are {GROUP_NUMBER_MAX} groups, as many as may be");
                        return (self, Step::Over(Err(limit(text))));
                    }
                }
            }
            (Phase::Numbering, Heard::Published(Err(refused))) if !refused.unknown => {
                return (self, Step::Over(Err(refused)));
            }
            (Phase::Placing, Heard::Page(Some(page))) => match self.role {
                Some(role) => {
                    let (number, from) = (self.number, page.head.position);
                    self.takes(Membership { room: room.clone(), role, number, from })
                }
                None => Phase::Owning,
            },
            (Phase::Listing | Phase::Following, Heard::Entered(Some(set))) => {
                return self.entered(&set);
            }
            (Phase::Owning, Heard::Entered(Some(set))) => self.is_owned(set),
            (Phase::Comparing, Heard::Entries(Some(page))) => {
                let role = page.entries.first().and_then(|(_, value)| role_in(value));
                if role == self.role_now() {
                    return self.over();
                }
                Phase::Following
            }
            (Phase::Checking, Heard::Entries(Some(page))) => {
                let now = self.read_own(&page);
                if now.as_ref().map(|it| it.role) == self.role_now() {
                    return self.over();
                }
                self.now = now;
                Phase::Following
            }
            (Phase::Reading, Heard::Entries(Some(page))) => {
                self.now = self.read_own(&page);
                self.before = self.role_now();
                return self.over();
            }
            (_, _) => return (self, Step::Again),
        };
        self.follow(next)
    }

    /// What the user's list says of the group.
    fn read_own(&self, page: &DirectoryPage) -> Option<Membership> {
        page.entries.first().and_then(|(_, value)| membership_in(&self.id, value))
    }

    /// The group's list is changed, or full.
    fn entered(mut self, set: &EntrySet) -> (Self, Step) {
        let next = match (set, self.phase) {
            (EntrySet::Done { .. }, Phase::Listing) => Phase::Owning,
            (EntrySet::Done { .. }, _) => Phase::Checking,
            (EntrySet::Full, phase) => {
                let text = format!("The group has {GROUP_MEMBERS_MAX} members, as many as it may");
                let refused = limit(text);
                if phase == Phase::Listing {
                    return (self, Step::Over(Err(refused)));
                }
                // Another one took the place while the user was taken out: it is none.
                self.refused = self.role.map(|_| refused);
                self.now = None;
                Phase::Owning
            }
        };
        self.follow(next)
    }

    /// The user's list is changed, or full.
    fn is_owned(&mut self, set: EntrySet) -> Phase {
        match set {
            EntrySet::Done { before, .. } => {
                let was = before.and_then(|value| membership_in(&self.id, &value));
                let was = was.map(|it| it.role);
                // Set once more, because an answer was lost, it was what it is.
                if was != self.role_now() {
                    self.before = was;
                }
                Phase::Comparing
            }
            EntrySet::Full => {
                let text = format!("The user is in {USER_GROUPS_MAX} groups, as many as it may be");
                self.refused = Some(limit(text));
                self.now = None;
                Phase::Following
            }
        }
    }

    fn follow(mut self, next: Phase) -> (Self, Step) {
        self.phase = next;
        if next == Phase::Following {
            self.follows += 1;
            if self.follows > FOLLOWS_MAX {
                let text = "Others change the same member at the same time: send it again";
                let refused = Refused::unavailable(text.into(), RETRY_MS);
                return (self, Step::Over(Err(refused)));
            }
        }
        (self, Step::Ask)
    }

    fn takes(&mut self, now: Membership) -> Phase {
        self.now = Some(now);
        Phase::Listing
    }

    /// Both lists say the same.
    fn over(mut self) -> (Self, Step) {
        if let Some(refused) = self.refused.take() {
            return (self, Step::Over(Err(refused)));
        }
        let (user, now, before) = (self.user.clone(), self.now.take(), self.before);
        (self, Step::Over(Ok(Answered::Member { user, now, before })))
    }
}

/// What stands under a member's name in the group's list.
fn role_in(value: &[u8]) -> Option<Role> {
    Role::named(std::str::from_utf8(value).ok()?)
}

fn limit(text: String) -> Refused {
    Refused::because(Refusal::Limit, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_in_a_circle_once() {
        let number = |epoch, offset| numbered_at(Position { epoch: Epoch(epoch), offset });
        let count = u64::from(GROUP_NUMBER_MAX) + 1;
        assert_eq!([number(0, 1), number(7, 3)], [Some(1), Some(10)]);
        assert_eq!(number(u128::from(count) - 1, 1), Some(0), "behind the highest");
        assert_eq!(number(u128::from(count) * 5 + 4, 0), Some(4));
        assert_eq!(number(9, count - 1), Some(8), "all others were before it");
        assert_eq!(number(9, count), None);
        assert!(number(u128::MAX, count - 1).is_some_and(|it| it <= GROUP_NUMBER_MAX));
    }
}
