//! Somebody becomes a member of a group, or is none any more: the group's list of members counts, and the user's list of
//! groups follows. Each step can be repeated; a change that was not answered is asked for again.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{
    self, Answered, GROUP_MEMBERS_MAX, GROUP_NUMBER_MAX, Membership, Role, USER_GROUPS_MAX,
};
use roomcast_protocol::directory::{Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::Accepted;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::iso8601;

use super::grouping::{groups_of, membership_in};
use super::{Heard, Question, Step, below};
use crate::membership;

/// The room that numbers groups: the offset of the publication whose id is the group's. No two groups have one number; a
/// group may get another one for members that come later, which harms nobody.
pub(crate) const NUMBERS: &str = "$numbers";

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
    /// The group's list is changed.
    Listing,
    /// The user's list is changed.
    Owning,
    /// The user is in too many groups: the group's list is as it was.
    Undoing,
}

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
    before: Option<Membership>,
    now: Option<Membership>,
}

impl Joining {
    pub(super) fn new(group: &RoomName, user: Box<str>, role: Option<Role>) -> Option<Self> {
        let id = conversation::group_of(group)?;
        conversation::inbox(&user).ok()?;
        let (members, groups) = (members_of(id)?, groups_of(&user)?);
        let (phase, number, before, now) = (Phase::Knowing, 0, None, None);
        Some(Self { members, groups, id: id.into(), user, role, phase, number, before, now })
    }

    /// Whether something of it may stand already.
    pub(super) const fn has_begun(&self) -> bool {
        matches!(self.phase, Phase::Listing | Phase::Owning | Phase::Undoing)
    }

    /// Who is to be what.
    pub(super) const fn wanted(&self) -> (&str, Option<Role>) {
        (&self.user, self.role)
    }

    pub(super) fn question(&self, room: &RoomName, at_unix_ms: u64) -> Question {
        match self.phase {
            Phase::Knowing => Question::Entries(self.groups.clone(), Entries::One(self.id.clone())),
            Phase::Numbering => Question::Publish(Arc::new(self.wish_for_number(at_unix_ms))),
            Phase::Placing => Question::Read(
                room.clone(),
                roomcast_protocol::position::Span { count_max: 1, ..below(u64::MAX) },
            ),
            Phase::Listing => {
                let value = self.role.map(|role| Bytes::from_static(role.name().as_bytes()));
                Question::Enter(self.entry(value))
            }
            Phase::Undoing => Question::Enter(self.entry(None)),
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
    fn entry(&self, value: Option<Bytes>) -> SetEntry {
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

    /// The broker says something.
    pub(super) fn hear(mut self, room: &RoomName, heard: Heard) -> (Self, Step) {
        let next = match (self.phase, heard) {
            (Phase::Knowing, Heard::Entries(Some(page))) => {
                let found = page.entries.first();
                self.before = found.and_then(|(_, value)| membership_in(&self.id, value));
                match (self.role, self.before.clone()) {
                    (Some(role), Some(before)) => self.takes(Membership { role, ..before }),
                    (Some(_), None) => Phase::Numbering,
                    // The user's own list first: what it names is heard.
                    (None, _) => Phase::Owning,
                }
            }
            (Phase::Numbering, Heard::Published(Ok(Accepted { position: Some(at), .. }))) => {
                match u32::try_from(at.offset).ok().filter(|it| *it <= GROUP_NUMBER_MAX) {
                    Some(number) => {
                        self.number = number;
                        Phase::Placing
                    }
                    None => {
                        let text =
                            format!("There are {GROUP_NUMBER_MAX} groups, as many as may be");
                        return (self, limit(text));
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
            (Phase::Listing, Heard::Entered(Some(set))) => match (set, self.role) {
                (EntrySet::Done { .. }, Some(_)) => Phase::Owning,
                (EntrySet::Done { .. }, None) => return self.over(),
                (EntrySet::Full, _) => {
                    let text =
                        format!("The group has {GROUP_MEMBERS_MAX} members, as many as it may");
                    return (self, limit(text));
                }
            },
            (Phase::Owning, Heard::Entered(Some(set))) => match (set, self.role) {
                (EntrySet::Done { .. }, Some(_)) => return self.over(),
                (EntrySet::Done { .. }, None) => Phase::Listing,
                (EntrySet::Full, _) => Phase::Undoing,
            },
            (Phase::Undoing, Heard::Entered(Some(_))) => {
                let text = format!("The user is in {USER_GROUPS_MAX} groups, as many as it may be");
                return (self, limit(text));
            }
            (_, _) => return (self, Step::Again),
        };
        self.phase = next;
        (self, Step::Ask)
    }

    fn takes(&mut self, now: Membership) -> Phase {
        self.now = Some(now);
        Phase::Listing
    }

    fn over(mut self) -> (Self, Step) {
        let (user, now) = (self.user.clone(), self.now.take());
        let before = self.before.as_ref().map(|before| before.role);
        (self, Step::Over(Ok(Answered::Member { user, now, before })))
    }
}

fn limit(text: String) -> Step {
    Step::Over(Err(Refused::because(Refusal::Limit, text.into())))
}
