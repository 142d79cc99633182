//! Directories: named small values that stay until they are removed, or until their directory was idle for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::directory::{
    DirectoryPage, ENTRIES_MAX, ENTRIES_PAGE_MAX, Entries, EntrySet, SetEntry,
};
use roomcast_protocol::position::OFFSET_MAX;
use roomcast_protocol::room::RoomName;

use crate::sessions::length;
use crate::store::Store;

/// What a directory weighs beside its entries. Units: bytes.
pub const DIRECTORY_BYTES: u64 = 256;

/// What an entry of a directory weighs beside its name and value. Units: bytes.
pub const DIRECTORY_ENTRY_BYTES: u64 = 96;

impl<E: Clone> Store<E> {
    /// Sets an entry of a directory, or removes it. `None`: the store is full, or the entry is beyond a bound; nothing is
    /// changed.
    pub fn set_entry(&mut self, now_ms: u64, set: &SetEntry) -> Option<EntrySet> {
        if !set.is_sound() {
            return None;
        }
        self.expire_directory(now_ms, &set.directory);
        let known = self.directories().all.get(&set.directory);
        let before = known.and_then(|it| it.entries.get(&set.name)).cloned();
        let count = known.map_or(0, |it| it.count());
        let Some(value) = &set.value else {
            if before.is_some() {
                self.directories_mut().remove(&set.directory, &set.name);
            }
            let entries = if before.is_some() { count - 1 } else { count };
            return Some(EntrySet::Done { before, entries });
        };
        if before.is_none() && count >= set.entries_max.min(ENTRIES_MAX) {
            return Some(EntrySet::Full);
        }
        let anew = if known.is_some() { 0 } else { DIRECTORY_BYTES };
        let own = weight(&set.name, value);
        let old = before.as_ref().map_or(0, |value| weight(&set.name, value));
        if own > old && !self.takes(anew + own - old) {
            return None;
        }
        let expires_ms =
            set.idle_ms.map(|idle_ms| now_ms.saturating_add(idle_ms.clamp(1, OFFSET_MAX)));
        self.directories_mut().put(&set.directory, (&set.name, value), expires_ms);
        let entries = if before.is_some() { count } else { count + 1 };
        Some(EntrySet::Done { before, entries })
    }

    /// Entries of a directory.
    pub fn directory(
        &mut self,
        now_ms: u64,
        directory: &RoomName,
        entries: &Entries,
    ) -> DirectoryPage {
        self.expire_directory(now_ms, directory);
        let known = self.directories().all.get(directory);
        known.map_or_else(DirectoryPage::default, |known| known.page(entries))
    }

    fn expire_directory(&mut self, now_ms: u64, directory: &RoomName) {
        let known = self.directories().all.get(directory);
        if known.and_then(|it| it.expires_ms).is_some_and(|expires_ms| expires_ms < now_ms) {
            self.directories_mut().forget(directory);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Directory {
    entries: BTreeMap<Box<str>, Bytes>,
    /// It is forgotten once this has passed. Units: milliseconds.
    expires_ms: Option<u64>,
    /// What its entries weigh. Units: bytes.
    bytes: u64,
}

impl Directory {
    fn count(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    fn page(&self, entries: &Entries) -> DirectoryPage {
        let total = self.count();
        match entries {
            Entries::One(name) => {
                let found = self.entries.get_key_value(name);
                let entries = found.map(|(name, value)| (name.clone(), value.clone()));
                DirectoryPage { entries: entries.into_iter().collect(), total, next: None }
            }
            Entries::Behind { after, count_max } => {
                let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut behind = self.entries.range::<str, _>((after, Bound::Unbounded));
                let count = usize::try_from((*count_max).clamp(1, ENTRIES_PAGE_MAX)).unwrap_or(1);
                let page = behind.by_ref().take(count);
                let entries: Vec<_> =
                    page.map(|(name, value)| (name.clone(), value.clone())).collect();
                let last = entries.last().filter(|_| behind.next().is_some());
                let next = last.map(|(name, _)| name.clone());
                DirectoryPage { entries, total, next }
            }
        }
    }
}

/// All directories that have entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directories {
    all: BTreeMap<RoomName, Arc<Directory>>,
    /// Those that are forgotten some time, by when.
    due: BTreeSet<(u64, RoomName)>,
    bytes: u64,
}

impl Directories {
    /// What they weigh. Units: bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first is over; `None`: none ever is. Units: milliseconds.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(expires_ms, _)| expires_ms.saturating_add(1))
    }

    /// Forgets those that are over, no more than so many, and answers with how many they were.
    pub(crate) fn sweep(&mut self, now_ms: u64, max: usize) -> usize {
        let over = self.due.iter().take_while(|(expires_ms, _)| *expires_ms < now_ms).take(max);
        let over: Vec<_> = over.map(|(_, directory)| directory.clone()).collect();
        over.iter().for_each(|directory| self.forget(directory));
        over.len()
    }

    fn put(
        &mut self,
        directory: &RoomName,
        (name, value): (&str, &Bytes),
        expires_ms: Option<u64>,
    ) {
        if !self.all.contains_key(directory) {
            self.bytes += DIRECTORY_BYTES;
        }
        let it = Arc::make_mut(self.all.entry(directory.clone()).or_default());
        let own = weight(name, value);
        let old = it.entries.insert(name.into(), value.clone());
        let old = old.map_or(0, |value| weight(name, &value));
        it.bytes = it.bytes + own - old;
        self.bytes = self.bytes + own - old;
        if it.expires_ms != expires_ms {
            if let Some(until_ms) = it.expires_ms {
                self.due.remove(&(until_ms, directory.clone()));
            }
            if let Some(until_ms) = expires_ms {
                self.due.insert((until_ms, directory.clone()));
            }
            it.expires_ms = expires_ms;
        }
    }

    /// Removes an entry, and with the last one the directory.
    fn remove(&mut self, directory: &RoomName, name: &str) {
        let Some(it) = self.all.get_mut(directory).map(Arc::make_mut) else { return };
        let old = it.entries.remove(name).map_or(0, |value| weight(name, &value));
        it.bytes -= old;
        self.bytes -= old;
        if it.entries.is_empty() {
            self.forget(directory);
        }
    }

    fn forget(&mut self, directory: &RoomName) {
        let Some(it) = self.all.remove(directory) else { return };
        self.bytes -= DIRECTORY_BYTES + it.bytes;
        if let Some(expires_ms) = it.expires_ms {
            self.due.remove(&(expires_ms, directory.clone()));
        }
    }
}

/// What an entry weighs. Units: bytes.
fn weight(name: &str, value: &Bytes) -> u64 {
    DIRECTORY_ENTRY_BYTES + length(name) + u64::try_from(value.len()).unwrap_or(u64::MAX)
}
