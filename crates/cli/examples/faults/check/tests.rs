use roomcast_protocol::position::Epoch;

use super::*;
use crate::record::{Drain, Fault, Member, Room};

const MS: u64 = 1_000;

/// A scene told line by line: `at_ms member what ..`; rooms `k` (kept) and `l` (loose), members 0 (holds the
/// permission) and 1. Positions are `epoch:offset`.
#[derive(Default)]
struct Story(Facts);

fn position(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once(':')?;
    Some(Position { epoch: Epoch(epoch.parse().unwrap()), offset: offset.parse().unwrap() })
}

impl Story {
    fn new(text: &str) -> Self {
        let rooms = [("k", true), ("l", false)];
        let rooms = rooms.map(|(name, kept)| Room { name: name.into(), kept }).to_vec();
        let member = |vip| Member { rooms: vec![0, 1], vip, travels: false };
        let mut story =
            Self(Facts { rooms, members: vec![member(true), member(false)], ..Facts::default() });
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            story.line(words[0].parse::<u64>().unwrap() * MS, &words[1..]);
        }
        // The scene goes on for a while.
        story.0.records.push(Record {
            member: 1,
            at_us: 60_000 * MS,
            what: What::Closed { code: None },
        });
        story
    }

    fn line(&mut self, at_us: u64, words: &[&str]) {
        let room = |name: &str| usize::from(name == "l");
        match *words {
            ["sent", name, number, "acked", ack, ref more @ ..] => {
                let acked = Acked {
                    at_us,
                    level: match ack {
                        "isolated" => Level::Isolated,
                        "accepted" => Level::Accepted,
                        _ => Level::Kept,
                    },
                    position: position(ack),
                    partial: more.contains(&"partial"),
                };
                self.sent(at_us, room(name), number, Some(acked), more.contains(&"vip"));
            }
            ["sent", name, number] => self.sent(at_us, room(name), number, None, false),
            ["fault", name] => {
                let fault = Fault { name: name.into(), injected_us: at_us, healed_us: at_us };
                self.0.faults.push(fault);
            }
            ["drain", node, ended_ms, limit_ms] => self.0.drains.push(Drain {
                node: node.parse().unwrap(),
                began_us: at_us,
                ended_us: ended_ms.parse::<u64>().unwrap() * MS,
                limit_us: limit_ms.parse::<u64>().unwrap() * MS,
            }),
            [member, ref what @ ..] => {
                let what = match *what {
                    ["connected"] => What::Connected { node: None },
                    ["connected", node] => What::Connected { node: node.parse().ok() },
                    ["closed"] => What::Closed { code: None },
                    ["closed", code] => What::Closed { code: code.parse().ok() },
                    ["joined", name, at, ref more @ ..] => What::Joined {
                        room: room(name),
                        since: more.first().and_then(|it| position(it)),
                        at: position(at),
                        recovered: more.get(1).map(|it| *it == "recovered"),
                        live: true,
                    },
                    ["hears", name, number, at] => What::Heard {
                        room: room(name),
                        number: number.parse().unwrap(),
                        at: position(at),
                        isolated: false,
                    },
                    ["skips", to, count] => What::Skipped {
                        room: 0,
                        to: position(to).unwrap(),
                        count: count.parse().unwrap(),
                    },
                    ["gap", name, at] => {
                        What::Gap { room: (name == "k").then_some(0), at: position(at) }
                    }
                    ref other => panic!("not known: {other:?}"),
                };
                self.0.records.push(Record { member: member.parse().unwrap(), at_us, what });
            }
            ref other => panic!("not known: {other:?}"),
        }
    }

    fn sent(&mut self, first_us: u64, room: usize, number: &str, acked: Option<Acked>, vip: bool) {
        let number = number.parse().unwrap();
        let tries = u32::from(acked.is_some());
        let (refused, answer) = (false, None);
        self.0.sent.push(Sent { room, number, first_us, tries, acked, vip, refused, answer });
    }
}

