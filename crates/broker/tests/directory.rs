//! Directories on every broker: what is set, read and refused, who comes first, and what real servers keep of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do, and look for one event among all"
)]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{KEEP, Real, Topology, offsets, options};
use roomcast_broker::{AnyBroker, Feed, MemoryBroker};
use roomcast_protocol::directory::{
    DirectoryPage, ENTRIES_MAX, ENTRIES_PAGE_MAX, ENTRY_BYTES_MAX, ENTRY_NAME_BYTES_MAX, Entries,
    EntrySet, SetEntry,
};
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::room::RoomName;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// A broker with both nodes.
enum Asked {
    Memory {
        broker: AnyBroker<u64>,
        feeds: HashMap<NodeId, Feed<BrokerEvent<u64>>>,
        began: Instant,
    },
    Real(Box<Real>),
}

impl Asked {
    fn command(&mut self, node: NodeId, command: BrokerCommand<u64>) {
        match self {
            Self::Memory { broker, began, .. } => {
                let now_ms = began.elapsed().as_millis().try_into().unwrap();
                broker.execute(node, now_ms, command);
            }
            Self::Real(real) => real.command(node, command),
        }
    }

    /// The next event that `find` knows; in a process they come in the order of the questions.
    #[track_caller]
    fn wait<R>(&mut self, node: NodeId, find: impl Fn(&BrokerEvent<u64>) -> Option<R>) -> R {
        match self {
            Self::Memory { feeds, .. } => {
                let mut events = Vec::new();
                feeds.get_mut(&node).unwrap().try_recv_many(&mut events, 1);
                find(&events[0]).unwrap()
            }
            Self::Real(real) => real.wait(node, "an answer", find),
        }
    }
}

/// A broker that is asked for directories.
struct World {
    asked: Asked,
    requests: u64,
}

fn entry(directory: &str, name: &str, value: Option<&str>) -> SetEntry {
    SetEntry {
        directory: RoomName::system(directory).unwrap(),
        name: name.into(),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        entries_max: ENTRIES_MAX,
        idle_ms: None,
    }
}

fn done(before: Option<&str>, entries: u32) -> Option<EntrySet> {
    let before = before.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Some(EntrySet::Done { before, entries })
}

/// Names and values of a page, how many there are in all, and whether more follow.
fn shown(page: &DirectoryPage) -> String {
    let one = |(name, value): &(Box<str>, Bytes)| {
        format!("{name}={} ", String::from_utf8(value.to_vec()).unwrap())
    };
    let more = if page.next.is_some() { " and more" } else { "" };
    let entries: String = page.entries.iter().map(one).collect();
    format!("{entries}of {}{more}", page.total)
}

impl World {
    fn memory() -> Self {
        let broker = AnyBroker::Memory(MemoryBroker::new());
        let feeds = [ONE, TWO].map(|node| (node, broker.attach(node, &Arc::default())));
        let asked = Asked::Memory { broker, feeds: feeds.into(), began: Instant::now() };
        Self { asked, requests: 0 }
    }

    fn real(topology: &Topology) -> Self {
        let mut real = Real::new(options(topology, RelayMode::Pattern));
        real.attach_node(ONE);
        real.attach_node(TWO);
        Self { asked: Asked::Real(Box::new(real)), requests: 0 }
    }

    /// Asks, and does not wait.
    fn begin(&mut self, node: NodeId, set: SetEntry) -> u64 {
        self.requests += 1;
        let request = self.requests;
        self.asked.command(node, BrokerCommand::SetEntry { request, set: Box::new(set) });
        request
    }

    #[track_caller]
    fn outcome(&mut self, node: NodeId, of: u64) -> Option<EntrySet> {
        self.asked.wait(node, |event| match event {
            BrokerEvent::EntrySet { request, outcome } if *request == of => Some(outcome.clone()),
            _ => None,
        })
    }

    #[track_caller]
    fn set(&mut self, set: SetEntry) -> Option<EntrySet> {
        let request = self.begin(ONE, set);
        self.outcome(ONE, request)
    }

