//! Order, tries, deadlines and bounds of what waits.

use bytes::Bytes;

use super::*;
use crate::config::{EventKind, WebhookConfig};

/// How long an event is tried here. Units: milliseconds.
const RETRY_FOR_MS: u64 = 10_000;

fn lines(events_max: usize, bytes_max: usize, concurrency: usize) -> Lines {
    let hook = |name: &str| WebhookConfig {
        name: name.into(),
        call: 0,
        concurrency,
        events: EventKind::ALL.to_vec(),
        retry_for_ms: RETRY_FOR_MS,
    };
    let hooks = vec![hook("first"), hook("second")];
    Lines::new(&WebhooksConfig { hooks, events_max, bytes_max })
}

fn told(id: &str, subject: &str) -> Told {
    Told {
        id: id.into(),
        kind: EventKind::Connected,
        subject: subject.into(),
        body: Bytes::from_static(b"{}"),
        first_unix_ms: 0,
        before: None,
        kept: false,
        done: None,
    }
}

/// A play of events `id@subject` offered to the first webhook, of which each may be tried as often as there is place.
struct Play {
    lines: Lines,
    under_way: HashMap<String, (usize, u64)>,
}

impl Play {
    fn of(mut lines: Lines, offered: &str) -> Self {
        for text in offered.split_whitespace() {
            let (id, subject) = text.split_once('@').unwrap();
            assert!(lines.offer(0, 0, told(id, subject)).is_ok(), "{text}");
        }
        Self { lines, under_way: HashMap::new() }
    }

    /// Starts what may start.
    #[track_caller]
    fn starts(&mut self, now_ms: u64, expected: &str) {
        let mut started = Vec::new();
        while let Some(attempt) = self.lines.start(now_ms) {
            let id = attempt.told.id.to_string();
            self.under_way.insert(id.clone(), (attempt.hook, attempt.serial));
            started.push(id);
        }
        assert_eq!(started.join(" "), expected, "at {now_ms}");
    }

    /// Ends a try, the pause after it being the longest; says what came of it.
    fn ends(&mut self, now_ms: u64, id: &str, verdict: Verdict) -> String {
        let place = self.under_way.remove(id).unwrap();
        match self.lines.ended(now_ms, place, verdict, 500) {
            None => "nobody waits".to_owned(),
            Some(Ended::Delivered(gone)) => {
                format!("delivered {} after {}", gone.told.id, gone.tries)
            }
            Some(Ended::Dead(gone, why)) => {
                format!("{} {} after {} {:?}", why.name(), gone.told.id, gone.tries, gone.status)
            }
            Some(Ended::Waits(gone, counts)) => {
                format!("{} waits after {} {:?} {counts}", gone.told.id, gone.tries, gone.status)
            }
        }
    }
}

const FAILED: Verdict = Verdict::Again { status: Some(503), after_ms: 0 };

