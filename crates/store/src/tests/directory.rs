//! Directories: their bounds, what they weigh, and when they are forgotten.

use bytes::Bytes;
use roomcast_protocol::directory::{
    DirectoryPage, ENTRIES_MAX, ENTRIES_PAGE_MAX, ENTRY_BYTES_MAX, ENTRY_NAME_BYTES_MAX, Entries,
    EntrySet, SetEntry,
};

use super::super::*;
use super::{RULES, room};

const ALL: Entries = Entries::Behind { after: None, count_max: ENTRIES_PAGE_MAX };

fn entry(name: &str, value: Option<&str>) -> SetEntry {
    SetEntry {
        directory: room("group"),
        name: name.into(),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        entries_max: ENTRIES_MAX,
        idle_ms: None,
    }
}

fn idle(name: &str, value: Option<&str>, idle_ms: u64) -> SetEntry {
    SetEntry { idle_ms: Some(idle_ms), ..entry(name, value) }
}

fn done(before: Option<&str>, entries: u32) -> Option<EntrySet> {
    let before = before.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Some(EntrySet::Done { before, entries })
}

fn names(page: &DirectoryPage) -> Vec<&str> {
    page.entries.iter().map(|(name, _)| &**name).collect()
}

fn all(store: &mut Store<u64>, now_ms: u64) -> String {
    names(&store.directory(now_ms, &room("group"), &ALL)).join(" ")
}

#[test]
fn a_directory_weighs_what_is_in_it_and_an_empty_one_nothing() {
    let mut store = Store::<u64>::new(RULES, 1);
    let entry_bytes = |name: u64, value: u64| DIRECTORY_ENTRY_BYTES + name + value;
    assert_eq!(store.set_entry(0, &entry("ann", Some("12"))), done(None, 1));
    assert_eq!(store.bytes(), DIRECTORY_BYTES + entry_bytes(3, 2));
    assert_eq!(store.set_entry(0, &entry("ann", Some("12345"))), done(Some("12"), 1));
    assert_eq!(store.set_entry(0, &entry("bo", Some(""))), done(None, 2));
    assert_eq!(store.bytes(), DIRECTORY_BYTES + entry_bytes(3, 5) + entry_bytes(2, 0));
    assert_eq!(store.set_entry(0, &entry("ann", None)), done(Some("12345"), 1));
    assert_eq!(store.set_entry(0, &entry("ann", None)), done(None, 1));
    assert_eq!(store.bytes(), DIRECTORY_BYTES + entry_bytes(2, 0));
    assert_eq!(store.set_entry(0, &entry("bo", None)), done(Some(""), 0));
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.directory(0, &room("group"), &ALL), DirectoryPage::default());
}

#[test]
fn a_full_store_takes_no_more_and_still_gives_and_forgets() {
    let bytes_max = DIRECTORY_BYTES + 2 * (DIRECTORY_ENTRY_BYTES + 1 + 4);
    let mut store = Store::<u64>::new(Rules { bytes_max, ..RULES }, 1);
    assert_eq!(store.set_entry(0, &entry("a", Some("1234"))), done(None, 1));
    assert_eq!(store.set_entry(0, &entry("b", Some("12345"))), None, "one byte too many");
    assert_eq!(store.set_entry(0, &entry("b", Some("1234"))), done(None, 2));
    assert_eq!(store.bytes(), bytes_max);
    assert_eq!(store.set_entry(0, &entry("a", Some("12345"))), None);
    assert_eq!(store.set_entry(0, &entry("c", Some(""))), None);
    let at = At { now_ms: 0, fresh: roomcast_protocol::position::Epoch(1) };
    assert_eq!(store.head(&room("news"), at), None, "they share what there is");
    assert_eq!(store.set_entry(0, &entry("a", Some("abcd"))), done(Some("1234"), 2));
    assert_eq!(store.set_entry(0, &entry("b", None)), done(Some("1234"), 1));
    assert_eq!(store.set_entry(0, &entry("a", Some("12345"))), done(Some("abcd"), 1));
    assert_eq!(all(&mut store, 0), "a");
}

#[test]
fn a_directory_takes_as_many_entries_as_are_asked_for_and_as_there_may_be() {
    let mut store = Store::<u64>::new(RULES, 1);
    let most = |name: &str, entries_max| SetEntry { entries_max, ..entry(name, Some("v")) };
    assert_eq!(store.set_entry(0, &most("a", 0)), Some(EntrySet::Full));
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.set_entry(0, &most("a", 2)), done(None, 1));
    assert_eq!(store.set_entry(0, &most("b", 2)), done(None, 2));
    assert_eq!(store.set_entry(0, &most("c", 2)), Some(EntrySet::Full));
    assert_eq!(store.set_entry(0, &most("b", 1)), done(Some("v"), 2), "it is there already");
    for number in 2..ENTRIES_MAX {
        assert_eq!(
            store.set_entry(0, &most(&number.to_string(), u32::MAX)),
            done(None, number + 1)
        );
    }
    assert_eq!(store.set_entry(0, &most("c", u32::MAX)), Some(EntrySet::Full));
    assert_eq!(store.set_entry(0, &entry("a", None)), done(Some("v"), ENTRIES_MAX - 1));
    assert_eq!(store.set_entry(0, &most("c", u32::MAX)), done(None, ENTRIES_MAX));
}