    #[track_caller]
    fn page(&mut self, directory: &str, entries: Entries) -> DirectoryPage {
        self.requests += 1;
        let (of, directory) = (self.requests, RoomName::system(directory).unwrap());
        let command = BrokerCommand::Directory { request: of, directory, entries };
        self.asked.command(ONE, command);
        let page = self.asked.wait(ONE, |event| match event {
            BrokerEvent::Directory { request, page } if *request == of => Some(page.clone()),
            _ => None,
        });
        page.unwrap()
    }

    #[track_caller]
    fn behind(&mut self, directory: &str, after: Option<&str>, count_max: u32) -> DirectoryPage {
        self.page(directory, Entries::Behind { after: after.map(Into::into), count_max })
    }

    #[track_caller]
    fn all(&mut self, directory: &str) -> String {
        shown(&self.behind(directory, None, ENTRIES_PAGE_MAX))
    }
}

/// What every broker does. Each has directories of its own.
const CHECKS: [fn(&mut World); 9] = [
    an_entry_is_set_changed_and_removed_and_twice_is_once,
    names_of_any_bytes_are_in_the_order_of_their_bytes,
    a_page_is_as_long_as_asked_and_no_longer_than_a_page,
    a_full_directory_refuses_a_new_entry_alone,
    an_entry_at_its_bounds_is_set_and_one_beyond_is_not,
    one_entry_is_found_by_its_name,
    an_idle_directory_is_forgotten_as_a_whole,
    two_nodes_that_race_fill_a_directory_to_its_bound,
    what_one_node_sets_of_an_entry_is_done_in_its_order,
];

fn an_entry_is_set_changed_and_removed_and_twice_is_once(world: &mut World) {
    assert_eq!(world.all("changed"), "of 0");
    assert_eq!(world.set(entry("changed", "ann", Some("owner"))), done(None, 1));
    assert_eq!(world.set(entry("changed", "ann", Some("owner"))), done(Some("owner"), 1));
    assert_eq!(world.set(entry("changed", "bob", Some(""))), done(None, 2));
    assert_eq!(world.set(entry("changed", "ann", Some("admin"))), done(Some("owner"), 2));
    assert_eq!(world.all("changed"), "ann=admin bob= of 2");
    assert_eq!(world.all("others"), "of 0");
    assert_eq!(world.set(entry("changed", "bob", None)), done(Some(""), 1));
    assert_eq!(world.set(entry("changed", "bob", None)), done(None, 1));
    assert_eq!(world.set(entry("changed", "ann", None)), done(Some("admin"), 0));
    assert_eq!(world.set(entry("changed", "ann", None)), done(None, 0));
    assert_eq!(world.all("changed"), "of 0");
}

fn names_of_any_bytes_are_in_the_order_of_their_bytes(world: &mut World) {
    let mut names = [
        "a",
        "A",
        "aa",
        "a\0",
        "\0",
        "\u{1}\r\n",
        "\"q\" 'x'",
        "{t}",
        "(a",
        "[a",
        "+",
        "-",
        "zoé",
        "é",
        "群-1",
        "\u{10ffff}",
        "v",
        "0",
    ];
    for name in names {
        assert!(matches!(
            world.set(entry("names", name, Some(name))),
            Some(EntrySet::Done { before: None, .. })
        ));
    }
    names.sort_unstable_by_key(|name| name.as_bytes());
    let page = world.behind("names", None, 99);
    let expected = names.map(|name| (Box::from(name), Bytes::copy_from_slice(name.as_bytes())));
    assert_eq!(page.entries, expected);
    // One by one, each behind the one before.
    let mut after: Option<Box<str>> = None;
    for name in names {
        let page = world.behind("names", after.as_deref(), 1);
        assert_eq!(&*page.entries[0].0, name);
        assert_eq!(page.next.as_deref(), (name != names[17]).then_some(name));
        after = page.next;
    }
    for name in names {
        let is_last = name == names[17];
        assert!(world.set(entry("names", name, None)).is_some(), "{name}");
        assert_eq!(world.all("names") == "of 0", is_last, "{name}");
    }
}

