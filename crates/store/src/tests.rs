//! Scripts for the store: text in, answers out. What every broker must do stands in the contract's scripts; here is
//! what only the store itself shows.

mod directory;
mod inbox;
mod occupancy;
mod presence;
mod receipts;
mod sessions;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{CALL, Origin};
use roomcast_protocol::envelope::{Count, Moved};
use roomcast_protocol::position::{Direction, Epoch, Keep, OFFSET_MAX, Position, Span};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;

use super::*;

const TTL_MS: u64 = 1_000;

const DEDUP_TTL_MS: u64 = 100;

/// Rooms whose names begin with a digit are in the partition of that number, all others in none of these.
fn partition(room: &RoomName) -> u16 {
    room.as_str().get(..1).and_then(|digit| digit.parse().ok()).unwrap_or(99)
}

const RULES: Rules = Rules {
    dedup_ttl_ms: DEDUP_TTL_MS,
    dedup_max: 4,
    bytes_max: u64::MAX,
    lease_ms: 8_000,
    partition,
};

fn room(name: &str) -> RoomName {
    RoomName::system(name).unwrap()
}

/// Runs a script and compares what was answered. One step a line: `at 500`, `put news [id=7] [text=2] [bytes=9]
/// [size=3] [bytes_max=99] [ttl=500]`, `remember news id=7 [text=2]`, `head news`, `all news [size=3]`, `lose meta news`
/// (`stream`, `newest`, `ids`, `everything`), `promote 2`, `keep` (a snapshot) and `back` (to it), `moved [1=4]`,
/// `sweep 9`, `weight`. Epochs are numbered as they are first answered.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut world = World::new(RULES);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    let expected: Vec<_> =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(world.seen, expected, "\nseen:\n{}\n", world.seen.join("\n"));
}

struct World {
    store: Store<u64>,
    kept: Option<Store<u64>>,
    now_ms: u64,
    fresh: u128,
    epochs: Vec<Epoch>,
    named: u128,
    seen: Vec<String>,
}

impl World {
    fn new(rules: Rules) -> Self {
        let store = Store::new(rules, 1);
        let (kept, epochs, seen) = (None, Vec::new(), Vec::new());
        Self { store, kept, now_ms: 0, fresh: 0, epochs, named: 1_000, seen }
    }

    fn at(&mut self) -> At {
        self.fresh += 1;
        // Counters begin at 0.
        At { now_ms: self.now_ms, fresh: Epoch(self.fresh << 64) }
    }

