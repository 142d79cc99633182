//! Users whose groups the application has changed are told their conversations anew, in their inboxes, if they are there (in
//! the cluster, looked at or not). Owns who waits for that, and that of one user one list is under way, the next one behind
//! it; what is listed is of [`crate::talks`].
//!
//! Of several lists of one user the newest has to stand. A node tells a change once all nodes have obeyed the order that
//! it made. So whoever lists meanwhile hears of it, and lists once more.

use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::codes::Refused;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Answered, Role};
use roomcast_protocol::lists::{LIST, List};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::talks::{self, TALKS_MAX};
use super::watch::RelayState;
use super::{Hub, NOTICE_AGAIN_MS, NOTICE_MS, NOTICES_MAX};
use crate::messages::{HubEffect, QueryId};
use crate::orders::{Order, Whom};
use crate::talks::{Speaker, Talking};

/// Users who wait to be told their conversations; those beyond are not, counted.
pub const LISTS_MAX: usize = 20_000;

/// Of these, those that are looked for, listed and told at once.
pub const LISTS_UNDER_WAY_MAX: usize = 8;

/// What a user has become in a group; `None`: none of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) user: Box<str>,
    pub(super) group: RoomName,
    pub(super) role: Option<Role>,
}

impl Changed {
    /// What came of asking for it, if that is a change. Where nobody knows whether it is, it counts as one.
    pub(super) fn by(talking: &Talking, outcome: &Result<Answered, Refused>) -> Option<Self> {
        let group = talking.room().clone();
        match outcome {
            Ok(Answered::Member { user, now, before }) => {
                let role = now.as_ref().map(|it| it.role);
                (role != *before).then(|| Self { user: user.clone(), group, role })
            }
            Err(refused) if refused.unknown => {
                talking.half_member().map(|(user, role)| Self { user: user.into(), group, role })
            }
            Ok(_) | Err(_) => None,
        }
    }
}

/// How far telling a user got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits. Units: monotonic milliseconds.
    Due(u64),
    /// Whether the user is there is asked.
    Seeking,
    /// Its conversations are listed; since which version it is there.
    Listing(u64),
    /// The list is being published.
    Telling,
}

#[derive(Debug)]
struct Wanted {
    /// The newest change.
    changed: Changed,
    stage: Stage,
    /// Its groups have changed meanwhile.
    doubted: bool,
    /// When it is given up; `None`: it was not tried yet. Units: monotonic milliseconds.
    until_ms: Option<u64>,
}

/// Users who are to be told their conversations.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// By user. Bounds: [`LISTS_MAX`].
    all: BTreeMap<Box<str>, Wanted>,
    due: BTreeSet<(u64, Box<str>)>,
    /// Those that do not wait. Bounds: [`LISTS_UNDER_WAY_MAX`].
    under_way: BTreeSet<Box<str>>,
    /// What is told once the order that says so to all nodes is over. Bounds: as many as there are orders.
    ordered: BTreeMap<u64, Changed>,
    count: u64,
}

impl Lists {
    /// Users who wait.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// An order came: of whom it changes something, what was listed does not count, unless it was listed because of that.
    pub(super) fn doubt(&mut self, order: &Order) {
        let (user, group, role) = match order {
            Order::Admit(user, member) => (user, &member.room, Some(member.role)),
            Order::Leave(group, Whom::User(user)) => (user, group, None),
            Order::Leave(_, Whom::Session(_))
            | Order::End(_)
            | Order::Revoke(_)
            | Order::Enter(..) => return,
        };
        if let Some(it) = self.all.get_mut(&**user)
            && (it.changed.group != *group || it.changed.role != role)
        {
            it.doubted = true;
        }
    }

    /// Says whether there was place for it.
    fn want(&mut self, changed: Changed) -> bool {
        if let Some(it) = self.all.get_mut(&changed.user) {
            it.doubted = true;
            it.changed = changed;
            return true;
        }
        if self.all.len() >= LISTS_MAX {
            return false;
        }
        let user = changed.user.clone();
        let (stage, doubted, until_ms) = (Stage::Due(0), false, None);
        self.due.insert((0, user.clone()));
        self.all.insert(user, Wanted { changed, stage, doubted, until_ms });
        true
    }

    /// One is over. What has changed meanwhile is listed next.
    fn end(&mut self, user: &str) {
        self.under_way.remove(user);
        if self.all.get(user).is_some_and(|it| it.doubted) {
            self.wait(0, user);
        } else {
            self.all.remove(user);
        }
    }

    /// It is tried at this time. Units: monotonic milliseconds.
    fn wait(&mut self, at_ms: u64, user: &str) {
        self.under_way.remove(user);
        if let Some(it) = self.all.get_mut(user) {
            it.stage = Stage::Due(at_ms);
            // Tried again for what the broker did not answer it is given up in the end; for what has changed it begins.
            it.until_ms = it.until_ms.filter(|_| at_ms > 0);
            self.due.insert((at_ms, user.into()));
        }
    }

    /// One more is begun, if its time has come and others leave it place.
    fn next(&mut self, now: Now) -> Option<Box<str>> {
        let is_due = self.due.first().is_some_and(|(at_ms, _)| *at_ms <= now.mono_ms);
        if !is_due || self.under_way.len() >= LISTS_UNDER_WAY_MAX {
            return None;
        }
        let (_, user) = self.due.pop_first()?;
        let it = self.all.get_mut(&user)?;
        (it.stage, it.doubted) = (Stage::Seeking, false);
        it.until_ms.get_or_insert(now.mono_ms.saturating_add(NOTICE_MS));
        self.under_way.insert(user.clone());
        Some(user)
    }