fn a_page_is_as_long_as_asked_and_no_longer_than_a_page(world: &mut World) {
    let all: Vec<_> = (0..=ENTRIES_PAGE_MAX)
        .map(|number| world.begin(ONE, entry("pages", &format!("{number:04}"), Some("v"))))
        .collect();
    for request in all {
        assert!(world.outcome(ONE, request).is_some());
    }
    for (asked, given) in [(0, 1), (1, 1), (999, 999), (1_000, 1_000), (1_001, 1_000)] {
        let page = world.behind("pages", None, asked);
        assert_eq!((page.entries.len(), page.total), (given, 1_001), "{asked}");
        assert_eq!(page.next.as_ref(), page.entries.last().map(|(name, _)| name));
    }
    let rest = world.behind("pages", Some("0000"), 1_000);
    assert_eq!((rest.entries.len(), rest.next), (1_000, None), "as many as fit");
    let end = world.behind("pages", Some("0998 and a half"), 9);
    assert_eq!(shown(&end), "0999=v 1000=v of 1001");
    assert_eq!(shown(&world.behind("pages", Some("1000"), 9)), "of 1001");
}

fn a_full_directory_refuses_a_new_entry_alone(world: &mut World) {
    let most =
        |name: &str, value, entries_max| SetEntry { entries_max, ..entry("full", name, value) };
    assert_eq!(world.set(most("a", Some("v"), 0)), Some(EntrySet::Full));
    assert_eq!(world.set(most("a", Some("v"), 2)), done(None, 1));
    assert_eq!(world.set(most("b", Some("v"), 2)), done(None, 2));
    assert_eq!(world.set(most("c", Some("v"), 2)), Some(EntrySet::Full));
    assert_eq!(world.set(most("c", None, 2)), done(None, 2));
    assert_eq!(world.set(most("b", Some("w"), 1)), done(Some("v"), 2));
    assert_eq!(world.all("full"), "a=v b=w of 2");
    assert_eq!(world.set(most("c", Some("v"), 3)), done(None, 3), "another question says more");
    assert_eq!(world.set(most("a", None, 0)), done(Some("v"), 2));
    assert_eq!(world.set(most("a", Some("v"), 2)), Some(EntrySet::Full));
    assert_eq!(world.set(most("a", Some("v"), 3)), done(None, 3));
}

fn an_entry_at_its_bounds_is_set_and_one_beyond_is_not(world: &mut World) {
    let (long, large) = ("n".repeat(ENTRY_NAME_BYTES_MAX), "v".repeat(ENTRY_BYTES_MAX));
    assert_eq!(world.set(entry("bounds", &long, Some(&large))), done(None, 1));
    let (longer, larger) = (format!("{long}n"), format!("{large}v"));
    for (name, value) in
        [(&*longer, Some("v")), (&longer, None), ("", Some("v")), ("a", Some(&*larger))]
    {
        assert_eq!(world.set(entry("bounds", name, value)), None, "{name}");
    }
    assert_eq!(world.all("bounds"), format!("{long}={large} of 1"));
    assert_eq!(shown(&world.page("bounds", Entries::One(longer.into()))), "of 1");
}

fn one_entry_is_found_by_its_name(world: &mut World) {
    world.set(entry("found", "ann", Some("")));
    world.set(entry("found", "bob", Some("v")));
    for (name, expected) in
        [("ann", "ann= of 2"), ("bob", "bob=v of 2"), ("an", "of 2"), ("", "of 2"), ("-", "of 2")]
    {
        assert_eq!(shown(&world.page("found", Entries::One(name.into()))), expected, "{name}");
    }
    assert_eq!(shown(&world.page("unknown", Entries::One("ann".into()))), "of 0");
}

fn an_idle_directory_is_forgotten_as_a_whole(world: &mut World) {
    const IDLE: Duration = Duration::from_millis(1_500);
    let idle = |directory: &str, name: &str, value| SetEntry {
        idle_ms: Some(IDLE.as_millis().try_into().unwrap()),
        ..entry(directory, name, value)
    };
    for directory in ["idle", "removed", "renewed", "lasting"] {
        world.set(idle(directory, "ann", Some("v")));
        world.set(idle(directory, "bob", Some("v")));
    }
    sleep(IDLE / 2);
    assert_eq!(world.set(idle("removed", "bob", None)), done(Some("v"), 1));
    world.set(idle("renewed", "bob", Some("w")));
    world.set(entry("lasting", "bob", Some("w")));
    assert_eq!(world.all("idle"), "ann=v bob=v of 2");
    sleep(IDLE / 2 + Duration::from_millis(100));
    assert_eq!(world.all("renewed"), "ann=v bob=w of 2", "what was set renews all");
    assert_eq!(world.all("idle"), "of 0");
    assert_eq!(world.all("removed"), "of 0", "removing is not setting");
    assert_eq!(world.set(idle("idle", "ann", Some("v"))), done(None, 1));
    sleep(IDLE);
    assert_eq!(world.all("renewed"), "of 0");
    assert_eq!(world.all("lasting"), "ann=v bob=w of 2", "the last question decides");
}

