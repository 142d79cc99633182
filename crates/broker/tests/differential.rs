//! Random operations on a real Redis and on the store that is its reference: answers, what is heard and what is kept
//! must be the same. A seed fixes a run; the failing one prints its steps up to the first difference.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::fmt::Write as _;

use common::{Real, Topology, options, traits};
use roomcast_broker::redis::RedisOptions;
use roomcast_protocol::contract::{Traits, play};
use roomcast_protocol::relay::RelayMode;
use roomcast_store::bare::Bare;

/// Longer than any run: what depends on time is the contract's.
const DEDUP_TTL_MS: u64 = 3_600_000;

/// Random numbers by a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len().try_into().unwrap())).unwrap()]
    }
}

/// What a room keeps is said with each of its publications and pages. Times are far beyond any run.
const ROOMS: [(&str, &str); 3] = [
    ("few", "keep=4 keep_ttl=7200000"),
    ("short", "keep=99 keep_bytes={two} keep_ttl=7200000"),
    ("long", "keep=40 keep_ttl=7200000"),
];

/// Inboxes, in the same way.
const BOXES: [(&str, &str); 2] = [
    ("box", "keep=4 keep_ttl=7200000 inbox=device"),
    ("heavy", "keep=99 keep_bytes={two} keep_ttl=7200000 inbox=user"),
];

/// A step about sessions, users or cursors. Whatever needs time is given far more than any run has, or none.
fn stateful(random: &mut Random, at: u64, loses: bool) -> String {
    let node = 1 + random.below(2);
    let user = random.one_of(&["ann", "bob"]);
    let id = format!("s{}", 1 + random.below(4));
    let (secret, other) = (1 + random.below(5), 1 + random.below(5));
    let room = random.one_of(&["few", "lobby"]);
    let (inbox, keep) = BOXES[usize::try_from(random.below(2)).unwrap()];
    let device = random.one_of(&["", " device=a", " device=b"]);
    match random.below(100) {
        0..15 => {
            let (generation, state) =
                (1 + random.below(4), random.one_of(&["", "", " detached", " ended"]));
            let more = random.one_of(&["", " confirmed", " turn=6", " rooms=x,y", " rooms= own=z"]);
            let obeyed =
                random.one_of(&["", " obeyed=1", " obeyed=2", " obeyed=2:1", " obeyed=2:2"]);
            format!(
                "{node} saves {user} {id} gen={generation} secret={secret}{state}{more}{obeyed}"
            )
        }
        15..25 => {
            let above = random.one_of(&["", "", " above=3"]);
            format!("{node} takes {user} {id} secret={} new={other}{above}", 1 + random.below(6))
        }
        25 => format!("{node} ends {user} order={}", random.one_of(&["1", "2", "3", "2:1", "2:2"])),
        26..30 => {
            let alive = random.one_of(&["", " alive=1", " alive=2", " alive=1,2"]);
            format!("{node} takes {user} any new={other}{alive}")
        }
        30..55 => {
            // Each step once, some of them again, and some behind later ones.
            let (seq, life) = (1 + at / 8 + random.below(6), 1 + random.below(3));
            let mut changes = String::new();
            for session in 1..=4 {
                if random.below(3) == 0 {
                    let (sign, user) =
                        (random.one_of(&["+", "-"]), random.one_of(&["ann", "bob", "cid", "ann"]));
                    let generation = 1 + random.below(2);
                    write!(changes, " {sign}{user}/s{session}/{generation}").unwrap();
                }
            }
            let grace = random.one_of(&["", "", " grace=7200000"]);
            format!("{node} sets {room} {seq}{changes} life={life}{grace}")
        }
        55..58 => {
            let life = 1 + random.below(3);
            format!("{node} lives life={} retired={life}", life + 1)
        }
        58..61 => {
            let after = random.one_of(&["", " after=ann", " after=b"]);
            format!("{node} asks {room}{after} limit={}", 1 + random.below(3))
        }
        61..67 => format!("occupancies {room}"),
        67..78 => {
            let low = random.one_of(&["", "", " low"]);
            let key = random.one_of(&["", "", " collapse=k", " collapse=j"]);
            format!("{node} publishes {inbox} x {keep} bytes=9{low}{key}")
        }
        78..84 => format!("{node} looks {inbox} {keep}{device}"),
        84..89 => {
            let (epoch, offset) = (random.below(3), random.below(20));
            let above = format!(" above={},{}", 1 + random.below(20), 1 + random.below(20));
            let told = random.one_of(&["", " told=1", " told=3"]);
            format!("{node} acks {inbox} e{epoch}:{offset}{above}{told} {keep}{device}")
        }
        89..95 => format!(
            "{node} reads {inbox} above {} {keep} limit={}",
            random.below(9),
            1 + random.below(9)
        ),
        95 if loses => format!("loses presence {}", random.one_of(&["few", "lobby"])),
        96 if loses => format!("loses cursors {inbox}"),
        97 if loses => format!("loses {} {inbox}", random.one_of(&["meta", "stream", "ids"])),
        98 if loses => format!("loses session {user} {id}"),
        _ => format!("{node} heads {inbox}"),
    }
}