    fn shown(&mut self, position: Position) -> String {
        let Position { epoch, offset } = position;
        let at = self.epochs.iter().position(|known| *known == epoch);
        let at = at.unwrap_or_else(|| {
            self.epochs.push(epoch);
            self.epochs.len() - 1
        });
        format!("e{at}:{offset}")
    }

    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let option = |name: &str| {
            let given = words.iter().filter_map(|word| word.split_once('='));
            let mut named = given.filter(|(given, _)| *given == name);
            named.next().map(|(_, value)| value.parse::<u64>().unwrap())
        };
        let keep = Keep {
            size: option("size").map_or(100, |size| size.try_into().unwrap()),
            bytes_max: option("bytes_max").unwrap_or(1_000_000),
            ttl_ms: option("ttl").unwrap_or(TTL_MS),
            replicated: false,
            inbox: None,
        };
        let text = option("text").unwrap_or(1);
        let named = option("id").map_or(self.named, u128::from);
        self.named += 1;
        let id = Id { key: named, content: text };
        let at = self.at();
        match words.as_slice() {
            ["at", ms] => self.now_ms = ms.parse().unwrap(),
            ["put", name, ..] => {
                let bytes = option("bytes").unwrap_or(10);
                let put = Put { id, bytes, low: false, collapse: None };
                let seen = match self.store.publish(&room(name), &keep, at, put, |_| text) {
                    Published::Stored { position, short } => {
                        let short = if short { " short" } else { "" };
                        format!("{}{short}", self.shown(position))
                    }
                    Published::Same(position) => format!("same {}", self.shown(position)),
                    Published::Other => "other".to_owned(),
                    Published::Full => "full".to_owned(),
                    Published::Spent => "spent".to_owned(),
                };
                self.seen.push(seen);
            }
            ["remember", name, ..] => {
                self.seen.push(format!("{:?}", self.store.remember(&room(name), self.now_ms, id)));
            }
            ["head", name] => {
                let head = self.store.head(&room(name), at);
                let seen = head.map_or("full".to_owned(), |head| self.shown(head));
                self.seen.push(seen);
            }
            ["all", name, ..] => {
                let found = self.store.read(&room(name), &keep, at, &everything()).unwrap();
                assert!(found.whole);
                let head = self.shown(found.head.position);
                let entries = found.entries.iter().map(|entry| self.shown(entry.position()));
                let entries: String = entries.map(|entry| format!(" {entry}")).collect();
                self.seen.push(format!("{head} from {}:{entries}", found.head.first));
            }
            ["lose", "everything"] => self.store.lose_everything(),
            ["lose", what, name] => {
                let keys = match *what {
                    "meta" => Keys::Meta,
                    "stream" => Keys::Stream,
                    "newest" => Keys::Newest,
                    "ids" => Keys::Ids,
                    other => panic!("no {other}"),
                };
                self.store.lose(&room(name), keys);
            }
            ["promote", master] => self.store.promote(master.parse().unwrap()),
            ["keep"] => self.kept = Some(self.store.clone()),
            ["back"] => self.store = self.kept.clone().unwrap(),
            ["moved", taken @ ..] => {
                let taken = taken.iter().map(|it| it.split_once('=').unwrap());
                let taken = taken.map(|(partition, count)| Count {
                    partition: partition.parse().unwrap(),
                    count: count.parse().unwrap(),
                });
                let moved = self.store.moved(self.now_ms, &taken.collect::<Vec<_>>());
                let seen: Vec<_> = moved.iter().map(|moved| self.moved(moved)).collect();
                self.seen.push(if seen.is_empty() { "none".into() } else { seen.join(", ") });
            }
            ["sweep", rooms] => {
                let swept = self.store.sweep(self.now_ms, rooms.parse().unwrap());
                self.seen.push(format!("{swept:?}, {} rooms", self.store.rooms()));
            }
            ["weight"] => self.seen.push(self.store.bytes().to_string()),
            _ => panic!("cannot read `{line}`"),
        }
    }

    fn moved(&mut self, moved: &Moved) -> String {
        let Moved { count: Count { partition, count }, rooms } = moved;
        let rooms = rooms.as_ref().map_or("any".to_owned(), |rooms| {
            let named = rooms.iter().map(|(room, head)| format!("{room} {}", self.shown(*head)));
            named.collect::<Vec<_>>().join(" ")
        });
        format!("{partition}={count}: {rooms}")
    }
}

fn everything() -> Span {
    Span { count_max: u32::MAX, bytes_max: u64::MAX, ..Span::above(0) }
}

#[test]
fn offsets_rise_by_one_and_go_on_in_another_epoch() {
    check(
        "put a
        put a
        promote 2
        put a
        all a",
        "e0:1
        e0:2
        e1:3
        e1:3 from 1: e0:1 e0:2 e1:3",
    );
}

#[test]
fn each_lost_part_of_a_room_renews_its_epoch_once() {
    // A page has no holes: what lies below one is not given any more.
    let lost = [("meta", "from 1: e0:1 e0:2"), ("stream", "from 3:"), ("newest", "from 3:")];
    for (lost, left) in lost {
        check(
            &format!("put a\nput a\nhead a\nlose {lost} a\nhead a\nall a\nput a\nhead a"),
            &format!("e0:1\ne0:2\ne0:2\ne1:2\ne1:2 {left}\ne1:3\ne1:3"),
        );
    }
    check("put a\nlose ids a\nhead a\nput a", "e0:1\ne0:1\ne0:2");
    check("put a\nlose everything\nhead a\nput a", "e0:1\ne1:0\ne1:1");
}

#[test]
fn ids_whose_entries_are_not_given_any_more_keep_their_first_answer() {
    for lost in ["newest", "stream"] {
        check(
            &format!("put a id=1\nput a id=2\nlose {lost} a\nput a id=2\nput a id=1\nput a\nall a"),
            "e0:1\ne0:2\nsame e0:2\nsame e0:1\ne1:3\ne1:3 from 3: e1:3",
        );
    }
}

#[test]
fn entries_that_expire_by_themselves_renew_nothing_and_lost_ones_do() {
    // The entries are there for 1.25 times their time to live.
    check("put a\nat 1250\nlose stream a\nhead a", "e0:1\ne1:1");
    check("put a\nat 1251\nhead a\nall a\nput a", "e0:1\ne0:1\ne0:1 from 2:\ne0:2");
    check("put a\nat 1251\nlose stream a\nhead a", "e0:1\ne0:1");
}