fn two_nodes_that_race_fill_a_directory_to_its_bound(world: &mut World) {
    let mut begun = Vec::new();
    for number in 0..20 {
        for node in [ONE, TWO] {
            let own = entry("raced", &format!("{} {number}", node.0), Some("v"));
            begun.push((node, world.begin(node, SetEntry { entries_max: 25, ..own })));
        }
    }
    let outcomes: Vec<_> =
        begun.into_iter().map(|(node, request)| world.outcome(node, request).unwrap()).collect();
    let counts = outcomes.iter().filter_map(|outcome| match outcome {
        EntrySet::Done { before: None, entries } => Some(*entries),
        _ => None,
    });
    assert_eq!(counts.collect::<BTreeSet<_>>(), (1..=25).collect());
    assert_eq!(outcomes.iter().filter(|it| **it == EntrySet::Full).count(), 15);
    assert_eq!(world.behind("raced", None, 1).total, 25);
    // Of the same entry one is the first, and each finds another's value.
    let begun: Vec<_> = [ONE, TWO]
        .map(|node| (node, world.begin(node, entry("met", "ann", Some(&node.0.to_string())))))
        .into();
    let mut outcomes: Vec<_> =
        begun.into_iter().map(|(node, request)| world.outcome(node, request)).collect();
    outcomes.sort_by_key(|outcome| *outcome != done(None, 1));
    assert_eq!(outcomes[0], done(None, 1));
    let (first, last) = if outcomes[1] == done(Some("1"), 1) { ("1", "2") } else { ("2", "1") };
    assert_eq!(outcomes[1], done(Some(first), 1));
    assert_eq!(world.all("met"), format!("ann={last} of 1"));
}

fn what_one_node_sets_of_an_entry_is_done_in_its_order(world: &mut World) {
    let values: Vec<_> = (0..30).map(|number| number.to_string()).collect();
    let begun: Vec<_> =
        values.iter().map(|value| world.begin(ONE, entry("turns", "ann", Some(value)))).collect();
    for (at, request) in begun.into_iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &*values[before]);
        assert_eq!(world.outcome(ONE, request), done(before, 1));
    }
}

#[test]
fn the_memory_broker_keeps_directories() {
    let mut world = World::memory();
    CHECKS.iter().for_each(|check| check(&mut world));
}

#[test]
fn one_server_keeps_directories() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    CHECKS.iter().for_each(|check| check(&mut world));
}

#[test]
fn a_cluster_keeps_directories() {
    let topology = Topology::cluster();
    let mut world = World::real(&topology);
    CHECKS.iter().for_each(|check| check(&mut world));
}

