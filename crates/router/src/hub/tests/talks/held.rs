//! What conversations hold: each half is bounded in bytes, and all is given back.

use roomcast_protocol::position::Kept;
use roomcast_protocol::publication::Publication;

use super::*;
use crate::hub::TALKS_BYTES_MAX;
use crate::hub::held::HALF_BYTES_MAX;
use crate::random::Random;

/// As many fill a half.
const FILL: usize = 128;

/// What each of them holds then.
const EACH: usize = HALF_BYTES_MAX / FILL;

fn find() -> Act {
    Act::Messages { range: Range::Newest, count_max: 500 }
}

/// One message that weighs so much, and which is not the first.
fn page(bytes: usize, offset: u64) -> Page {
    let at = Position { epoch: Epoch(1), offset };
    let bare = Publication {
        id: offset.to_string().into(),
        sender: "bob".into(),
        position: Some(at),
        ..Publication::bare(crew(), Content::Text("".into()))
    };
    let content = "x".repeat(bytes - bare.weight());
    let said = Publication { content: Content::Text(content.into()), ..bare };
    let head = Head { position: at, first: 1 };
    Page { head, entries: vec![Kept::Publication(said.into())], whole: offset == 1 }
}

/// An empty conversation.
fn empty() -> Option<Page> {
    let head = Head { position: Position { epoch: Epoch(1), offset: 1 }, first: 1 };
    Some(Page { head, entries: Vec::new(), whole: true })
}

impl Played {
    /// Answers all that is asked, until nothing is; pages as they are said to be, or not at all.
    fn go(&mut self, mut pages: impl FnMut(&RoomName, u64) -> Option<Page>) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let (commands, more) = self.seen();
            told.extend(more);
            if commands.is_empty() {
                return told;
            }
            for command in commands {
                if let BrokerCommand::Read { request, room, span, .. } = command {
                    let page = pages(&room, span.from);
                    self.tell(BrokerEvent::Read { request, page });
                } else {
                    self.answer(command);
                }
            }
        }
    }

    fn read(&self) -> usize {
        self.hub.talks.held.read
    }

    fn asked(&self) -> usize {
        self.hub.talks.held.asked
    }

    fn says_much(&mut self, session: u32, bytes: usize) {
        let content = Content::Text("x".repeat(bytes).into());
        let saying = Saying { kind: "new".into(), id: Some("a".into()), content };
        self.asks(session, &format!("talk{session:03}"), Act::Say(saying));
    }
}

/// So many ask for large messages, of which the second page is not answered.
fn filled(last: usize) -> (Played, Vec<String>) {
    let mut it = Played::new();
    for at in 0..FILL {
        it.asks(u32::try_from(at).unwrap(), &format!("talk{at:03}"), find());
    }
    let mut sizes = (1..=FILL).map(|at| if at == FILL { last } else { EACH });
    let told = it.go(|_, from| if from > 9 { Some(page(sizes.next().unwrap(), 9)) } else { None });
    (it, told)
}

#[test]
fn what_is_read_is_held_to_its_bound_and_whoever_reads_a_byte_more_is_refused() {
    let (it, told) = filled(EACH);
    assert_eq!((it.read(), told), (HALF_BYTES_MAX, Vec::new()));
    assert_eq!(it.hub.presence_sizes().talks_bytes, HALF_BYTES_MAX + it.asked());
    let (it, told) = filled(EACH + 1);
    assert_eq!(it.read(), HALF_BYTES_MAX - EACH, "it gives back what it held");
    assert_eq!((told, it.hub.counters().talks_refused), (vec!["127 unavailable".to_owned()], 1));
}