#[test]
fn a_room_is_forgotten_ten_minutes_after_its_entries_unless_somebody_asks() {
    let forgotten_ms = 1_250 + META_MS + 1;
    check(&format!("put a\nat {}\nhead a", forgotten_ms - 1), "e0:1\ne0:1");
    check(&format!("put a\nat {forgotten_ms}\nhead a"), "e0:1\ne1:0");
    let asked_ms = forgotten_ms - META_MS / 2 + 5;
    let script = format!("put a\nat {asked_ms}\nhead a\nat {}\nhead a", asked_ms + META_MS);
    check(&script, "e0:1\ne0:1\ne0:1");
    check("head a\nat 600000\nhead a\nat 1200001\nhead a", "e0:0\ne0:0\ne1:0");
}

#[test]
fn entries_lie_there_until_there_are_a_quarter_too_many() {
    // Room, four entries, five at most: the sixth makes the batch go.
    let entry = ENTRY_BYTES + ID_BYTES + 10;
    let five = ROOM_BYTES + 5 * entry;
    let six = ROOM_BYTES + 4 * entry + 2 * ID_BYTES;
    check(
        "put a size=4\nput a size=4\nput a size=4\nput a size=4\nput a size=4 text=5\nweight\n\
         all a size=4\nput a size=4\nweight\nall a",
        &format!(
            "e0:1\ne0:2\ne0:3\ne0:4\ne0:5 short\n{five}\ne0:5 from 2: e0:2 e0:3 e0:4 e0:5\n\
             e0:6 short\n{six}\ne0:6 from 3: e0:3 e0:4 e0:5 e0:6"
        ),
    );
}

#[test]
fn an_id_is_remembered_while_its_entry_is_kept() {
    check(
        "put a id=1
        at 300
        put a id=2
        at 600
        put a id=3
        at 999
        put a id=1
        put a id=1 text=2
        at 1000
        put a id=4
        put a id=1
        at 1599
        put a id=3",
        "e0:1
        e0:2
        e0:3
        same e0:1
        other
        e0:4
        e0:5
        same e0:3",
    );
}

#[test]
fn ids_beyond_their_number_go_early_and_answers_say_so() {
    check(
        "put a id=1\nput a id=2\nput a id=3\nput a id=4\nput a id=5\nput a id=1\nput a id=6\n\
         put a id=7\nput a id=8\nput a id=9\nput a id=1",
        "e0:1\ne0:2\ne0:3\ne0:4\ne0:5 short\nsame e0:1\ne0:6 short\ne0:7 short\ne0:8 short\n\
         e0:9 short\ne0:10 short",
    );
}

#[test]
fn what_went_with_a_truncated_tail_is_stored_anew() {
    check(
        "put a id=1
        keep
        put a id=2
        back
        promote 2
        put a id=1
        put a id=3
        put a id=2
        all a",
        "e0:1
        e0:2
        same e0:1
        e1:2
        e1:3
        e1:3 from 1: e0:1 e1:2 e1:3",
    );
}

#[test]
fn a_snapshot_stays_as_it_was() {
    check(
        "put 1a\nhead 1b\nremember c id=1\nkeep\nput 1a\nlose meta 1b\nlose ids c\nback\nall 1a\n\
         head 1b\nremember c id=1\nmoved 1=0",
        "e0:1\ne1:0\nNew { short: false }\ne0:2\ne0:1 from 1: e0:1\ne1:0\nSame\n\
         1=2: 1a e0:1 1b e1:0",
    );
}

#[test]
fn ids_of_ephemeral_rooms_go_by_themselves_and_by_room() {
    check(
        "remember a id=1
        remember b id=2
        lose ids a
        remember a id=1
        remember b id=2 text=2
        at 199
        remember b id=2
        at 200
        remember b id=2 text=2",
        "New { short: false }
        New { short: false }
        New { short: false }
        Other
        Same
        New { short: false }",
    );
}

#[test]
fn a_partition_names_its_rooms_by_their_last_move() {
    check(
        "moved
        put 1a
        put 1b
        put 1a
        put 2a
        moved
        moved 1=0 2=1
        moved 1=2 2=0
        moved 1=3 2=1 3=0
        moved 1=4
        moved 3=1
        lose meta 1a
        moved 1=1 2=1
        head 1a
        moved 1=3 2=1",
        "none
        e0:1
        e1:1
        e0:2
        e2:1
        1=3: any, 2=1: any
        1=3: 1b e1:1 1a e0:2
        1=3: 1a e0:2, 2=1: 2a e2:1
        none
        1=3: any, 2=1: any
        1=3: any, 2=1: any, 3=0: any
        1=3: any
        e3:2
        1=4: 1a e3:2",
    );
}