/// Random questions to both brokers, one after the other.
fn agree(seed: u64) {
    let topology = Topology::standalone();
    let mut worlds = [World::memory(), World::real(&topology)];
    let mut state = seed;
    let mut below = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % bound).unwrap()
    };
    let mut seen = BTreeSet::new();
    for at in 0..600 {
        let directory = ["friends", "群", "{t}"][below(3)];
        let name = ["ann", "bob", "b", "é", "\0", "群-1", "n", "Z"][below(8)];
        let answers = match below(10) {
            what @ 0..6 => {
                let value = ["", "v", "w", "\0\u{1}"][below(4)];
                let set = SetEntry {
                    entries_max: [1, 3, 5, ENTRIES_MAX][below(4)],
                    idle_ms: [None, Some(7_200_000)][below(2)],
                    ..entry(directory, name, (what < 4).then_some(value))
                };
                let node = [ONE, TWO][below(2)];
                worlds.each_mut().map(|world| {
                    let request = world.begin(node, set.clone());
                    format!("{:?}", world.outcome(node, request))
                })
            }
            6..8 => worlds
                .each_mut()
                .map(|world| format!("{:?}", world.page(directory, Entries::One(name.into())))),
            _ => {
                let (after, count_max) = ([None, Some(name)][below(2)], [1, 2, 4, 9][below(4)]);
                worlds
                    .each_mut()
                    .map(|world| format!("{:?}", world.behind(directory, after, count_max)))
            }
        };
        assert_eq!(answers[0], answers[1], "seed {seed}, question {at}: memory and Redis");
        let [answer, _] = answers;
        for what in
            ["before: None", "before: Some", "Full", "entries: []", "next: Some", "next: None"]
        {
            if answer.contains(what) {
                seen.insert(what);
            }
        }
    }
    assert_eq!(seen.len(), 6, "what never came up was not compared: {seen:?}");
}

#[test]
fn memory_and_redis_agree_on_random_questions() {
    (1..=3).for_each(agree);
}

/// The keys of all directories, in their order.
fn keys(topology: &Topology) -> Vec<String> {
    let mut keys = topology.texts(&["KEYS", "rc:*:entr*:*"]);
    keys.sort();
    keys
}

#[test]
fn a_directory_has_two_keys_with_one_end_and_an_empty_one_has_none() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    world.set(entry("group", "ann", Some("v")));
    world.set(entry("group", "bob", Some("v")));
    let found = keys(&topology);
    let tag = found[0].split(':').nth(1).unwrap();
    assert_eq!(found, ["entries", "entry-names"].map(|kind| format!("rc:{tag}:{kind}:group")));
    let ends = || [0, 1].map(|at| topology.int(&["PEXPIRETIME", &found[at]]));
    assert_eq!(ends(), [-1, -1], "for ever");
    world.set(SetEntry { idle_ms: Some(60_000), ..entry("group", "ann", Some("v")) });
    let [one, other] = ends();
    assert!(one > 0 && one == other, "{one} {other}");
    world.set(SetEntry { idle_ms: Some(9_000), ..entry("group", "ann", None) });
    assert_eq!(ends(), [one, one], "removing leaves it as it is");
    world.set(SetEntry { idle_ms: Some(u64::MAX), ..entry("group", "bob", Some("v")) });
    let [far, other] = ends();
    assert!(far > one && far == other, "{far} {other}");
    world.set(entry("group", "bob", Some("v")));
    assert_eq!(ends(), [-1, -1]);
    world.set(entry("group", "bob", None));
    assert_eq!(keys(&topology), [""; 0]);
}

#[test]
fn a_directory_and_a_room_of_one_name_are_apart() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    let Asked::Real(real) = &mut world.asked else { panic!("no server") };
    real.stored(ONE, 1, "news", KEEP);
    assert_eq!(world.all("news"), "of 0");
    world.set(entry("news", "ann", Some("v")));
    let Asked::Real(real) = &mut world.asked else { panic!("no server") };
    assert_eq!(offsets(&real.kept(ONE, "news", KEEP)), [1]);
}

#[test]
fn the_names_are_made_anew_of_the_values_whatever_became_of_them() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    let idle = |name: &str| SetEntry { idle_ms: Some(600_000), ..entry("group", name, Some("v")) };
    world.set(idle("ann"));
    world.set(idle("bob"));
    let [values, names] = keys(&topology).try_into().unwrap();
    let end = topology.int(&["PEXPIRETIME", &values]);
    for spoil in [
        &["DEL", &names][..],
        &["SET", &names, "nonsense"],
        &["ZREM", &names, "ann"],
        &["ZADD", &names, "0", "nobody"],
        &["SADD", &names, "ann", "bob"],
    ] {
        topology.raw(spoil);
        assert_eq!(world.all("group"), "ann=v bob=v of 2", "{spoil:?}");
        let own = topology.int(&["PEXPIRETIME", &names]);
        assert!((end - 100..=end + 100).contains(&own), "{spoil:?}: {own}, not {end}");
        topology.raw(spoil);
        assert_eq!(world.set(entry("group", "cid", None)), done(None, 2), "{spoil:?}");
        assert_eq!(topology.int(&["ZCARD", &names]), 2, "{spoil:?}");
    }
    // As many names as values, but not the same.
    topology.raw(&["ZREM", &names, "ann"]);
    topology.raw(&["ZADD", &names, "0", "nobody"]);
    assert_eq!(world.all("group"), "ann=v bob=v of 2");
    for spoil in [&["DEL", &values][..], &["SET", &values, "nonsense"]] {
        topology.raw(spoil);
        assert_eq!(world.all("group"), "of 0", "{spoil:?}");
        assert_eq!(keys(&topology), [""; 0], "{spoil:?}");
        topology.raw(spoil);
        assert_eq!(world.set(idle("ann")), done(None, 1), "{spoil:?}");
        world.set(idle("bob"));
    }
}

