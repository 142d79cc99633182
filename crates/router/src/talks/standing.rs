//! How far the people of a conversation are.

use roomcast_protocol::receipts::{Mark, Receipt};

/// Of one of them. Units: offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) delivered: u64,
    pub(super) read: u64,
}

impl Far {
    /// Of a user.
    pub(super) fn of(user: &str, receipts: &[Receipt]) -> Self {
        let found = receipts.iter().find(|it| *it.user == *user);
        found.map_or_else(Self::default, |it| {
            let read = it.read.map_or(0, |mark| mark.offset);
            Self { delivered: it.delivered.map_or(0, |mark| mark.offset).max(read), read }
        })
    }

    /// Of whoever is furthest of several; of nobody: everything.
    pub(super) fn furthest(users: &[Box<str>], receipts: &[Receipt]) -> Self {
        let each = users.iter().map(|user| Self::of(user, receipts));
        each.reduce(|one, other| Self {
            delivered: one.delivered.max(other.delivered),
            read: one.read.max(other.read),
        })
        .unwrap_or(Self { delivered: u64::MAX, read: u64::MAX })
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
