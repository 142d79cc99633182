//! One room's roster as this node knows it, and what its members were told of it. Knows neither the broker nor time:
//! it is given pages and diffs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::presence::{PresenceDiff, PresenceMode, RosterPage};
use roomcast_protocol::room::RoomName;

/// What a user costs in a roster beside the name. Units: bytes.
pub(super) const USER_BYTES: usize = 48;

/// Diffs held while a roster is read; beyond it the reading begins anew.
pub const ROSTER_DIFFS_MAX: usize = 256;

/// A roster that is being read, page by page.
#[derive(Debug)]
struct Reading {
    request: u64,
    /// The version of the first page, and of the newest.
    versions: Option<(Position, Position)>,
    count: u64,
    users: BTreeSet<Box<str>>,
    bytes: usize,
    /// What came meanwhile. Bounds: [`ROSTER_DIFFS_MAX`].
    diffs: Vec<Arc<PresenceDiff>>,
    /// All pages are there; diffs that they are ahead of have yet to come.
    whole: bool,
}

/// What a page led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// The next page is behind the last user.
    More,
    /// The roster is known.
    Known,
    /// Diffs that the pages are ahead of have yet to come.
    Waits,
    /// It does not fit together: it is read anew.
    Torn,
}

/// What a diff led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: it is known, or kept until the reading is done.
    Nothing,
    /// The roster goes on.
    Applied,
    /// The reading is done by it.
    Known,
    /// Something is missing: it is read anew.
    Gap,
}

/// One room's roster.
#[derive(Debug)]
pub(super) struct Roster {
    mode: PresenceMode,
    /// With more users only their number is kept and told.
    users_max: u64,
    /// As of which version; `None`: it has not been read.
    version: Option<Position>,
    count: u64,
    /// The epoch under which the node last made sure that what it entered is there.
    entered_under: Option<Epoch>,
    /// Who is there, by name; `None`: only their number is kept.
    users: Option<BTreeSet<Box<str>>>,
    /// What `users` weigh. Units: bytes.
    bytes: usize,
    /// How `users` differ from what the members were told: who has come, and who has gone.
    untold: BTreeMap<Box<str>, bool>,
    /// What the members were told last: as of which version, and how many users.
    told: Option<(Position, u64)>,
    /// They were told, or shown, who is there, and not since then that only the number is.
    told_lists: bool,
    reading: Option<Reading>,
    /// When it is read, or compared, next. Units: monotonic milliseconds.
    pub(super) read_at_ms: Option<u64>,
    /// It is only compared then.
    pub(super) compares: bool,
    /// When its last reading began. Units: monotonic milliseconds.
    pub(super) read_ms: Option<u64>,
    /// When members are told next. Units: monotonic milliseconds.
    pub(super) tell_at_ms: Option<u64>,
    /// When they were told last. Units: monotonic milliseconds.
    pub(super) told_ms: Option<u64>,
}

impl Roster {
    pub(super) const fn new(mode: PresenceMode, users_max: u32) -> Self {
        Self {
            mode,
            users_max: users_max as u64,
            version: None,
            count: 0,
            entered_under: None,
            users: None,
            bytes: 0,
            untold: BTreeMap::new(),
            told: None,
            told_lists: false,
            reading: None,
            read_at_ms: None,
            compares: false,
            read_ms: None,
            tell_at_ms: None,
            told_ms: None,
        }
    }

