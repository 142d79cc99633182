//! Orders of one member cross each other, or whoever gave one is gone: the sessions here follow the user's list in the end.

use std::collections::VecDeque;
use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{self, Membership, Role};
use roomcast_protocol::directory::DirectoryPage;
use roomcast_protocol::envelope::{BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::LaneId;
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{Rules, acted, config};
use crate::hub::standings::{STANDINGS_UNDER_WAY_MAX, member_of};
use crate::hub::track::Item;
use crate::hub::{CONTROL, Hub, TALK_MS};
use crate::membership;
use crate::messages::{HubEffect, LaneMessage};
use crate::orders::{Order, Outcome};

fn team() -> RoomName {
    conversation::group("team").unwrap()
}

fn member() -> Membership {
    let from = Position { epoch: Epoch(1), offset: 0 };
    Membership { room: team(), role: Role::Member, number: 1, from }
}

fn order(user: &str, joins: bool) -> Order {
    Order::of_member(team(), user.into(), joins.then(member))
}

/// A hub whose lanes and broker the test plays: one session of each user, in lane 0.
struct Played {
    hub: Hub,
    now: Now,
    orders: u32,
    /// Orders on their way to lane 0, with their tickets, and whether the hub gives them by itself.
    lane: VecDeque<(u64, Arc<Order>, bool)>,
    /// What users' lists say.
    listed: bool,
    /// Questions, each with what the lists said when it was asked.
    asked: VecDeque<(u64, bool)>,
    /// Who is in the group here.
    is_in: Vec<Box<str>>,
    /// How often what the broker answered changed that.
    corrected: u32,
}

impl Played {
    fn new() -> Self {
        Self {
            hub: Hub::new(config(0, false), Arc::new(Rules)),
            now: Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 },
            orders: 0,
            lane: VecDeque::new(),
            listed: false,
            asked: VecDeque::new(),
            is_in: Vec::new(),
            corrected: 0,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        for effect in acted(&mut self.hub, self.now, act) {
            if let HubEffect::Lane(LaneId(0), LaneMessage::Order { ticket, order }) = effect {
                self.lane.push_back((ticket, order, true));
            } else if let HubEffect::Broker(BrokerCommand::Directory { request, .. }) = effect {
                self.asked.push_back((request, self.listed));
            }
        }
    }

    /// An order came; or, `alone`, could not be told to the others.
    fn gets(&mut self, user: &str, joins: bool, alone: bool) {
        self.orders += 1;
        let (kind, text) = order(user, joins).written();
        let room = RoomName::system(CONTROL).unwrap();
        let publication = Publication {
            id: format!("{:016x}-{}", 2, self.orders).into(),
            kind: kind.into(),
            ..Publication::bare(room, Content::Text(text.into()))
        };
        let at = self.lane.len();
        self.act(|hub, _, out| {
            if alone {
                hub.obey_alone(&publication, out);
            } else {
                hub.control(&Item::Publication(Arc::new(publication), 0), out);
            }
        });
        self.lane[at].2 = false;
    }

    fn ordered(&mut self, user: &str, joins: bool) {
        self.gets(user, joins, false);
    }

    /// Lanes obey the next order.
    fn obey(&mut self) {
        let Some((ticket, order, is_own)) = self.lane.pop_front() else { return };
        let before = self.is_in.clone();
        let (_, user) = member_of(&order).unwrap();
        self.is_in.retain(|it| *it != user);
        let sessions = if matches!(&*order, Order::Admit(..)) {
            self.is_in.push(user);
            1
        } else {
            u64::from(self.is_in.len() < before.len())
        };
        self.corrected += u32::from(is_own && self.is_in.len() != before.len());
        for lane in 0..3 {
            let sessions = if lane == 0 { sessions } else { 0 };
            self.act(|hub, now, out| {
                hub.carried_out(now, LaneId(lane), ticket, Outcome::of(sessions), out);
            });
        }
    }

    /// The broker answers the next question, late, or does not.
    fn answer(&mut self, answers: bool) {
        let Some((request, joined)) = self.asked.pop_front() else { return };
        let entry = || ("team".into(), membership::text(&member()).into());
        let entries = Vec::from_iter(joined.then(entry));
        let page = answers.then(|| DirectoryPage { entries, ..DirectoryPage::default() });
        self.act(|hub, now, out| {
            hub.broker_event(now, BrokerEvent::Directory { request, page }, out);
        });
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.act(|_, _, _| {});
    }

    /// All that is under way ends.
    fn settle(&mut self) {
        for _ in 0..100 {
            if self.lane.is_empty() && self.asked.is_empty() && self.hub.standings.are_idle() {
                return;
            }
            self.obey();
            self.answer(true);
            self.pass(100);
        }
        panic!("it does not end");
    }
}

#[test]
fn an_order_that_comes_late_does_not_stay() {
    let mut it = Played::new();
    for joined in [true, false] {
        it.listed = joined;
        it.ordered("ann", joined);
        it.settle();
        assert_eq!((it.is_in.len() == 1, it.corrected), (joined, 0));
    }
    it.ordered("ann", true);
    it.settle();
    assert_eq!((it.is_in.len(), it.corrected), (0, 1));
    it.ordered("ann", false);
    it.obey();
    assert!(it.asked.is_empty(), "no session of it was in");
}

#[test]
fn nor_does_one_that_is_obeyed_here_alone() {
    let mut it = Played::new();
    it.gets("ann", true, true);
    it.obey();
    assert_eq!(it.is_in.len(), 1);
    it.settle();
    assert_eq!((it.is_in.len(), it.corrected), (0, 1));
}

#[test]
fn what_is_not_answered_is_read_again_until_it_is() {
    let mut it = Played::new();
    it.ordered("ann", true);
    it.obey();
    for _ in 0..200 {
        it.answer(false);
        it.pass(TALK_MS / 7);
    }
    assert!(!it.hub.standings.are_idle());
    it.settle();
    assert!(it.is_in.is_empty());
}

#[test]
fn so_many_are_read_at_once_and_the_others_in_their_turn() {
    let mut it = Played::new();
    for user in 0..=STANDINGS_UNDER_WAY_MAX {
        it.ordered(&format!("u{user}"), true);
        it.obey();
    }
    assert_eq!(it.asked.len(), STANDINGS_UNDER_WAY_MAX);
    it.answer(true);
    assert_eq!(it.asked.len(), STANDINGS_UNDER_WAY_MAX);
    it.settle();
    assert!(it.is_in.is_empty());
}

#[test]
fn whatever_crosses_the_sessions_follow_the_list() {
    let mut random = 5_u64;
    let mut next = |count: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % count
    };
    let mut corrected = 0;
    for run in 0..3_000 {
        let mut it = Played::new();
        let mut under_way = Vec::new();
        for _ in 0..40 {
            match next(6) {
                0 => {
                    it.listed = !it.listed;
                    under_way.push(it.listed);
                }
                1 if !under_way.is_empty() => {
                    let at = usize::try_from(next(under_way.len() as u64)).unwrap();
                    it.ordered("ann", under_way.swap_remove(at));
                }
                2 | 3 => it.obey(),
                4 => it.answer(next(4) > 0),
                _ => it.pass(next(1_000)),
            }
        }
        while !under_way.is_empty() {
            let at = usize::try_from(next(under_way.len() as u64)).unwrap();
            it.ordered("ann", under_way.swap_remove(at));
            it.obey();
        }
        it.settle();
        assert_eq!(it.is_in.len() == 1, it.listed, "{run}");
        corrected += it.corrected;
    }
    assert!(corrected > 500, "{corrected}");
}