#[test]
fn as_many_rooms_are_told_and_known_as_their_bounds_say() {
    let mut world = World::new(RULES);
    let mut asked = |rooms: std::ops::Range<usize>, taken: u64| {
        for number in rooms {
            let at = world.at();
            world.store.head(&room(&format!("1-{number}")), at);
        }
        let told = world.store.moved(0, &[Count { partition: 1, count: taken }]);
        told[0].rooms.as_ref().map(Vec::len)
    };
    assert_eq!(asked(0..TOLD_MAX, 0), Some(TOLD_MAX));
    assert_eq!(asked(TOLD_MAX..TOLD_MAX + 1, 0), None);
    assert_eq!(asked(0..0, 1), Some(TOLD_MAX));

    let mut partition = crate::moved::Partition::default();
    for number in 0..=MOVED_MAX + TOLD_MAX {
        partition.move_room(&room(&number.to_string()), Epoch(0));
    }
    let moves = u64::try_from(MOVED_MAX + TOLD_MAX + 1).unwrap();
    assert_eq!(partition.counter, moves);
    let oldest = moves - u64::try_from(MOVED_MAX).unwrap();
    assert_eq!(partition.since(oldest), None, "too many to be told");
    for number in 0..TOLD_MAX {
        partition.move_room(&room(&number.to_string()), Epoch(0));
    }
    let last = partition.counter - u64::try_from(TOLD_MAX).unwrap();
    assert_eq!(partition.since(last).map(|rooms| rooms.len()), Some(TOLD_MAX));
    assert_eq!(partition.since(last - 1), None);
}

#[test]
fn one_room_that_moves_often_is_one_room() {
    let mut partition = crate::moved::Partition::default();
    for _ in 0..2 * MOVED_MAX {
        partition.move_room(&room("a"), Epoch(0));
    }
    assert_eq!(partition.since(0), Some(vec![&room("a")]));
}

#[test]
fn a_counter_that_was_lost_is_never_taken_for_what_it_was() {
    let mut old = crate::moved::Partition::default();
    let mut new = old.clone();
    let last: u64 = (1 << 20) - 1;
    old.move_room(&room("a"), Epoch(u128::MAX));
    assert_eq!((old.counter, old.since(last << 32)), ((last << 32) + 1, Some(vec![&room("a")])));
    new.move_room(&room("a"), Epoch(u128::from(last - 1)));
    new.move_room(&room("b"), Epoch(u128::from(last - 1)));
    assert_eq!(new.since(old.counter), None, "it went back");
    new.move_room(&room("b"), Epoch(0));
    for taken in [old.counter, 1, 0] {
        assert_eq!(new.since(taken), None);
    }
    assert_eq!(new.since(new.counter - 1), Some(vec![&room("b")]));
}

#[test]
fn a_full_store_refuses_before_anything_is_stored() {
    let one = ROOM_BYTES + ENTRY_BYTES + ID_BYTES + 10;
    let mut world = World::new(Rules { bytes_max: one + ROOM_BYTES, ..RULES });
    for line in ["put a id=1", "put b", "head b", "put c", "head c", "put a id=1", "weight"] {
        world.step(line);
    }
    assert_eq!(world.seen, ["e0:1", "full", "e1:0", "full", "full", "same e0:1", "2218"]);
    for (bytes_max, seen) in [(one, "e0:1"), (one - 1, "full")] {
        let mut world = World::new(Rules { bytes_max, ..RULES });
        world.step("put a");
        assert_eq!(world.seen, [seen]);
    }
}

#[test]
fn a_sweep_frees_what_is_over_and_looks_at_few_rooms() {
    let meta_ms = 1_250 + META_MS + 1;
    check(
        &format!(
            "put a\nput b\nhead c\nat 1250\nsweep 9\nat 1251\nsweep 1\nsweep 9\nweight\nat {meta_ms}\n\
             sweep 2\nsweep 1\nweight"
        ),
        &format!(
            "e0:1\ne1:1\ne2:0\nAll, 3 rooms\nSome, 3 rooms\nAll, 3 rooms\n{}\nSome, 1 rooms\n\
             All, 0 rooms\n0",
            3 * ROOM_BYTES
        ),
    );
}

