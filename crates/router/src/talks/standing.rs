//! How far the people of a conversation are.

use roomcast_protocol::receipts::{Mark, Receipt, ReceiptsPage};
use roomcast_protocol::room::RoomName;

use super::{Question, Talking};

/// Of one of them. Units: offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) delivered: u64,
    pub(super) read: u64,
}

impl Far {
    /// Of a user.
    pub(super) fn of(user: &str, receipts: &[Receipt]) -> Self {
        receipts.iter().find(|it| *it.user == *user).map_or_else(Self::default, Self::said_by)
    }

    /// Of whoever is furthest of several; of nobody: everything.
    pub(super) fn furthest(users: &[Box<str>], receipts: &[Receipt]) -> Self {
        let each = users.iter().map(|user| Self::of(user, receipts));
        each.reduce(Self::or).unwrap_or(Self { delivered: u64::MAX, read: u64::MAX })
    }

    fn said_by(receipt: &Receipt) -> Self {
        let read = receipt.read.map_or(0, |mark| mark.offset);
        Self { delivered: receipt.delivered.map_or(0, |mark| mark.offset).max(read), read }
    }

    fn or(self, other: Self) -> Self {
        Self { delivered: self.delivered.max(other.delivered), read: self.read.max(other.read) }
    }

    /// Of whoever is furthest of those that are not this user.
    fn of_others(user: &str, receipts: &[Receipt]) -> Self {
        let others = receipts.iter().filter(|it| *it.user != *user);
        others.map(Self::said_by).fold(Self::default(), Self::or)
    }

    /// By this mark.
    pub(super) const fn by(self, mark: Mark) -> u64 {
        match mark {
            Mark::Delivered => self.delivered,
            Mark::Read => self.read,
        }
    }

    /// What is true of an offset.
    pub(super) const fn mark(self, offset: u64) -> Option<Mark> {
        if offset <= self.read {
            Some(Mark::Read)
        } else if offset <= self.delivered {
            Some(Mark::Delivered)
        } else {
            None
        }
    }
}

/// How far its people are, as it is read: of a group the first page, and the user's own receipt, wherever it stands.
#[derive(Debug)]
pub(super) struct Standing {
    after: Option<Box<str>>,
    receipts: Vec<Receipt>,
    /// All that counts was read.
    pub(super) known: bool,
    /// What was read weighs. Units: bytes.
    pub(super) held: usize,
}

impl Standing {
    pub(super) const fn new() -> Self {
        Self { after: None, receipts: Vec::new(), known: false, held: 0 }
    }

    pub(super) fn question(&self, room: &RoomName) -> Question {
        Question::Receipts(room.clone(), self.after.clone())
    }

    /// Another page is read.
    pub(super) fn read(&mut self, user: &str, page: ReceiptsPage) {
        let is_first = self.after.is_none();
        let next = behind(user, &page);
        let counts = |it: &Receipt| is_first || *it.user == *user;
        for receipt in page.receipts.into_iter().filter(counts) {
            self.held += size_of::<Receipt>() + receipt.user.len();
            self.receipts.push(receipt);
        }
        self.known = next.is_none();
        self.after = next;
    }

    /// How far the user is, and whoever of the others is furthest: of a group's, all but the user.
    pub(super) fn far(&self, user: &str, others: &[Box<str>], group: bool) -> (Far, Far) {
        let receipts = &self.receipts;
        let theirs =
            if group { Far::of_others(user, receipts) } else { Far::furthest(others, receipts) };
        (Far::of(user, receipts), theirs)
    }
}

/// Behind whom the user's own receipt is to be looked for, where a page does not show it: its name without the last
/// character is in front of it, with few between the two.
fn behind(user: &str, page: &ReceiptsPage) -> Option<Box<str>> {
    let next = page.next.as_deref()?;
    if next >= user || page.receipts.iter().any(|it| *it.user == *user) {
        return None;
    }
    let mut close = user.to_owned();
    close.pop();
    Some(next.max(close.as_str()).into())
}

impl Talking {
    /// How far the speaker is, and whoever of the others is furthest.
    pub(super) fn far(&self, standing: &Standing) -> (Far, Far) {
        standing.far(&self.who.user, &self.others, self.group.is_some())
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::{Epoch, Position};
    use roomcast_protocol::receipts::Marked;

    use super::*;

    fn page(users: &[&str], next: Option<&str>) -> ReceiptsPage {
        let receipt = |user: &&str| {
            let at = Some(Marked { offset: user.len() as u64, at_unix_ms: 1 });
            Receipt { user: (*user).into(), delivered: at, read: at }
        };
        let head = Position { epoch: Epoch(1), offset: 9 };
        let receipts = users.iter().map(receipt).collect();
        ReceiptsPage { head, version: 1, receipts, next: next.map(Into::into) }
    }

    #[test]
    fn the_users_own_receipt_is_found_behind_many() {
        let mut standing = Standing::new();
        standing.read("user-77", page(&["a", "b"], Some("b")));
        assert!(!standing.known);
        assert_eq!(standing.after.as_deref(), Some("user-7"));
        standing.read("user-77", page(&["user-70", "user-71"], Some("user-71")));
        assert_eq!(standing.after.as_deref(), Some("user-71"));
        standing.read("user-77", page(&["user-72", "user-77"], Some("user-77")));
        assert!(standing.known);
        assert_eq!(Far::of("user-77", &standing.receipts).read, 7);
        assert_eq!(standing.receipts.len(), 3, "the first page, and one's own");
    }

    #[test]
    fn one_that_has_none_is_not_looked_for_without_end() {
        for (users, next) in [(&["a"][..], None), (&["a", "c"][..], Some("c"))] {
            let mut standing = Standing::new();
            standing.read("b", page(users, next));
            assert!(standing.known, "{users:?}");
            assert_eq!(Far::of("b", &standing.receipts), Far::default());
        }
    }
}