#[test]
fn while_no_more_is_read_something_is_said_and_whoever_has_read_is_answered() {
    let (mut it, _) = filled(EACH);
    it.asks(200, "talk200", find());
    assert_eq!(it.go(|_, _| Some(page(400, 9))), ["200 unavailable"]);
    it.says(201, "talk201");
    assert_eq!(it.go(|_, _| empty()), ["201 said 1"]);
    it.asks(202, "talk202", Act::Mark { mark: Mark::Read, up_to: Some(4) });
    assert_eq!(it.go(|_, _| empty()), ["202 marked 1"]);
    assert_eq!(it.read(), HALF_BYTES_MAX);
    it.pass(500);
    it.pass(1);
    let told = it.go(|_, _| Some(page(400, 1)));
    let messages = told.iter().filter(|it| it.ends_with("Messages 2")).count();
    assert_eq!(messages, FILL, "{told:?}");
    it.pass(TALK_MS);
    it.seen();
    assert!(it.hub.talks.are_idle());
    it.asks(203, "talk203", find());
    assert_eq!(it.go(|_, _| Some(page(400, 1))), ["203 Messages 1"], "there is place again");
}

#[test]
fn what_is_said_is_taken_to_its_bound_and_a_byte_more_is_refused() {
    let mut it = Played::new();
    it.says_much(0, 0);
    let bare = it.asked();
    let each = HALF_BYTES_MAX / 64 - bare;
    for more in [0, 1] {
        let mut it = Played::new();
        (1..64).for_each(|at| it.says_much(at, each));
        it.says_much(64, each + more);
        assert_eq!(it.asked(), HALF_BYTES_MAX / 64 * (64 - more));
        let (_, told) = it.seen_and_put_back();
        assert_eq!(told.len(), more);
        if more == 0 {
            it.says_much(65, 0);
            assert_eq!(it.seen_and_put_back().1, ["65 unavailable"]);
        }
        assert_eq!(it.hub.counters().talks_refused, 1);
        assert_eq!(it.go(|_, _| empty()).len(), 64 - more, "all others are said");
        assert!(it.hub.talks.are_idle());
    }
}

/// A dialog's message that is larger than all that may be held is said, and read, alone.
#[test]
fn one_that_is_larger_than_all_is_carried_out_alone() {
    let mut it = Played::new();
    it.says_much(1, TALKS_BYTES_MAX);
    it.says_much(2, 0);
    assert_eq!(it.go(|_, _| empty()), ["2 unavailable", "1 said 1"]);
    it.asks(3, "talk003", find());
    let told = it.go(|_, from| Some(page(TALKS_BYTES_MAX, if from > 9 { 9 } else { 1 })));
    assert_eq!(told, ["3 Messages 1"]);
    assert!(it.hub.talks.are_idle());
}

/// Whatever is asked, answered, lost, and given up: no half is ever exceeded, and all is given back.
#[test]
fn whatever_happens_all_that_was_held_is_given_back() {
    let mut refused = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut it = Played::new();
        let mut open = Vec::new();
        for step in 0..300 {
            let with = format!("talk{:03}", random.below(20));
            match random.below(12) {
                0..3 => it.asks(step, &with, find()),
                3 => it.asks(step, &with, Act::Show),
                4 => it.asks(step, &with, Act::Mark { mark: Mark::Read, up_to: None }),
                5 => it.says(step, &with),
                6 => it.says_much(step % 20, random.below(4 << 20)),
                7 => it.pass(random.below(900) as u64),
                _ if open.is_empty() => {}
                _ => match open.swap_remove(random.below(open.len())) {
                    BrokerCommand::Read { request, .. } => {
                        let offset = random.pick(&[1, 9]);
                        let bytes = 400 + random.below(4 << 20);
                        let page = (!random.chance(4)).then(|| page(bytes, offset));
                        it.tell(BrokerEvent::Read { request, page });
                    }
                    command => it.answer(command),
                },
            }
            open.extend(it.seen().0);
            assert!(it.read() <= HALF_BYTES_MAX && it.asked() <= HALF_BYTES_MAX, "{seed} {step}");
        }
        refused += it.hub.counters().talks_refused;
        it.pass(TALK_MS);
        it.pass(TALK_ENDS_MS);
        assert_eq!(it.hub.talks.bytes(), 0, "{seed}: whatever the broker says of it later");
        it.out.extend(open.into_iter().map(HubEffect::Broker));
        it.go(|_, _| empty());
        assert!(it.hub.talks.are_idle(), "{seed}: {:?}", it.hub.talks.held);
    }
    assert!(refused > 10, "the bound is met: {refused}");
}
