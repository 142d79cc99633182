//! Named small values that the broker keeps without an end: the members of a group, the groups of a user.
//!
//! Nothing of a directory is published, and nobody is told of a change.

use bytes::Bytes;

use crate::room::RoomName;

/// Longest name of an entry; the shortest has one byte. Units: bytes.
pub const ENTRY_NAME_BYTES_MAX: usize = 255;

/// Longest value of an entry. Units: bytes.
pub const ENTRY_BYTES_MAX: usize = 1_024;

/// Entries of one directory, whatever a question says.
pub const ENTRIES_MAX: u32 = 20_000;

/// Entries of one page.
pub const ENTRIES_PAGE_MAX: u32 = 1_000;

/// One entry is to have a value, or to be gone. Done twice it is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetEntry {
    /// Of which directory.
    pub directory: RoomName,
    /// The entry's name. Bounds: 1 to [`ENTRY_NAME_BYTES_MAX`] bytes.
    pub name: Box<str>,
    /// Its value, at most [`ENTRY_BYTES_MAX`] bytes; `None`: remove it.
    pub value: Option<Bytes>,
    /// Where there are so many entries, a new one is refused. Bounds: more than [`ENTRIES_MAX`] counts as that.
    pub entries_max: u32,
    /// The whole directory is forgotten when nothing was set in it for so long; `None`: never. Removing an entry leaves
    /// the time as it is, and where questions differ the last one decides. Units: milliseconds.
    pub idle_ms: Option<u64>,
}

impl SetEntry {
    /// Whether name and value are within their bounds. What is not is never carried out.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let value_bytes = self.value.as_ref().map_or(0, Bytes::len);
        (1..=ENTRY_NAME_BYTES_MAX).contains(&self.name.len()) && value_bytes <= ENTRY_BYTES_MAX
    }
}

/// What became of [`SetEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntrySet {
    /// It is done.
    Done {
        /// The value that the entry had; `None`: there was no such entry. Where an answer was lost the broker is asked
        /// again, and then it may be what was set.
        before: Option<Bytes>,
        /// There are so many entries now.
        entries: u32,
    },
    /// There are as many entries as there may be, and this would be a new one: nothing is changed.
    Full,
}

/// Which entries of a directory are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// The one with this name.
    One(Box<str>),
    /// Those behind a name.
    Behind {
        /// That name, whether or not there is such an entry; `None`: from the first.
        after: Option<Box<str>>,
        /// How many at most. Bounds: 1 to [`ENTRIES_PAGE_MAX`].
        count_max: u32,
    },
}

/// Part of a directory. One that has no entries is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryPage {
    /// The entries that were asked for, each with its value, by rising bytes of their names.
    pub entries: Vec<(Box<str>, Bytes)>,
    /// Entries of the whole directory.
    pub total: u32,
    /// More entries follow behind this one; `None`: that is all.
    pub next: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_sound_up_to_its_bounds() {
        let is_sound = |name_bytes: usize, value_bytes: Option<usize>| {
            let set = SetEntry {
                directory: RoomName::parse("group").unwrap(),
                name: "n".repeat(name_bytes).into(),
                value: value_bytes.map(|count| Bytes::from(vec![b'v'; count])),
                entries_max: ENTRIES_MAX,
                idle_ms: None,
            };
            set.is_sound()
        };
        for (name, value) in
            [(1, None), (1, Some(0)), (ENTRY_NAME_BYTES_MAX, Some(ENTRY_BYTES_MAX))]
        {
            assert!(is_sound(name, value), "{name} {value:?}");
        }
        for (name, value) in
            [(0, None), (ENTRY_NAME_BYTES_MAX + 1, None), (1, Some(ENTRY_BYTES_MAX + 1))]
        {
            assert!(!is_sound(name, value), "{name} {value:?}");
        }
    }
}