    /// What its users weigh, those included that are being read. Units: bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.reading.as_ref().map_or(0, |reading| reading.bytes)
    }

    pub(super) const fn version(&self) -> Option<Position> {
        self.version
    }

    /// Whether the broker knew nothing of the room when it was read: nobody had ever been entered, or not for long.
    pub(super) fn is_blank(&self) -> bool {
        self.version.is_some_and(|version| version.offset == 0)
    }

    /// Whether members are told who comes and goes, not only how many there are.
    pub(super) const fn lists(&self) -> bool {
        self.users.is_some()
    }

    /// The epoch when this was asked last, if that is another one than now.
    pub(super) fn renew(&mut self) -> Option<Option<Epoch>> {
        let epoch = self.version.map(|version| version.epoch);
        let before = std::mem::replace(&mut self.entered_under, epoch);
        (before != epoch).then_some(before)
    }

    /// Who is there, if it is known.
    pub(super) const fn users(&self) -> Option<&BTreeSet<Box<str>>> {
        self.users.as_ref()
    }

    /// Whether who is there should be known, and is not. A tenth below the bound, so that a room at the bound is not
    /// read and told anew with each user who comes and goes.
    pub(super) fn lacks_users(&self) -> bool {
        self.mode == PresenceMode::Members
            && self.users.is_none()
            && !self.told_lists
            && self.count <= self.users_max - self.users_max / 10
    }

    /// Whether it is being read, or about to be: until then nobody is told what may be wrong.
    pub(super) const fn is_unsettled(&self) -> bool {
        self.reading.is_some() || self.read_at_ms.is_some() && !self.compares
    }

    /// Whether only the number of users is asked for.
    pub(super) const fn counts_only(&self) -> bool {
        matches!(self.mode, PresenceMode::Off | PresenceMode::Count)
    }

    /// A reading begins.
    pub(super) fn begin(&mut self, request: u64) {
        self.reading = Some(Reading {
            request,
            versions: None,
            count: 0,
            users: BTreeSet::new(),
            bytes: 0,
            diffs: Vec::new(),
            whole: false,
        });
    }

    /// The next page is asked for.
    pub(super) fn ask_on(&mut self, request: u64) -> Option<Box<str>> {
        let reading = self.reading.as_mut()?;
        reading.request = request;
        reading.users.last().cloned()
    }

    /// Whether an answer is for this reading.
    pub(super) fn awaits(&self, request: u64) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.request == request && !reading.whole)
    }

    /// The reading is given up.
    pub(super) fn stop(&mut self) {
        self.reading = None;
    }

    /// A page came. All its users may weigh `bytes_max`, those included that are known from before.
    pub(super) fn page(&mut self, page: RosterPage, bytes_max: usize) -> Turned {
        // Members whose list was given up are told so first.
        let given_up = self.users.is_none() && self.told_lists;
        let counts = self.counts_only() || given_up || page.count > self.users_max;
        let Some(reading) = &mut self.reading else { return Turned::Torn };
        let first = reading.versions.map_or(page.version, |(first, _)| first);
        if first.epoch != page.version.epoch {
            return Turned::Torn;
        }
        reading.versions = Some((first, page.version));
        reading.count = page.count;
        if !counts {
            let bytes: usize = page.users.iter().map(|user| user.len() + USER_BYTES).sum();
            reading.bytes += bytes;
            reading.users.extend(page.users);
        }
        if counts || self.bytes + reading.bytes > bytes_max {
            // Their number is right as of this page.
            let reading = self.reading.take();
            return self.know_count(page.version, page.count, reading);
        }
        if page.more {
            return Turned::More;
        }
        reading.whole = true;
        self.finish()
    }

    /// Only how many there are is known from now on.
    fn know_count(&mut self, version: Position, count: u64, reading: Option<Reading>) -> Turned {
        self.forget_users();
        self.version = Some(version);
        self.count = count;
        for diff in reading.into_iter().flat_map(|reading| reading.diffs) {
            if self.hear(&diff) == Heard::Gap {
                return Turned::Torn;
            }
        }
        Turned::Known
    }

    /// Who is there is not kept any more; members are told the number from now on.
    pub(super) fn forget_users(&mut self) {
        self.users = None;
        self.bytes = 0;
        self.untold = BTreeMap::new();
    }

    /// Puts what was read in force, once all diffs are there that its pages know of already. Done again in their order,
    /// diffs leave each user as the newest of them does, whichever page knew of it.
    fn finish(&mut self) -> Turned {
        let Some(reading) = &mut self.reading else { return Turned::Torn };
        let Some((first, last)) = reading.versions else { return Turned::Torn };
        let born = reading.diffs.iter().find(|diff| follows(first, diff.version));
        let epoch = born.map_or(first.epoch, |diff| diff.version.epoch);
        if reading.diffs.iter().any(|diff| diff.version.epoch != epoch) {
            return Turned::Torn; // which of both is the newer one only another reading says
        }
        let mut at = Position { epoch, ..first };
        let mut run = Vec::new();
        reading.diffs.sort_by_key(|diff| diff.version.offset);
        for diff in &reading.diffs {
            if diff.version == at.next() {
                at = diff.version;
                run.push(Arc::clone(diff));
            } else if diff.version.offset > at.offset {
                break;
            }
        }
        if at.offset < last.offset {
            return Turned::Waits;
        }
        let later = reading.diffs.iter().any(|diff| diff.version.offset > at.offset);
        let Some(mut reading) = self.reading.take().filter(|_| !later) else {
            return Turned::Torn;
        };
        for diff in &run {
            reading.count = diff.count;
            for user in &diff.left {
                reading.users.remove(user);
            }
            reading.users.extend(diff.joined.iter().cloned());
        }
        if reading.users.len() as u64 != reading.count {
            return Turned::Torn;
        }
        self.know(at, reading.users);
        Turned::Known
    }

    fn know(&mut self, version: Position, users: BTreeSet<Box<str>>) {
        let before = self.users.take();
        match (&before, self.told) {
            (Some(before), _) => {
                for user in users.symmetric_difference(before) {
                    note(&mut self.untold, user, users.contains(user));
                }
            }
            // The members know a number alone: all users are new to them.
            (None, Some(_)) => {
                self.untold = users.iter().map(|user| (user.clone(), true)).collect();
            }
            // Whoever came before the roster was known asks.
            (None, None) => {}
        }
        self.count = users.len() as u64;
        self.version = Some(version);
        self.bytes = users.iter().map(|user| user.len() + USER_BYTES).sum();
        self.users = Some(users);
        if self.told.is_none() {
            self.told = Some((version, self.count));
            self.told_lists = true;
        }
    }

    /// A diff came by the feed.
    pub(super) fn hear(&mut self, diff: &Arc<PresenceDiff>) -> Heard {
        if let Some(reading) = &mut self.reading {
            if reading.diffs.len() >= ROSTER_DIFFS_MAX {
                return Heard::Gap;
            }
            reading.diffs.push(Arc::clone(diff));
            if !reading.whole {
                return Heard::Nothing;
            }
            return match self.finish() {
                Turned::Known => Heard::Known,
                Turned::More | Turned::Waits => Heard::Nothing,
                Turned::Torn => Heard::Gap,
            };
        }
        let Some(version) = self.version else { return Heard::Nothing };
        if diff.version.epoch == version.epoch && diff.version.offset <= version.offset {
            return Heard::Nothing;
        }
        if !follows(version, diff.version) {
            return Heard::Gap;
        }
        if self.entered_under == Some(version.epoch) {
            self.entered_under = Some(diff.version.epoch);
        }
        self.version = Some(diff.version);
        self.count = diff.count;
        if diff.count > self.users_max {
            self.forget_users();
        }
        let Some(users) = &mut self.users else { return Heard::Applied };
        for user in &diff.left {
            if users.remove(user) {
                self.bytes -= user.len() + USER_BYTES;
                note(&mut self.untold, user, false);
            }
        }
        for user in &diff.joined {
            if users.insert(user.clone()) {
                self.bytes += user.len() + USER_BYTES;
                note(&mut self.untold, user, true);
            }
        }
        if users.len() as u64 == diff.count { Heard::Applied } else { Heard::Gap }
    }

    /// Whether members have something to be told.
    pub(super) fn has_news(&self) -> bool {
        let Some(version) = self.version else { return false };
        match (&self.users, self.told) {
            (Some(_), Some((told, _))) => !self.untold.is_empty() || told != version,
            (Some(_), None) => false,
            (None, told) => self.told_lists || told.is_none_or(|(_, count)| count != self.count),
        }
    }

    /// What members are told: the net difference to what they were told before; where only the number is kept, that.
    /// `None`: nothing that concerns them.
    pub(super) fn tell(&mut self, room: &RoomName) -> Option<PresenceDiff> {
        let version = self.version?;
        let before = self.told.replace((version, self.count));
        let listed = std::mem::replace(&mut self.told_lists, self.users.is_some());
        let untold = std::mem::take(&mut self.untold);
        let news = match &self.users {
            Some(_) => !untold.is_empty(),
            None => listed || before.is_none_or(|(_, count)| count != self.count),
        };
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (user, came) in untold {
            if came { &mut joined } else { &mut left }.push(user);
        }
        let room = room.clone();
        news.then_some(PresenceDiff { room, version, count: self.count, joined, left })
    }

    /// Whether members were told that the user is there; where they are told numbers alone, whether they were told one.
    pub(super) fn was_told(&self, user: &str) -> bool {
        match (&self.users, self.told) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(users), Some(_)) => {
                self.untold.get(user).map_or_else(|| users.contains(user), |came| !came)
            }
        }
    }

    /// Users behind `after`, as the members were told, so that what they are told next fits; `None`: not known yet.
    pub(super) fn shown(&self, after: Option<&str>, count_max: usize) -> Option<RosterPage> {
        let (version, count) = self.told?;
        let Some(users) = &self.users else {
            // As the members were told: what they are told next is what differs from that.
            return Some(RosterPage { version, count, users: Vec::new(), more: count > 0 });
        };
        let behind = |after: Option<&str>| match after {
            Some(after) => (Bound::Excluded(after.to_owned()), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let range = behind(after);
        let range = (range.0.as_ref().map(String::as_str), range.1);
        let told = |user: &str| self.untold.get(user).is_none_or(|came| !came);
        let stay = users.range::<str, _>(range).filter(|user| told(user));
        let gone = self.untold.range::<str, _>(range).filter(|(_, came)| !**came);
        let mut stay = stay.take(count_max + 1).peekable();
        let mut gone = gone.map(|(user, _)| user).take(count_max + 1).peekable();
        let mut page = Vec::new();
        while page.len() <= count_max {
            let from_gone = match (stay.peek(), gone.peek()) {
                (Some(stay), Some(gone)) => gone < stay,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let Some(user) = (if from_gone { gone.next() } else { stay.next() }) else { break };
            page.push(user.clone());
        }
        let more = page.len() > count_max;
        page.truncate(count_max);
        // Members know their number alone so far.
        let counted = after.is_none() && page.is_empty() && count > 0;
        Some(RosterPage { version, count, users: page, more: more || counted })
    }

    #[cfg(test)]
    pub(super) fn walk(&self) {
        let users = self.users.iter().flatten();
        assert_eq!(self.bytes, users.map(|user| user.len() + USER_BYTES).sum::<usize>());
        for (user, came) in &self.untold {
            let there = self.users.as_ref().is_some_and(|users| users.contains(user));
            assert_eq!(there, *came, "{user} is told what is not so");
        }
    }
}

/// Whether a version is the next one. A room of which nothing was known begins under an epoch that nobody could foresee.
fn follows(version: Position, next: Position) -> bool {
    next == version.next() || version.offset == 0 && next.offset == 1
}

/// A user has come, or gone, since members were told; both cancel each other.
fn note(untold: &mut BTreeMap<Box<str>, bool>, user: &str, came: bool) {
    if untold.get(user).is_some_and(|before| *before != came) {
        untold.remove(user);
    } else {
        untold.insert(user.into(), came);
    }
}