/// A step about what users have got and read of a room. Epochs begin in the order of the rooms; another one is mostly of
/// a room that began anew.
fn receipts(random: &mut Random, loses: bool) -> String {
    let node = 1 + random.below(2);
    let at = random.below(3);
    let (room, keep) = ROOMS[usize::try_from(at).unwrap()];
    match random.below(100) {
        0..60 => {
            let epoch = if random.below(3) > 0 { at } else { random.below(12) };
            let mut changes = String::new();
            for user in ["ann", "bob", "Cid", "\"d\\é"] {
                for kind in ["d", "r"] {
                    if random.below(3) == 0 {
                        write!(changes, " {user}/{kind}{}", random.below(60)).unwrap();
                    }
                }
            }
            format!("{node} marks {room} e{epoch}{changes} {keep}")
        }
        60..75 => {
            // Several steps at once.
            let from = 1 + random.below(40);
            format!("{node} marks {room} e{at} ann/d{from}..{} {keep}", from + 8)
        }
        75..95 => {
            let of = random.below(40);
            let of = if of < 20 { String::new() } else { format!(" of={}", of - 20) };
            let after = random.one_of(&["", " after=ann", " after=D"]);
            format!("{node} receipts {room}{of}{after} limit={} {keep}", 1 + random.below(4))
        }
        95 if loses => format!("loses receipts {room}"),
        _ => format!("{node} heads {room}"),
    }
}

/// A script of so many operations, each followed by what both nodes hear.
fn script(seed: u64, count: u64, traits: &Traits) -> String {
    let mut random = Random(seed);
    let mut steps = String::from("1 attaches\n2 attaches\n");
    for (room, _) in ROOMS {
        write!(steps, "1 subscribes {room}\n2 subscribes {room}\n").unwrap();
    }
    for room in ["lobby", "box", "heavy"] {
        write!(steps, "1 subscribes {room}\n2 subscribes {room}\n").unwrap();
    }
    steps.push_str("1 subscribes talk\n");
    for (room, keep) in ROOMS {
        writeln!(steps, "1 reads {room} above 0 {keep}").unwrap();
    }
    steps.push_str("1 hears\n2 hears\n");
    // With numbers of their own, so that one kind of step does not take the other's turns.
    let mut marks = Random(!seed);
    for at in 0..count {
        if marks.below(2) == 0 {
            let step = receipts(&mut marks, traits.history.loses);
            write!(steps, "{step}\n1 hears\n2 hears\n").unwrap();
        }
        let node = 1 + random.below(2);
        let (room, keep) = ROOMS[usize::try_from(random.below(3)).unwrap()];
        if random.below(2) == 0 {
            let step = stateful(&mut random, at, traits.history.loses);
            write!(steps, "{step}\n1 hears\n2 hears\n").unwrap();
            continue;
        }
        let step = match random.below(100) {
            0..50 => {
                let (text, by) =
                    (random.one_of(&["x", "x", "x", "y"]), random.one_of(&["ann", "bob"]));
                // Some ids come again soon, others when the memory has turned, most never.
                let id = match random.below(4) {
                    0 => format!(" id=i-{:03}", random.below(3)),
                    1 => format!(" id=j-{:03}", random.below(30)),
                    _ => String::new(),
                };
                format!("{node} publishes {room} {text} {keep} bytes=9 by={by}{id}")
            }
            50..55 => format!("{node} publishes talk x bytes=9 id=t-{:03} dedup", random.below(4)),
            55..70 => {
                let side = random.one_of(&["above", "below"]);
                let from = random.below(40);
                let limit = 1 + random.below(8);
                let bytes = random.one_of(&["", " bytes={two}", " bytes={two-1}", " bytes=1"]);
                format!("{node} reads {room} {side} {from} {keep} limit={limit}{bytes}")
            }
            70..75 => format!("{node} reads {room} below max {keep}"),
            75..80 => format!("{node} heads {room}"),
            80..90 if traits.history.beats => format!("{node} beats"),
            90..97 if traits.history.loses => {
                format!("loses {} {room}", random.one_of(&["meta", "stream", "ids"]))
            }
            97 if traits.history.loses => "loses everything".to_owned(),
            98 if traits.history.loses => "promotes".to_owned(),
            _ => continue,
        };
        write!(steps, "{step}\n1 hears\n2 hears\n").unwrap();
    }
    // What the others may not have come to.
    for step in
        ["1 sets lounge 1 +ann/s9 life=9", "1 sets lounge 2 -ann/s9 life=9", "occupancies lounge"]
    {
        write!(steps, "{step}\n1 hears\n2 hears\n").unwrap();
    }
    steps
}