#[test]
fn a_clock_that_goes_back_keeps_entries_in_order() {
    check(
        "at 2000\nput a\nat 1500\nput a\nat 2999\nall a\nat 3000\nall a",
        "e0:1\ne0:2\ne0:2 from 1: e0:1 e0:2\ne0:2 from 3:",
    );
}

#[test]
fn offsets_end_where_they_cannot_be_counted_any_more() {
    let mut store = Store::new(RULES, 1);
    let keep = Keep { size: 1, bytes_max: 9, ttl_ms: 9, replicated: false, inbox: None };
    let at = At { now_ms: 0, fresh: Epoch(1) };
    store.begin(&room("a"), OFFSET_MAX - 1);
    let mut put = |key| {
        let put = Put { id: Id { key, content: 0 }, bytes: 1, low: false, collapse: None };
        store.publish(&room("a"), &keep, at, put, |_| ())
    };
    let position = Position { epoch: Epoch(1), offset: OFFSET_MAX };
    assert_eq!(put(1), Published::Stored { position, short: false });
    assert_eq!(put(2), Published::Spent);
}

#[test]
fn pages_have_the_size_that_was_asked_for() {
    let mut world = World::new(RULES);
    for _ in 0..4 {
        world.step("put a bytes=10");
    }
    let mut page = |direction, from, count_max, bytes_max| {
        let span = Span { direction, from, count_max, bytes_max };
        let keep = Keep { size: 9, bytes_max: 99, ttl_ms: TTL_MS, replicated: false, inbox: None };
        let at = world.at();
        let found = world.store.read(&room("a"), &keep, at, &span).unwrap();
        let offsets = found.entries.iter().map(|entry| entry.position().offset).collect::<Vec<_>>();
        (offsets, found.whole)
    };
    assert_eq!(page(Direction::Forward, 0, 4, 40), (vec![1, 2, 3, 4], true));
    assert_eq!(page(Direction::Forward, 0, 3, 40), (vec![1, 2, 3], false));
    assert_eq!(page(Direction::Forward, 0, 4, 39), (vec![1, 2, 3], false));
    assert_eq!(page(Direction::Forward, 3, 1, 1), (vec![4], true));
    assert_eq!(page(Direction::Forward, 1, 4, 1), (vec![2], false));
    assert_eq!(page(Direction::Forward, 4, 4, 40), (vec![], true));
    assert_eq!(page(Direction::Backward, u64::MAX, 2, 40), (vec![3, 4], false));
    assert_eq!(page(Direction::Backward, 3, 2, 40), (vec![1, 2], true));
    assert_eq!(page(Direction::Backward, 3, 2, 9), (vec![2], false));
    assert_eq!(page(Direction::Backward, 1, 2, 40), (vec![], true));
}

#[test]
fn an_id_is_of_its_room_sender_type_and_payload() {
    let hashers = [1, 2].map(foldhash::quality::FixedState::with_seed);
    let first = Publication {
        id: "1".into(),
        kind: "message".into(),
        timestamp: "1970-01-01T00:00:00.000Z".into(),
        sender: "ann".into(),
        ..Publication::bare(room("a"), Content::Text("hi".into()))
    };
    let id = id_of(&hashers, &first);
    let with = |change: fn(&mut Publication)| {
        let mut other = first.clone();
        change(&mut other);
        let other = id_of(&hashers, &other);
        (other.key == id.key, other.content == id.content)
    };
    assert_eq!(with(|it| it.timestamp = "later".into()), (true, true));
    assert_eq!(with(|it| it.room = room("b")), (false, true));
    assert_eq!(with(|it| it.sender = "bob".into()), (false, true));
    assert_eq!(with(|it| it.id = "2".into()), (false, true));
    // Of a call a conversation keeps one, whoever says it; a copy of that in an inbox is its sender's.
    let call = |sender: &str, of: &str| {
        let origin = Some(Box::new(Origin::of(room(of), 1)));
        let call =
            Publication { kind: CALL.into(), sender: sender.into(), origin, ..first.clone() };
        id_of(&hashers, &call).key
    };
    assert_eq!(call("ann", "a"), call("bob", "a"));
    assert_ne!(call("ann", "a"), id.key);
    assert_ne!(call("ann", "b"), call("bob", "b"));
    assert_eq!(with(|it| it.kind = "other".into()), (true, false));
    assert_eq!(with(|it| it.content = Content::Json("hi".into())), (true, false));
    assert_eq!(with(|it| it.content = Content::Text("ho".into())), (true, false));
}