#[test]
fn an_entry_beyond_its_bounds_is_not_set() {
    let mut store = Store::<u64>::new(RULES, 1);
    let (long, large) = ("n".repeat(ENTRY_NAME_BYTES_MAX), "v".repeat(ENTRY_BYTES_MAX));
    assert_eq!(store.set_entry(0, &entry(&long, Some(&large))), done(None, 1));
    for (name, value) in [(format!("{long}n"), ""), (String::new(), ""), ("a".into(), "v")] {
        let value = if value.is_empty() { String::new() } else { format!("{large}{value}") };
        assert_eq!(store.set_entry(0, &entry(&name, Some(&value))), None, "{name}");
    }
    assert_eq!(all(&mut store, 0), long);
}

#[test]
fn a_page_is_as_long_as_asked_and_names_where_the_next_begins() {
    let mut store = Store::<u64>::new(RULES, 1);
    for number in 0..=ENTRIES_PAGE_MAX {
        store.set_entry(0, &entry(&format!("{number:04}"), Some("v")));
    }
    let mut page = |after: Option<&str>, count_max| {
        let after = after.map(Into::into);
        store.directory(0, &room("group"), &Entries::Behind { after, count_max })
    };
    for (asked, given) in [(0, 1), (1, 1), (1_000, 1_000), (1_001, 1_000), (u32::MAX, 1_000)] {
        let page = page(None, asked);
        assert_eq!((page.entries.len(), page.total), (given, 1_001));
        assert_eq!(page.next.as_ref(), page.entries.last().map(|(name, _)| name));
    }
    let rest = page(Some("0000"), 1_000);
    assert_eq!((rest.entries.len(), rest.next), (1_000, None), "as many as fit");
    assert_eq!(names(&page(Some("0998x"), 9)), ["0999", "1000"]);
    assert_eq!(names(&page(Some("1000"), 9)), [""; 0]);
}

#[test]
fn a_directory_is_forgotten_as_a_whole_when_nothing_was_set_for_its_time() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_entry(0, &idle("a", Some("v"), 100));
    store.set_entry(50, &idle("b", Some("v"), 100));
    assert_eq!(store.set_entry(100, &idle("b", None, 100)), done(Some("v"), 1));
    assert_eq!(all(&mut store, 150), "a", "until its last millisecond");
    assert_eq!(all(&mut store, 151), "", "removing is not setting");
    assert_eq!((store.bytes(), store.sweep(999, 9)), (0, Swept::All));

    store.set_entry(200, &idle("a", Some("v"), 100));
    store.set_entry(250, &entry("a", Some("v")));
    assert_eq!(all(&mut store, u64::MAX), "a", "the last question decides");
    store.set_entry(300, &idle("a", Some("v"), 0));
    assert_eq!(all(&mut store, 301), "a", "no time is the shortest there is");
    assert_eq!(store.set_entry(302, &entry("b", Some("v"))), done(None, 1));
}

#[test]
fn a_sweep_forgets_those_that_are_over_some_at_a_time() {
    let mut store = Store::<u64>::new(RULES, 1);
    let set =
        |name: &str, idle_ms| SetEntry { directory: room(name), idle_ms, ..entry("a", Some("v")) };
    for name in ["one", "two", "three"] {
        store.set_entry(0, &set(name, Some(100)));
    }
    store.set_entry(0, &set("later", Some(101)));
    store.set_entry(0, &set("ever", None));
    let each = store.bytes() / 5;
    assert_eq!(store.sweep(100, 9), Swept::All);
    assert_eq!(store.bytes(), 5 * each);
    assert_eq!(store.sweep(101, 2), Swept::Some);
    assert_eq!(store.bytes(), 3 * each);
    assert_eq!(store.sweep(101, 2), Swept::All);
    assert_eq!(store.bytes(), 2 * each);
    assert_eq!(store.sweep(u64::MAX, 9), Swept::All);
    assert_eq!(store.bytes(), each);
}

#[test]
fn a_clone_keeps_what_it_had() {
    let mut store = Store::<u64>::new(RULES, 1);
    store.set_entry(0, &entry("a", Some("v")));
    let mut before = store.clone();
    store.set_entry(0, &entry("b", Some("v")));
    store.set_entry(0, &entry("a", None));
    assert_eq!((all(&mut before, 0), all(&mut store, 0)), ("a".into(), "b".into()));
    store.lose_everything();
    assert_eq!((all(&mut store, 0), store.bytes()), (String::new(), 0));
}