#[track_caller]
fn agree(seeds: std::ops::Range<u64>, mode: RelayMode) {
    let topology = Topology::standalone();
    // In which order rooms are told of what one beat took away is each broker's own.
    let traits = Traits { dedup_ttl_ms: DEDUP_TTL_MS, rooms_apart: true, ..traits(&topology) };
    let beside_bytes = traits.history.beside_bytes.try_into().unwrap();
    let mut all = String::new();
    for seed in seeds {
        topology.flush();
        let steps = script(seed, 300, &traits);
        let options = RedisOptions { dedup_ttl_ms: DEDUP_TTL_MS, ..options(&topology, mode) };
        let redis = play(&steps, &traits, Real::new(options)).unwrap();
        let store = play(&steps, &traits, Bare::new(DEDUP_TTL_MS, beside_bytes)).unwrap();
        let differs = redis.iter().zip(&store).position(|(redis, store)| redis != store);
        if let Some(at) = differs {
            let mut left = at + 1;
            let until = steps.lines().take_while(|step| {
                let goes_on = left > 0;
                left -= usize::from(goes_on && step.ends_with(" hears"));
                goes_on
            });
            let until: Vec<_> = until.filter(|step| !step.ends_with(" hears")).collect();
            let (redis, store, until) = (&redis[at], &store[at], until.join("\n"));
            panic!("seed {seed}\n{until}\nRedis: {redis}\nstore: {store}");
        }
        assert_eq!(redis.len(), store.len(), "seed {seed}");
        all.extend(redis.iter().map(|heard| format!("{heard}\n")));
    }
    // What never came up was not compared.
    for what in [
        "published",
        "stored",
        "short",
        "duplicate",
        "heads",
        "more",
        "whole",
        "removed",
        "saved",
        "fenced",
        "taken",
        "untaken unknown",
        "untaken token",
        "untaken not_one",
        "done few +",
        "done",
        "reaped",
        "held",
        "lost",
        "roster",
        "occupied",
        "vacated",
        "inbox",
        "marked of",
        "marked nothing but of",
        "few receipts",
        "receipts of",
        " next ",
    ] {
        assert!(all.contains(what), "nothing was {what}");
    }
    if traits.history.beats {
        assert!(all.contains("beat any") && all.contains("beat long"), "no beat told of a move");
    }
}

#[test]
fn redis_and_the_store_agree_over_the_pattern() {
    agree(0..6, RelayMode::Pattern);
}

#[test]
fn redis_and_the_store_agree_over_channels_of_rooms() {
    agree(100..105, RelayMode::Exact);
}

#[test]
fn redis_and_the_store_agree_over_sharded_channels() {
    agree(200..206, RelayMode::Sharded);
}