/// Both members in both rooms, and three publications in the kept one.
const BEGIN: &str = "0 0 connected
                     0 1 connected
                     1 0 joined k 1:0
                     1 1 joined k 1:0
                     1 0 joined l -
                     1 1 joined l -
                     10 sent k 1 acked 1:1
                     11 0 hears k 1 1:1
                     12 1 hears k 1 1:1
                     20 sent k 2 acked 1:2
                     21 0 hears k 2 1:2
                     22 1 hears k 2 1:2";

#[track_caller]
fn clean(more: &str) -> Tally {
    let verdict = check(&Story::new(&format!("{BEGIN}\n{more}")).0);
    assert_eq!(verdict.texts, Vec::<String>::new());
    assert_eq!(verdict.total.violations, 0);
    verdict.total
}

/// Something is wrong, and is told with these words.
#[track_caller]
fn caught(more: &str, words: &str) -> Tally {
    let verdict = check(&Story::new(&format!("{BEGIN}\n{more}")).0);
    assert!(verdict.texts.iter().any(|text| text.contains(words)), "{:?}", verdict.texts);
    assert!(verdict.total.violations > 0);
    verdict.total
}

#[test]
fn a_story_without_faults_is_clean() {
    let total = clean("");
    assert_eq!((total.accepted, total.delivered, total.lost_untold), (2, 4, 0));
}

#[test]
fn a_publication_that_nobody_was_told_of_is_caught() {
    let total =
        caught("30 sent k 3 acked 1:3\n31 0 hears k 3 1:3", "neither heard it nor was told");
    assert_eq!((total.lost_untold, total.lost_told), (1, 0));
    let total = caught("30 sent l 1 acked accepted\n31 0 hears l 1 -", "l: 1 accepted, 1 neither");
    assert_eq!(total.lost_untold, 1);
}

#[test]
fn a_gap_or_a_rejoin_that_says_so_tells_what_is_lost() {
    let lost = "30 sent k 3 acked 1:3\n31 0 hears k 3 1:3\n";
    let total = clean(&format!("{lost}40 1 gap k 1:3"));
    assert_eq!((total.lost_told, total.gaps), (1, 1));
    let rejoin = "35 1 closed\n36 1 connected\n37 1 joined k 1:3 1:2 lost\n37 1 joined l -";
    let total = clean(&format!("{lost}{rejoin}"));
    assert_eq!((total.lost_told, total.unrecovered), (1, 1));
    // A lost tail: the same offset in another incarnation.
    let total = clean(&format!("{lost}40 1 gap k 2:2\n41 0 gap k 2:2"));
    assert_eq!(total.lost_told, 1);
    let total = clean("30 sent l 1 acked accepted\n31 0 hears l 1 -\n40 1 gap l -");
    assert_eq!(total.lost_told, 1);
}

#[test]
fn a_gap_that_is_not_about_it_tells_nothing() {
    caught("25 1 gap k 1:2\n30 sent k 3 acked 1:3\n31 0 hears k 3 1:3", "neither heard it");
    caught("25 1 gap l -\n30 sent l 1 acked accepted\n31 0 hears l 1 -", "neither heard it");
}

#[test]
fn who_was_not_there_misses_nothing() {
    let late = "30 1 closed\n31 sent l 1 acked accepted\n32 0 hears l 1 -";
    clean(&format!("{late}\n40 1 connected\n41 1 joined l -\n41 1 joined k 1:2 1:2 recovered"));
    clean("30 sent l 1 acked isolated\n31 sent l 2 acked accepted partial");
    clean("31 sent k 3\n32 sent l 9");
}

#[test]
fn a_publication_that_was_tried_in_vain_is_caught() {
    let mut story = Story::new(&format!("{BEGIN}\n30 sent k 3"));
    story.0.sent[2].tries = 9;
    let verdict = check(&story.0);
    assert!(verdict.texts[0].contains("3 not accepted in 9 tries"), "{:?}", verdict.texts);
    assert_eq!((verdict.total.unknown, verdict.total.violations), (1, 1));
}

