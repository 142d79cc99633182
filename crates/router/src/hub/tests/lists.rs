//! Who is told its conversations because its groups changed: one list at a time, none for who is not there, and the newest
//! last.
#![allow(clippy::wildcard_enum_match_arm, reason = "each test looks for one kind of many")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::conversation::{self, Membership, Role};
use roomcast_protocol::directory::DirectoryPage;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent};
use roomcast_protocol::lists::{LIST, List};
use roomcast_protocol::position::{Epoch, Head, Page, Position};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{Rules, config};
use crate::hub::lists::Changed;
use crate::hub::{Hub, HubConfig, LISTS_MAX, LISTS_UNDER_WAY_MAX, NOTICE_AGAIN_MS, NOTICE_MS};
use crate::messages::{HubEffect, Ticket};
use crate::orders::{Order, Whom};

fn at(offset: u64) -> Position {
    Position { epoch: Epoch(1), offset }
}

fn team() -> RoomName {
    conversation::group("team").unwrap()
}

fn changed(user: &str, role: Option<Role>) -> Changed {
    Changed { user: user.into(), group: team(), role }
}

/// A hub whose broker the test plays, and which cannot fail.
struct Played {
    hub: Hub,
    now: Now,
    /// Since which version users of the agents' room are there.
    there: BTreeMap<String, u64>,
    open: Vec<BrokerCommand<Ticket>>,
    told: Vec<String>,
}