fn ids(gone: Vec<Gone>) -> String {
    gone.into_iter().map(|it| it.told.id.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn one_of_a_subject_is_under_way_and_others_wait_through_its_tries() {
    let mut play = Play::of(lines(99, 1 << 20, 9), "a@u b@u c@v d@u");
    play.starts(0, "a c");
    assert_eq!(play.ends(10, "a", FAILED), "a waits after 1 Some(503) true");
    assert_eq!(play.ends(10, "c", Verdict::Delivered), "delivered c after 1");
    play.starts(509, "");
    assert_eq!(play.lines.next_wake_ms(), Some(510));
    play.starts(510, "a");
    assert_eq!(play.ends(520, "a", Verdict::Delivered), "delivered a after 2");
    play.starts(520, "b");
    assert_eq!(play.ends(530, "b", Verdict::Never { status: 410 }), "refused b after 1 Some(410)");
    play.starts(530, "d");
    assert_eq!(play.ends(540, "d", Verdict::Delivered), "delivered d after 1");
    assert_eq!((play.lines.len(), play.lines.bytes(), play.lines.next_wake_ms()), (0, 0, None));
}

#[test]
fn as_many_are_under_way_as_the_call_lets() {
    let mut play = Play::of(lines(99, 1 << 20, 2), "a@u b@v c@w");
    play.starts(0, "a b");
    assert_eq!(play.ends(1, "a", Verdict::Delivered), "delivered a after 1");
    play.starts(1, "c");
}

#[test]
fn webhooks_do_not_wait_for_each_other() {
    let mut lines = lines(99, 1 << 20, 1);
    for (at, id) in [(0, "a"), (1, "b")] {
        assert!(lines.offer(0, at, told(id, "u")).is_ok());
    }
    let mut play = Play::of(lines, "");
    play.starts(0, "a b");
}

#[test]
fn the_application_says_when_it_wants_more() {
    let mut play = Play::of(lines(99, 1 << 20, 9), "a@u");
    play.starts(0, "a");
    let later = Verdict::Again { status: Some(429), after_ms: 3_000 };
    assert_eq!(play.ends(0, "a", later), "a waits after 1 Some(429) true");
    play.starts(2_999, "");
    play.starts(3_000, "a");
}

#[test]
fn an_open_breaker_is_waited_for_and_counts_no_try() {
    let mut play = Play::of(lines(99, 1 << 20, 9), "a@u b@v");
    play.starts(0, "a b");
    let open = Verdict::Held { after_ms: 2_000 };
    assert_eq!(play.ends(0, "a", open), "a waits after 0 None false");
    assert_eq!(play.ends(0, "b", Verdict::Delivered), "delivered b after 1");
    assert!(play.lines.offer(1, 0, told("c", "w")).is_ok());
    play.starts(1_999, "");
    assert_eq!(play.lines.next_wake_ms(), Some(2_000));
    play.starts(2_000, "a c");
}

#[test]
fn what_is_over_leaves_its_line_wherever_it_stands() {
    let mut play = Play::of(lines(99, 1 << 20, 1), "a@u b@u c@v");
    assert!(play.lines.offer(5, 0, told("d", "u")).is_ok());
    play.starts(0, "a");
    assert_eq!(ids(play.lines.expire(RETRY_FOR_MS - 1)), "");
    assert_eq!(play.lines.next_wake_ms(), Some(RETRY_FOR_MS));
    assert_eq!(ids(play.lines.expire(RETRY_FOR_MS)), "b c", "the one under way may end well");
    assert_eq!(play.ends(RETRY_FOR_MS, "a", FAILED), "a waits after 1 Some(503) true");
    assert_eq!(ids(play.lines.expire(RETRY_FOR_MS)), "a");
    play.starts(RETRY_FOR_MS, "d");
    assert_eq!(play.lines.len(), 1);
}

#[test]
fn so_many_events_wait_and_one_more_does_not() {
    let mut lines = lines(2, 1 << 20, 9);
    assert!(lines.offer(0, 0, told("a", "u")).is_ok());
    assert!(lines.offer(0, 1, told("a", "u")).is_ok(), "each webhook counts");
    assert_eq!(lines.offer(0, 0, told("b", "u")).err().map(|it| it.id), Some("b".into()));
    let mut play = Play::of(lines, "");
    play.starts(0, "a a");
    assert_eq!(play.ends(0, "a", Verdict::Delivered), "delivered a after 1");
    assert!(play.lines.offer(0, 0, told("b", "u")).is_ok(), "there is place again");
}

#[test]
fn so_many_bytes_wait_and_one_more_does_not() {
    let weight = told("a", "u").weight();
    for (bytes_max, taken) in [(2 * weight, true), (2 * weight - 1, false)] {
        let mut lines = lines(99, bytes_max, 9);
        assert!(lines.offer(0, 0, told("a", "u")).is_ok());
        assert_eq!(lines.offer(0, 0, told("b", "u")).is_ok(), taken);
        assert_eq!(lines.bytes(), if taken { 2 * weight } else { weight });
    }
}

#[test]
fn what_the_broker_keeps_until_it_was_told_takes_no_place_of_others() {
    let mut lines = lines(1, 1_000_000, 9);
    let kept = Told { kept: true, ..told("r", "room") };
    for _ in 0..2 {
        assert!(lines.offer(0, 0, kept.clone()).is_ok());
    }
    assert!(lines.offer(0, 0, told("a", "ann")).is_ok());
    assert!(lines.offer(0, 0, told("b", "ann")).is_err());
    assert!(lines.offer(0, 0, kept).is_ok());
    assert_eq!(lines.len(), 4);
    assert_eq!(lines.expire(RETRY_FOR_MS).len(), 4);
    assert_eq!((lines.len(), lines.bytes()), (0, 0));
    assert!(lines.offer(0, 0, told("b", "ann")).is_ok());
    assert!(lines.offer(0, 0, told("c", "ann")).is_err());
}

#[test]
fn a_node_that_ends_gives_up_what_cannot_leave_before_then_the_rest() {
    let mut play = Play::of(lines(99, 1 << 20, 9), "a@u b@v c@v");
    play.starts(0, "a b");
    let later = Verdict::Again { status: Some(429), after_ms: 3_000 };
    assert_eq!(play.ends(0, "a", later), "a waits after 1 Some(429) true");
    assert_eq!(ids(play.lines.end(10, 1_000)), "a", "it would leave too late");
    assert_eq!(ids(play.lines.end(999, 1_000)), "");
    assert_eq!(ids(play.lines.end(1_000, 1_000)), "b c", "one of them is under way");
    assert_eq!(play.ends(1_001, "b", Verdict::Delivered), "nobody waits");
    assert_eq!((play.lines.len(), play.lines.next_wake_ms()), (0, None));
}

#[test]
fn a_dead_letter_is_replayed_once_at_a_time() {
    let mut lines = lines(99, 1 << 20, 9);
    let again = || Told { before: Some(3), ..told("a", "u") };
    assert!(!lines.is_replayed(0, "a"));
    assert!(lines.offer(0, 0, again()).is_ok());
    assert!(lines.is_replayed(0, "a") && !lines.is_replayed(1, "a"));
    let mut play = Play::of(lines, "");
    play.starts(0, "a");
    assert_eq!(play.ends(0, "a", Verdict::Delivered), "delivered a after 1");
    assert!(!play.lines.is_replayed(0, "a"));
}

#[test]
fn how_events_stand_is_told_by_kind() {
    let mut lines = lines(99, 1 << 20, 9);
    for (now_ms, kind) in
        [(0, EventKind::Occupied), (70, EventKind::Occupied), (80, EventKind::Vacated)]
    {
        assert!(lines.offer(now_ms, 0, Told { kind, ..told("a", "u") }).is_ok());
    }
    let mut standing = [Standing::default(); EventKind::ALL.len()];
    lines.standing(100, 0, &mut standing);
    let of = |waiting, oldest_ms| Standing { waiting, oldest_ms };
    let none = of(0, 0);
    assert_eq!(standing, [none, none, of(2, 100), of(1, 20), none, none]);
}

/// Whatever is answered, all events end once, and those of a subject are delivered in the order in which they came.
#[test]
fn random_answers_keep_the_order_of_each_subject() {
    for seed in 0..50_u64 {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut lines, mut now_ms, mut offered, mut ended) = (lines(40, 1 << 20, 3), 0, 0, 0);
        let mut under_way: Vec<(usize, u64, Told)> = Vec::new();
        let mut last: HashMap<Arc<str>, u64> = HashMap::new();
        while offered < 200 || lines.len() > 0 {
            now_ms += random(400);
            if offered < 200 && random(2) == 0 {
                let told = told(&offered.to_string(), &format!("s{}", random(5)));
                offered += 1;
                ended += u64::from(lines.offer(now_ms, 0, told).is_err());
            }
            while let Some(Attempt { hook, serial, told }) = lines.start(now_ms) {
                assert!(under_way.iter().all(|it| it.2.subject != told.subject), "seed {seed}");
                under_way.push((hook, serial, told));
            }
            assert!(under_way.len() <= 3);
            ended += lines.expire(now_ms).len() as u64;
            if under_way.is_empty() {
                continue;
            }
            let at = usize::try_from(random(under_way.len() as u64)).unwrap();
            let (hook, serial, told) = under_way.swap_remove(at);
            let verdict = match random(5) {
                0 => Verdict::Held { after_ms: random(900) },
                1 => Verdict::Never { status: 404 },
                2 => FAILED,
                _ => Verdict::Delivered,
            };
            match lines.ended(now_ms, (hook, serial), verdict, random(30_000)).unwrap() {
                Ended::Delivered(_) => {
                    let id = told.id.parse().unwrap();
                    let before = last.insert(Arc::clone(&told.subject), id);
                    assert!(before.is_none_or(|before| before < id), "seed {seed}: {id}");
                    ended += 1;
                }
                Ended::Dead(..) => ended += 1,
                Ended::Waits(..) => {}
            }
        }
        assert_eq!((ended, lines.bytes()), (200, 0), "seed {seed}");
    }
}