#[test]
fn what_requires_a_permission_is_due_to_those_who_hold_it_alone() {
    let vip = "30 sent k 3 acked 1:3 vip\n31 0 hears k 3 1:3";
    clean(vip);
    clean(&format!("{vip}\n32 1 skips 1:3 1"));
    caught(&format!("{vip}\n32 1 hears k 3 1:3"), "without its permission");
    caught("30 sent k 3 acked 1:3 vip\n31 1 skips 1:3 1", "0 neither heard it");
}

#[test]
fn a_hole_a_step_back_and_a_switched_epoch_are_caught() {
    let four =
        "30 sent k 3 acked 1:3\n30 sent k 4 acked 1:4\n31 0 hears k 3 1:3\n32 0 hears k 4 1:4\n";
    let total = caught(&format!("{four}33 1 hears k 4 1:4\n34 1 hears k 3 1:3"), "untold");
    assert_eq!((total.holes, total.out_of_order), (1, 1));
    let other = "30 sent k 3 acked 2:3\n31 0 gap k 2:2\n32 0 hears k 3 2:3\n";
    clean(&format!("{other}33 1 gap k 2:2\n34 1 hears k 3 2:3"));
    let total = caught(&format!("{other}33 1 hears k 3 2:3"), "untold");
    assert_eq!(total.holes, 1);
}

#[test]
fn skips_must_add_up() {
    let sent = "30 sent k 3 acked 1:3 vip\n30 sent k 4 acked 1:4 vip\n31 0 hears k 3 1:3\n32 0 hears k 4 1:4\n";
    let total = clean(&format!("{sent}33 1 skips 1:4 2"));
    assert_eq!((total.skips, total.skipped), (1, 2));
    for wrong in ["33 1 skips 1:4 1", "33 1 skips 1:4 3", "33 1 skips 2:4 2", "33 1 skips 1:2 0"] {
        caught(&format!("{sent}{wrong}"), "skips");
    }
}

#[test]
fn a_position_that_names_two_publications_is_caught() {
    let total = caught("30 sent k 3 acked 1:2", "names");
    assert_eq!(total.two_payloads, 1);
    let total = caught(
        "30 sent k 3 acked 1:3\n31 0 hears k 3 1:3\n32 sent k 4\n33 1 hears k 4 1:3",
        "names",
    );
    assert_eq!(total.two_payloads, 1);
}

#[test]
fn a_publication_that_stands_twice_is_caught_unless_its_incarnation_is_over() {
    let total = caught("30 0 hears k 2 1:3", "stands at");
    assert_eq!((total.two_places, total.raw_repeats, total.repeats), (1, 1, 0));
    let again = clean("30 0 gap k 2:2\n30 1 gap k 2:2\n31 0 hears k 2 2:3\n32 1 hears k 2 2:3");
    assert_eq!((again.two_places, again.raw_repeats), (0, 2));
}

#[test]
fn a_repeat_beyond_what_a_client_remembers_is_caught() {
    let mut story = BEGIN.to_owned();
    for number in 3..=1_003 {
        story.push_str(&format!("\n30 sent k {number} acked 1:{number}"));
        for member in 0..2 {
            story.push_str(&format!("\n31 {member} hears k {number} 1:{number}"));
        }
    }
    let verdict = check(&Story::new(&format!("{story}\n40 0 gap k 2:0\n41 0 hears k 1 2:1")).0);
    assert_eq!((verdict.total.repeats, verdict.total.raw_repeats), (1, 0));
    let verdict = check(&Story::new(&format!("{story}\n40 0 gap k 2:0\n41 0 hears k 9 2:1")).0);
    assert_eq!((verdict.total.repeats, verdict.total.raw_repeats), (0, 1));
}