impl Played {
    fn new(there: &[(&str, u64)]) -> Self {
        let write_list = Some(
            (|_, list, about| Bytes::from(format!("[{} of {about}]", list.len())))
                as roomcast_protocol::lists::WriteList,
        );
        let config = HubConfig { write_list, ..config(0, false) };
        Self {
            hub: Hub::new(config, Arc::new(Rules)),
            now: Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 },
            there: there.iter().map(|(user, since)| ((*user).to_owned(), *since)).collect(),
            open: Vec::new(),
            told: Vec::new(),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let out = super::acted(&mut self.hub, self.now, act);
        for effect in out {
            match effect {
                HubEffect::Broker(
                    BrokerCommand::Subscribe { .. } | BrokerCommand::Heads { .. },
                ) => {}
                HubEffect::Broker(command) => self.open.push(command),
                other => panic!("{other:?}"),
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.act(|_, _, _| {});
    }

    fn tells(&mut self, user: &str, role: Option<Role>) {
        self.act(|hub, _, _| hub.tell_list(changed(user, role)));
    }

    fn answer(&mut self, command: BrokerCommand<Ticket>) {
        let event = match command {
            BrokerCommand::Present { request, users, .. } => {
                let since = users.iter().map(|user| self.there.get(&**user).copied());
                BrokerEvent::Present { request, since: Some(since.collect()) }
            }
            BrokerCommand::Read { request, .. } => {
                let head = Head { position: at(0), first: 1 };
                let page = Page { head, entries: Vec::new(), whole: true };
                BrokerEvent::Read { request, page: Some(page) }
            }
            BrokerCommand::Directory { request, .. } => {
                BrokerEvent::Directory { request, page: Some(DirectoryPage::default()) }
            }
            BrokerCommand::Publish { ticket, publication, collapse, dedup, .. } => {
                let list = List::of(&publication).unwrap();
                assert_eq!((collapse.as_deref(), dedup), (Some(LIST), true), "the newest alone");
                assert!(publication.requires_ack);
                let room = &publication.room;
                self.told.push(format!("{room} {:?} since {}", publication.content, list.since));
                BrokerEvent::Published { ticket, outcome: Ok(Accepted::stored(at(1))) }
            }
            other => panic!("{other:?}"),
        };
        self.act(|hub, now, out| hub.broker_event(now, event, out));
    }

    /// Answers what is asked now.
    fn answer_open(&mut self) {
        for command in std::mem::take(&mut self.open) {
            self.answer(command);
        }
    }

    /// Answers all that is asked, until nothing is. Says what was published.
    fn answer_all(&mut self) -> Vec<String> {
        while !self.open.is_empty() {
            self.answer_open();
        }
        std::mem::take(&mut self.told)
    }

    /// Nothing that is asked is answered.
    fn fail_all(&mut self) {
        for command in std::mem::take(&mut self.open) {
            let event = match command {
                BrokerCommand::Present { request, .. } => {
                    BrokerEvent::Present { request, since: None }
                }
                BrokerCommand::Publish { ticket, .. } => {
                    let outcome = Err(Refused::unavailable("away".into(), 1));
                    BrokerEvent::Published { ticket, outcome }
                }
                other => panic!("{other:?}"),
            };
            self.act(|hub, now, out| hub.broker_event(now, event, out));
        }
    }

    fn are_idle(&self) -> bool {
        self.hub.lists.are_idle() && self.hub.talks.are_idle() && self.hub.notices.is_empty()
    }
}

fn told(user: &str, since: u64) -> String {
    format!("user-{user} Json(b\"[0 of team]\") since {since}")
}

#[test]
fn who_is_there_is_told_and_for_others_nothing_is_listed() {
    let mut it = Played::new(&[("$user-ann", 5), ("$away-bob", 7), ("$user-bob", 9)]);
    for user in ["ann", "bob", "cid"] {
        it.tells(user, Some(Role::Member));
    }
    assert_eq!(it.open.len(), 3, "who is there?");
    assert_eq!(it.answer_all(), [told("ann", 5), told("bob", 7)], "looked at or not");
    assert!(it.are_idle());
    assert_eq!((it.hub.counters().lists_told, it.hub.counters().lists_lost), (2, 0));
    it.hub.config.write_list = None;
    it.tells("ann", None);
    assert!(it.open.is_empty(), "nobody's protocol has words for it");
}

#[test]
fn of_a_user_one_list_is_under_way_and_what_changes_meanwhile_makes_one_more() {
    let mut it = Played::new(&[("$user-ann", 5)]);
    for _ in 0..50 {
        it.tells("ann", Some(Role::Member));
    }
    assert_eq!(it.open.len(), 1);
    assert_eq!(it.answer_all(), [told("ann", 5), told("ann", 5)]);
    it.tells("ann", None);
    it.answer_open();
    // Another node's order came while this one lists: that of the change that is told itself makes no other list.
    let from = at(3);
    let member = Membership { room: team(), role: Role::Member, number: 1, from };
    let orders = [
        Order::Leave(team(), Whom::User("ann".into())),
        Order::Leave(team(), Whom::User("bob".into())),
    ];
    orders.iter().for_each(|order| it.hub.lists.doubt(order));
    assert_eq!(it.answer_all(), [told("ann", 5)]);
    it.tells("ann", None);
    it.answer_open();
    it.hub.lists.doubt(&Order::Admit("ann".into(), member));
    assert_eq!(it.answer_all(), [told("ann", 5), told("ann", 5)]);
    assert!(it.are_idle());
}

#[test]
fn so_many_are_told_at_once_and_the_others_in_their_turn() {
    let users: Vec<String> = (0..=LISTS_UNDER_WAY_MAX).map(|it| format!("u{it}")).collect();
    let mut it = Played::new(&[]);
    it.there = users.iter().map(|user| (format!("$user-{user}"), 1)).collect();
    for user in &users {
        it.tells(user, None);
    }
    assert_eq!(it.open.len(), LISTS_UNDER_WAY_MAX);
    assert_eq!(it.answer_all().len(), LISTS_UNDER_WAY_MAX + 1);
    assert!(it.are_idle());
}

#[test]
fn as_many_wait_as_may_and_one_more_is_counted() {
    for more in [0, 1] {
        let mut it = Played::new(&[]);
        for number in 0..LISTS_MAX + more {
            it.hub.tell_list(changed(&format!("u{number}"), None));
        }
        assert_eq!(it.hub.presence_sizes().lists, LISTS_MAX);
        assert_eq!(it.hub.counters().lists_lost, more as u64);
    }
}

#[test]
fn what_is_not_answered_is_asked_again_for_a_while() {
    let mut it = Played::new(&[("$user-ann", 5)]);
    it.tells("ann", None);
    it.fail_all();
    assert!(it.open.is_empty());
    it.pass(NOTICE_AGAIN_MS - 1);
    assert!(it.open.is_empty());
    it.pass(1);
    // The list itself as well.
    while !matches!(it.open.first(), Some(BrokerCommand::Publish { .. })) {
        it.answer_open();
    }
    it.fail_all();
    it.pass(NOTICE_AGAIN_MS);
    assert_eq!(it.answer_all(), [told("ann", 5)]);
    assert!(it.are_idle());
    it.tells("ann", None);
    for _ in 0..NOTICE_MS / NOTICE_AGAIN_MS {
        assert_eq!(it.open.len(), 1);
        it.fail_all();
        it.pass(NOTICE_AGAIN_MS);
    }
    assert_eq!((it.open.len(), it.hub.counters().lists_lost), (1, 0));
    it.fail_all();
    assert_eq!((it.open.len(), it.hub.counters().lists_lost), (0, 1), "it is given up");
    assert!(it.are_idle());
}