    /// When [`Hub::lists_turn`] has something to do by itself. Units: monotonic milliseconds.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let free = self.under_way.len() < LISTS_UNDER_WAY_MAX;
        self.due.first().filter(|_| free).map(|(at_ms, _)| *at_ms)
    }

    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.all.is_empty()
            && self.due.is_empty()
            && self.under_way.is_empty()
            && self.ordered.is_empty()
    }
}

impl Hub {
    /// A user's groups have changed: it is told, if it is there.
    pub(super) fn tell_list(&mut self, changed: Changed) {
        if self.config.write_list.is_some() && !self.lists.want(changed) {
            self.counters.lists_lost += 1;
        }
    }

    /// Who is in a group stands: all nodes are told, then the user, for by then its sessions are in the group.
    pub(super) fn tell_of_member(
        &mut self,
        now: Now,
        asked: (QueryId, u64),
        group: &RoomName,
        answered: Answered,
        changed: Option<Changed>,
        out: &mut Vec<HubEffect>,
    ) {
        let Answered::Member { user, now: member, .. } = answered else { return };
        if let Some(changed) = changed {
            self.lists.ordered.insert(asked.0.0, changed);
        }
        let order = Order::of_member(group.clone(), user, member);
        self.give_order(now, asked, &order, out);
    }

    /// An order of this node is over.
    pub(super) fn member_is_told(&mut self, query: QueryId) {
        if let Some(changed) = self.lists.ordered.remove(&query.0) {
            self.tell_list(changed);
        }
    }

    /// Ends those that were told, and begins others.
    pub(super) fn lists_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let is_told = |user: &str| {
            let telling = self.lists.all.get(user).map(|it| it.stage) == Some(Stage::Telling);
            let inbox = conversation::inbox(user).ok().filter(|_| telling);
            inbox.is_some_and(|inbox| !self.notices.tell(&inbox, LIST))
        };
        let told: Vec<_> = self.lists.under_way.iter().filter(|it| is_told(it)).cloned().collect();
        told.iter().for_each(|user| self.lists.end(user));
        while let Some(user) = self.lists.next(now) {
            self.is_user_there(user, out);
        }
    }

    /// Whether a user is there is known, or was not answered: since when it is, looked at or not.
    pub(super) fn list_found(
        &mut self,
        now: Now,
        user: &str,
        since: Option<Vec<Option<u64>>>,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(since) = since else { return self.list_again(now, user) };
        let Some(since) = since.into_iter().flatten().min() else { return self.lists.end(user) };
        if self.talks.len() >= TALKS_MAX || self.state() == RelayState::Isolated {
            return self.list_again(now, user);
        }
        let who = Speaker::of_no_session(user.into(), now);
        let index = talks::index_of(user);
        match (index.map(|index| Talking::all(who, index)), self.lists.all.get_mut(user)) {
            (Some(talking), Some(it)) => {
                it.stage = Stage::Listing(since);
                let asker = talks::Asker::List(user.into());
                self.begin_talk(now, talking, Some(asker), None, out);
            }
            (None, _) | (_, None) => self.lists.end(user),
        }
    }

    /// A user's conversations are listed, or are not.
    pub(super) fn listed(&mut self, now: Now, user: &str, outcome: Result<Answered, Refused>) {
        let Ok(Answered::Conversations { list, .. }) = outcome else {
            return self.list_again(now, user);
        };
        // What is refused for want of place would push out what others are yet to be told.
        if self.notices.len() >= NOTICES_MAX {
            return self.list_again(now, user);
        }
        let inbox = conversation::inbox(user).ok();
        let (Some(write), Some(it), Some(inbox)) =
            (self.config.write_list, self.lists.all.get_mut(user), inbox)
        else {
            return self.lists.end(user);
        };
        let Stage::Listing(since) = std::mem::replace(&mut it.stage, Stage::Telling) else {
            return;
        };
        let about = conversation::group_of(&it.changed.group).unwrap_or_default();
        let content = Content::Json(write(user, &list, about));
        self.lists.count += 1;
        let origin = List { since }.origin(inbox.clone(), now.unix_ms);
        let told = Publication {
            id: format!("{LIST}-{}-{}-{}", self.config.node, self.lists.count, now.unix_ms).into(),
            kind: LIST.into(),
            timestamp: iso8601(now.unix_ms).into(),
            sender: user.into(),
            requires_ack: true,
            origin: Some(Box::new(origin)),
            ..Publication::bare(inbox, content)
        };
        self.counters.lists_told += 1;
        let no_version = Position { epoch: Epoch::NONE, offset: 0 };
        let kept = self.notices.add(now, (no_version, LIST), told);
        self.counters.notices_lost += u64::from(!kept);
    }

    /// The broker did not answer: it is asked again after a while, for as long as a notice is.
    fn list_again(&mut self, now: Now, user: &str) {
        let again_ms = now.mono_ms.saturating_add(NOTICE_AGAIN_MS);
        let until_ms = self.lists.all.get(user).and_then(|it| it.until_ms);
        if until_ms.is_some_and(|until_ms| again_ms <= until_ms) {
            return self.lists.wait(again_ms, user);
        }
        self.counters.lists_lost += 1;
        self.lists.end(user);
    }
}
