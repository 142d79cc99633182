//! The members of one room, in their order, and how many of them have each format. Most rooms of a lane have one member
//! and no memory beside themselves for it. Knows nothing of what members are given.

use std::ops::Deref;

/// A session in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The session's index in the lane.
    pub(crate) session: u32,
    /// Index in the lane's table of formats.
    pub(crate) format: u8,
}

/// A room's members.
#[derive(Debug, Default)]
pub(crate) enum Members {
    #[default]
    Nobody,
    One(Member),
    More(Box<More>),
}

/// Two or more.
#[derive(Debug)]
pub(crate) struct More {
    members: Vec<Member>,
    /// How many members have each format.
    formats: Vec<(u8, u32)>,
}

impl Deref for Members {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        match self {
            Self::Nobody => &[],
            Self::One(member) => std::slice::from_ref(member),
            Self::More(more) => &more.members,
        }
    }
}

impl Members {
    /// The formats in use, each once.
    pub(crate) fn formats(&self) -> impl Iterator<Item = u8> {
        let (one, more) = match self {
            Self::Nobody => (None, &[][..]),
            Self::One(member) => (Some(member.format), &[][..]),
            Self::More(more) => (None, &more.formats[..]),
        };
        one.into_iter().chain(more.iter().map(|(format, _)| *format))
    }

    /// Puts one behind the last.
    pub(crate) fn push(&mut self, member: Member) {
        match self {
            Self::Nobody => *self = Self::One(member),
            Self::One(first) => {
                let mut more = More { members: Vec::with_capacity(2), formats: Vec::new() };
                more.push(*first);
                more.push(member);
                *self = Self::More(Box::new(more));
            }
            Self::More(more) => more.push(member),
        }
    }

    /// Has two change their places.
    pub(crate) fn swap(&mut self, one: usize, other: usize) {
        if let Self::More(more) = self {
            more.members.swap(one, other);
        }
    }

    /// Takes out the last, and gives memory back.
    pub(crate) fn pop(&mut self) {
        match self {
            Self::Nobody | Self::One(_) => *self = Self::Nobody,
            Self::More(more) => {
                more.pop();
                if let [last] = more.members[..] {
                    *self = Self::One(last);
                }
            }
        }
    }
}

impl More {
    fn push(&mut self, member: Member) {
        self.members.push(member);
        match self.formats.iter_mut().find(|(format, _)| *format == member.format) {
            Some((_, count)) => *count += 1,
            None => {
                self.formats.reserve_exact(1);
                self.formats.push((member.format, 1));
            }
        }
    }

    fn pop(&mut self) {
        let Some(member) = self.members.pop() else { return };
        if let Some(at) = self.formats.iter().position(|(format, _)| *format == member.format)
            && let Some((_, left)) = self.formats.get_mut(at)
        {
            *left -= 1;
            if *left == 0 {
                self.formats.swap_remove(at);
            }
        }
        if self.members.capacity() > 4 * self.members.len() + 64 {
            self.members.shrink_to(2 * self.members.len());
        }
    }

    /// Its own counts.
    #[cfg(test)]
    fn walk(&self) {
        assert!(self.members.len() >= 2);
        for (format, count) in &self.formats {
            let members = self.members.iter().filter(|member| member.format == *format).count();
            assert_eq!(*count as usize, members);
        }
        let counted: u32 = self.formats.iter().map(|(_, count)| count).sum();
        assert_eq!(counted as usize, self.members.len());
    }
}

#[cfg(test)]
impl Members {
    /// Its own counts.
    pub(crate) fn walk(&self) {
        if let Self::More(more) = self {
            more.walk();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_their_formats_are_the_same_whether_there_is_one_or_more() {
        let mut members = Members::default();
        let mut model: Vec<Member> = Vec::new();
        for (session, format) in [(1, 0), (2, 1), (3, 0), (4, 2), (5, 0)] {
            let member = Member { session, format };
            members.push(member);
            model.push(member);
            members.swap(0, model.len() - 1);
            let last = model.len() - 1;
            model.swap(0, last);
            check(&members, &model);
        }
        while model.pop().is_some() {
            members.pop();
            check(&members, &model);
        }
        assert!(matches!(members, Members::Nobody), "nothing is left");
    }

    #[track_caller]
    fn check(members: &Members, model: &[Member]) {
        members.walk();
        assert_eq!(&members[..], model);
        let mut formats: Vec<u8> = members.formats().collect();
        let mut expected: Vec<u8> = model.iter().map(|member| member.format).collect();
        expected.sort_unstable();
        expected.dedup();
        formats.sort_unstable();
        assert_eq!(formats, expected);
    }

    #[test]
    fn the_only_member_lies_in_its_room() {
        assert_eq!(size_of::<Members>(), 16);
    }
}