#[test]
fn recovered_where_something_is_missing_is_caught() {
    let sent = "30 1 closed\n31 sent k 3 acked 1:3\n32 sent k 4 acked 1:4\n33 0 hears k 3 1:3\n34 0 hears k 4 1:4\n\
                40 1 connected\n41 1 joined k 1:4 1:2 recovered\n";
    let total = clean(&format!("{sent}42 1 hears k 3 1:3\n43 1 hears k 4 1:4"));
    assert_eq!(total.recovered, 1);
    caught(&format!("{sent}43 1 hears k 4 1:4"), "untold");
    caught(sent, "neither heard it nor was told");
    let other = "30 1 closed\n40 1 connected\n41 1 joined k 2:2 1:2 recovered";
    caught(other, "all of another epoch");
    caught("30 1 closed\n40 1 connected\n41 1 joined k 1:2 1:2", "what became of its wish");
}

#[test]
fn what_nobody_sent_and_what_has_no_place_are_caught() {
    caught("30 0 hears k 7 1:3", "which nobody sent");
    caught("30 sent k 3\n31 0 hears k 3 -", "without position");
    caught("30 sent k 3 acked accepted", "but kept is true");
    caught("30 sent l 3 acked 1:3\n31 0 hears l 3 -\n31 1 hears l 3 -", "but kept is false");
}

#[test]
fn how_long_members_take_after_a_fault_is_counted_from_its_end_or_their_return() {
    let more = "1000 fault cut
                1100 1 closed
                1200 sent l 1 acked accepted
                1250 0 hears l 1 -
                1900 1 connected
                1950 1 joined l -
                1950 1 joined k 1:2 1:2 recovered
                2000 sent k 3 acked 1:3
                2001 sent l 2 acked accepted
                2300 0 hears k 3 1:3
                2300 1 hears k 3 1:3
                2400 0 hears l 2 -
                2500 1 hears l 2 -";
    let verdict = check(&Story::new(&format!("{BEGIN}\n{more}")).0);
    let fault = &verdict.faults[0];
    assert_eq!((fault.slowest_us, fault.never, fault.who), (1_300 * MS, 0, Some((0, 0))));
    assert_eq!((fault.tally.accepted, verdict.total.accepted), (3, 5));
    let deaf = more.replace("2500 1 hears l 2 -", "");
    let verdict = check(&Story::new(&format!("{BEGIN}\n{deaf}")).0);
    assert_eq!((verdict.faults[0].never, verdict.faults[0].who), (1, Some((1, 1))));
}

#[test]
fn a_session_that_hears_something_twice_is_caught_although_its_id_is_remembered() {
    let mut story = Story::new(&format!("{BEGIN}\n30 0 gap k 2:2\n31 0 hears k 2 2:3"));
    assert_eq!(check(&story.0).total.violations, 0);
    story.0.members[0].travels = true;
    let verdict = check(&story.0);
    assert!(verdict.texts[0].contains("delivers 2 twice"), "{:?}", verdict.texts);
    assert_eq!((verdict.total.repeats, verdict.total.raw_repeats), (1, 0));
}

/// Member 0 is on node 2 when that drains, from 100 ms to 900 ms, with a limit of 500 ms.
fn drained(more: &str) -> String {
    format!("50 0 connected 2\n100 drain 2 900 500\n{more}")
}

#[test]
fn a_drain_that_tells_each_of_its_clients_in_time_is_clean() {
    for code in ["4202", "1012", "1001", "1006"] {
        clean(&drained(&format!("400 0 closed {code}\n450 0 connected 1")));
    }
    clean(&drained("90 0 closed 4200"));
    clean(&drained("90 0 closed 4200\n95 0 connected 1\n950 0 connected 2"));
}

#[test]
fn a_drain_that_forgets_a_client_tells_it_otherwise_or_takes_a_new_one_is_caught() {
    caught(&drained("601 0 closed 1012"), "was still there 0.5 s");
    caught(&drained(""), "was still there");
    caught(&drained("400 0 closed 4200"), "was closed with Some(4200)");
    caught(&drained("400 0 closed"), "was closed with None");
    caught(&drained("400 0 closed 1012\n500 0 connected 2"), "came in while it drained");
}