#[test]
fn no_directory_has_more_entries_than_any_may_have() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    world.set(entry("group", "00000", Some("v")));
    let values = keys(&topology).swap_remove(0);
    let rest: Vec<_> = (1..ENTRIES_MAX - 1).map(|number| format!("{number:05}")).collect();
    let fields = rest.iter().flat_map(|name| [&**name, "v"]);
    topology.raw(&["HSET", &values].into_iter().chain(fields).collect::<Vec<_>>());
    let most = |name: &str| SetEntry { entries_max: u32::MAX, ..entry("group", name, Some("v")) };
    assert_eq!(world.set(most("x")), done(None, ENTRIES_MAX), "and their names are made anew");
    assert_eq!(world.set(most("y")), Some(EntrySet::Full));
    assert_eq!(world.set(most("x")), done(Some("v"), ENTRIES_MAX));
    assert_eq!(shown(&world.behind("group", Some("19998"), 9)), "x=v of 20000");
    let (mut after, mut count) = (None, 0);
    loop {
        let page = world.behind("group", after.as_deref(), ENTRIES_PAGE_MAX);
        count += page.entries.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, 20_000);
}

#[test]
fn a_server_that_is_full_answers_and_removes_and_sets_nothing() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    world.set(entry("group", "ann", Some("v")));
    topology.raw(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(world.set(entry("group", "bob", Some("v"))), None);
    assert_eq!(world.set(entry("group", "ann", Some("w"))), None);
    assert_eq!(world.all("group"), "ann=v of 1");
    assert_eq!(shown(&world.page("group", Entries::One("ann".into()))), "ann=v of 1");
    assert_eq!(world.set(entry("group", "ann", None)), done(Some("v"), 0));
    assert_eq!(world.set(entry("group", "ann", None)), done(None, 0), "done twice it is done once");
    assert_eq!(world.all("group"), "of 0");
    topology.raw(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(world.set(entry("group", "bob", Some("v"))), done(None, 1));
}

#[test]
fn entries_are_set_once_though_answers_were_cut_off() {
    let topology = Topology::proxied();
    let mut world = World::real(&topology);
    let before = topology.proxy().accepted();
    for number in 1..=30 {
        let name = format!("{number:02}");
        let most = SetEntry { entries_max: number, ..entry("group", &name, Some("v")) };
        let request = world.begin(ONE, most);
        // Before, while and after it is on its way.
        sleep(Duration::from_micros(u64::from(number) * 40));
        topology.proxy().cut();
        let outcome = world.outcome(ONE, request);
        // Done the second time it finds what it set.
        let is_once = [None, Some("v")].map(|before| done(before, number)).contains(&outcome);
        assert!(is_once, "{number}: {outcome:?}");
    }
    assert!(topology.proxy().accepted() > before, "nothing was cut off");
    assert_eq!(world.behind("group", None, 99).entries.len(), 30);
}

#[test]
fn functions_that_are_gone_are_loaded_by_the_question() {
    let topology = Topology::standalone();
    let mut world = World::real(&topology);
    world.set(entry("group", "ann", Some("v")));
    topology.raw(&["FUNCTION", "FLUSH"]);
    assert_eq!(world.set(entry("group", "bob", Some("v"))), done(None, 2));
    topology.raw(&["FUNCTION", "FLUSH"]);
    assert_eq!(world.all("group"), "ann=v bob=v of 2");
}
