//! Who is online: whom the hub tells when users come and go, what it does when nobody answers, and what is true of a page.
#![allow(clippy::wildcard_enum_match_arm, reason = "each test looks for one kind of many")]

use std::collections::BTreeMap;
use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::dialog;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId};
use roomcast_protocol::lists::{LIST, List};
use roomcast_protocol::people::Status;
use roomcast_protocol::position::{Epoch, Head, Kept, Page, Position, Span};
use roomcast_protocol::presence::{AGENTS, PresenceChange, PresenceDiff, PresenceSet, SetPresence};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{Rules, room};
use crate::hub::people::NOTICES_BEFORE_MAX;
use crate::hub::{
    CONTACTS_MAX, Hub, HubConfig, NOTICE_AGAIN_MS, NOTICE_MS, PEOPLE_MAX, PEOPLE_UNDER_WAY_MAX,
    STEP_MS,
};
use crate::messages::{HubEffect, HubMessage, LaneMessage, Person, Ticket};
use crate::reader::Reader;

const GRACE_MS: u64 = 5_000;

fn at(offset: u64) -> Position {
    Position { epoch: Epoch(1), offset }
}

/// A hub whose broker the test plays.
struct Played {
    hub: Hub,
    now: Now,
    /// With whom each user has a dialog.
    contacts: BTreeMap<&'static str, Vec<String>>,
    /// Since which version users of the agents' room are there.
    there: BTreeMap<&'static str, u64>,
    /// Whatever was wanted and not answered.
    open: Vec<BrokerCommand<Ticket>>,
    told: Vec<String>,
    pages: Vec<Page>,
}

impl Played {
    fn new() -> Self {
        let config = HubConfig {
            linger_ms: 0,
            leave_grace_ms: GRACE_MS,
            id: NodeId(1),
            node: "n".into(),
            seed: 0,
            lanes: 2,
            answer_bytes_max: 1 << 20,
            watched: false,
            occupancy: false,
            write_list: None,
        };
        Self {
            hub: Hub::new(config, Arc::new(Rules)),
            now: Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 },
            contacts: BTreeMap::new(),
            there: BTreeMap::new(),
            open: Vec::new(),
            told: Vec::new(),
            pages: Vec::new(),
        }
    }

    fn take(&mut self, out: Vec<HubEffect>) {
        for effect in out {
            match effect {
                HubEffect::Broker(
                    BrokerCommand::Subscribe { .. }
                    | BrokerCommand::Heads { .. }
                    | BrokerCommand::Beat { .. },
                ) => {}
                HubEffect::Broker(command) => self.open.push(command),
                HubEffect::Lane(_, LaneMessage::Page { page, .. }) => self.pages.extend(page),
                other => panic!("{other:?}"),
            }
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Hub, Now, &mut Vec<HubEffect>)) {
        let out = super::acted(&mut self.hub, self.now, act);
        self.take(out);
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        self.act(|_, _, _| {});
    }

    /// This node is given a version to tell: `+ann -bob`.
    fn given(&mut self, version: u64, changes: &str) {
        let named = |way| {
            let all = changes.split_whitespace().filter_map(move |it| it.strip_prefix(way));
            all.map(|user| format!("$user-{user}").into()).collect()
        };
        let (joined, left) = (named('+'), named('-'));
        let room = RoomName::system(AGENTS).unwrap();
        let diff = PresenceDiff { room, version: at(version), count: 1, joined, left };
        self.act(|hub, now, _| hub.tell_of_agents(now, &diff));
    }

    fn page(&self, room: &RoomName, from: u64) -> Page {
        let user = room.as_str().strip_prefix("$talks-").unwrap_or("");
        let rooms = self.contacts.get(user).into_iter().flatten();
        let rooms = rooms.map(|with| dialog(user, with).unwrap());
        let one = |(place, name): (usize, RoomName)| {
            let content = Content::Text(name.as_str().to_owned().into());
            let position = Some(at(place as u64 + 1));
            let entry = Publication { position, ..Publication::bare(room.clone(), content) };
            Kept::Publication(Arc::new(entry))
        };
        let all: Vec<_> = rooms.enumerate().map(one).skip(usize::try_from(from).unwrap()).collect();
        let (count, head) = (all.len().min(400), from + all.len() as u64);
        let (whole, head) = (count == all.len(), Head { position: at(head), first: 1 });
        Page { head, entries: all.into_iter().take(count).collect(), whole }
    }

    fn answer(&mut self, command: BrokerCommand<Ticket>) {
        let event = match command {
            BrokerCommand::Read { request, room, span: Span { from, .. }, .. } => {
                BrokerEvent::Read { request, page: Some(self.page(&room, from)) }
            }
            BrokerCommand::Present { request, users, .. } => {
                let since = users.iter().map(|user| self.there.get(&**user).copied());
                BrokerEvent::Present { request, since: Some(since.collect()) }
            }
            BrokerCommand::Publish { ticket, publication, keep, collapse, dedup } => {
                self.told.push(shown(&publication, collapse.as_deref()));
                assert!(
                    dedup && (keep.is_some() || publication.room.as_str().starts_with("user-"))
                );
                BrokerEvent::Published { ticket, outcome: Ok(Accepted::stored(at(1))) }
            }
            other => panic!("{other:?}"),
        };
        self.act(|hub, now, out| hub.broker_event(now, event, out));
    }

    /// Answers all that is asked, until nothing is. Says what was published.
    fn answer_all(&mut self) -> Vec<String> {
        while !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            open.into_iter().for_each(|command| self.answer(command));
        }
        std::mem::take(&mut self.told)
    }

    /// Nothing that is asked is answered.
    fn fail_all(&mut self) {
        for command in std::mem::take(&mut self.open) {
            let event = match command {
                BrokerCommand::Read { request, .. } => BrokerEvent::Read { request, page: None },
                BrokerCommand::Present { request, .. } => {
                    BrokerEvent::Present { request, since: None }
                }
                other => panic!("{other:?}"),
            };
            self.act(|hub, now, out| hub.broker_event(now, event, out));
        }
    }

    /// Up to where all was told since it was looked at.
    fn told_up_to(&mut self) -> Option<u64> {
        self.hub.notices.take_told().map(|at| at.offset)
    }

    fn friends(&mut self, pairs: &[(&'static str, &'static str)]) {
        for (one, other) in pairs {
            self.contacts.entry(one).or_default().push((*other).to_owned());
            self.contacts.entry(other).or_default().push((*one).to_owned());
        }
    }
}

fn shown(publication: &Publication, collapse: Option<&str>) -> String {
    let Publication { room, id, kind, content, requires_ack, .. } = publication;
    let status = Status::of(publication).unwrap();
    let (user, version) = (status.user, status.version.offset);
    let beside =
        if status.online { String::new() } else { format!(",\"lastSeen\":{}", status.at_unix_ms) };
    let data = format!("{{\"userId\":\"{user}\"{beside}}}");
    assert_eq!(*content, Content::Json(data.into()));
    assert!(id.starts_with(&format!("{kind}-{}-{version}-", Epoch(1))), "{id}");
    assert!(*requires_ack && *publication.sender == *user);
    if room.as_str().starts_with("user-") {
        assert_eq!(collapse, Some(&*format!("online-status:{user}")));
    }
    format!("{room}: {kind} {user} {version}")
}

#[test]
fn who_comes_is_told_to_those_that_were_there_and_told_of_them() {
    let mut played = Played::new();
    played.friends(&[
        ("ann", "bob"),
        ("ann", "cid"),
        ("ann", "dan"),
        ("ann", "eve"),
        ("ann", "ann"),
    ]);
    // Bob is there, cid came later and tells it by itself, nobody looks at dan's client, eve is away.
    played.there = [("$user-ann", 5), ("$user-bob", 2), ("$user-cid", 6), ("$away-dan", 3)].into();
    played.given(5, "+ann");
    assert_eq!(
        played.answer_all(),
        ["user-bob: online ann 5", "user-ann: online bob 5", "user-dan: online ann 5"]
    );
    assert_eq!(played.told_up_to(), Some(5));
    // The later one's turn tells both.
    played.given(6, "+cid");
    assert_eq!(played.answer_all(), ["user-ann: online cid 6", "user-cid: online ann 6"]);
    assert_eq!(played.told_up_to(), Some(6));
    assert!(played.hub.people.are_idle() && played.hub.notices.is_empty());
}

#[test]
fn two_who_come_at_once_tell_each_other_once() {
    let mut played = Played::new();
    played.friends(&[("ann", "bob")]);
    played.there = [("$user-ann", 5), ("$user-bob", 5)].into();
    played.given(5, "+ann +bob");
    assert_eq!(played.answer_all(), ["user-bob: online ann 5", "user-ann: online bob 5"]);
}

#[test]
fn who_goes_is_told_to_those_who_listen_and_when_that_was_is_kept() {
    let mut played = Played::new();
    played.friends(&[("ann", "bob"), ("ann", "cid"), ("ann", "dan"), ("ann", "eve")]);
    played.there = [("$user-bob", 2), ("$user-cid", 8), ("$away-dan", 9), ("$away-cid", 3)].into();
    played.given(7, "-ann");
    // Dan's first connection came later: what it asks for shows that ann is away. Cid heard of her by its other one.
    assert_eq!(
        played.answer_all(),
        ["$seen-ann: offline ann 7", "user-bob: offline ann 7", "user-cid: offline ann 7"]
    );
    assert_eq!(played.told_up_to(), Some(7));
}

#[test]
fn who_is_gone_again_before_it_was_told_is_told_in_order_and_told_of_nobody() {
    let mut played = Played::new();
    played.friends(&[("ann", "bob")]);
    played.there = [("$user-bob", 2)].into();
    played.given(5, "+ann");
    played.given(6, "-ann");
    // What is asked for the later one is answered first.
    for _ in 0..2 {
        let mut open = std::mem::take(&mut played.open);
        open.reverse();
        open.into_iter().for_each(|command| played.answer(command));
    }
    assert_eq!(played.told_up_to(), None);
    assert_eq!(
        played.answer_all(),
        ["user-bob: online ann 5", "$seen-ann: offline ann 6", "user-bob: offline ann 6"]
    );
    assert_eq!(played.told_up_to(), Some(6));
}

#[test]
fn what_is_given_once_more_while_it_is_told_is_told_once() {
    let mut played = Played::new();
    played.friends(&[("ann", "bob")]);
    played.there = [("$user-ann", 5), ("$user-bob", 2)].into();
    played.given(5, "+ann");
    played.given(5, "+ann");
    assert_eq!(played.answer_all().len(), 2);
}

#[test]
fn a_broker_that_does_not_answer_is_asked_again_until_it_is_too_late() {
    let mut played = Played::new();
    played.friends(&[("ann", "bob")]);
    played.there = [("$user-bob", 2)].into();
    played.given(5, "-ann");
    played.fail_all();
    assert_eq!(played.hub.next_wake(), Some(played.now.mono_ms + NOTICE_AGAIN_MS));
    played.pass(NOTICE_AGAIN_MS - 1);
    assert!(played.open.is_empty());
    played.pass(1);
    let read = played.open.pop().unwrap();
    played.answer(read);
    played.fail_all();
    played.pass(NOTICE_AGAIN_MS);
    assert_eq!(played.answer_all().len(), 2, "the third time it is answered");
    played.given(6, "-ann");
    let until_ms = played.now.mono_ms + NOTICE_MS;
    while played.now.mono_ms < until_ms {
        assert_eq!(played.told_up_to().filter(|at| *at == 6), None);
        played.fail_all();
        played.pass(NOTICE_AGAIN_MS);
    }
    assert_eq!(played.hub.counters().people_lost, 1);
    assert_eq!(played.answer_all(), ["$seen-ann: offline ann 6"], "that needs nobody's answer");
    assert_eq!(played.told_up_to(), Some(6));
    assert!(played.hub.people.are_idle());
}

#[test]
fn so_many_turns_wait_and_are_asked_for_at_once() {
    for more in [0, 1] {
        let mut played = Played::new();
        let users: String = (0..PEOPLE_MAX + more).map(|it| format!("+u{it} ")).collect();
        played.given(1, &users);
        assert_eq!(played.hub.presence_sizes().people, PEOPLE_MAX);
        assert_eq!(played.hub.counters().people_lost, more as u64);
        assert_eq!(played.open.len(), PEOPLE_UNDER_WAY_MAX);
        assert_eq!(played.told_up_to(), None);
        assert_eq!(played.answer_all(), [""; 0]);
        assert_eq!(played.told_up_to(), Some(1));
    }
}

#[test]
fn so_many_contacts_are_told() {
    for count in [CONTACTS_MAX, CONTACTS_MAX + 1] {
        let mut played = Played::new();
        played.contacts.insert("ann", (0..count).map(|it| format!("c{it}")).collect());
        let names: Vec<_> = (0..count).map(|it| &*format!("$user-c{it}").leak()).collect();
        played.there = names.into_iter().map(|name: &'static str| (name, 1)).collect();
        played.there.insert("$user-ann", 9);
        played.given(9, "+ann");
        assert_eq!(played.answer_all().len(), 2 * CONTACTS_MAX);
    }
}

#[test]
fn no_more_notices_are_made_than_there_is_place_for() {
    let mut played = Played::new();
    let names: Vec<&'static str> =
        (0..CONTACTS_MAX).map(|it| &*format!("$user-c{it}").leak()).collect();
    played.there = names.into_iter().map(|name| (name, 1)).collect();
    let users: Vec<&'static str> = (0..12).map(|it| &*format!("u{it}").leak()).collect();
    for user in &users {
        played.contacts.insert(user, (0..CONTACTS_MAX).map(|it| format!("c{it}")).collect());
        played.there.insert(format!("$user-{user}").leak(), 9);
    }
    let joined: String = users.iter().map(|user| format!("+{user} ")).collect();
    played.given(9, &joined);
    // Nothing that is published is accepted for a while.
    let mut held = Vec::new();
    while let Some(command) = played.open.pop() {
        match command {
            BrokerCommand::Publish { .. } => held.push(command),
            question => played.answer(question),
        }
    }
    let whole = NOTICES_BEFORE_MAX / (2 * CONTACTS_MAX) + 1;
    assert_eq!(played.hub.notices.len(), whole * 2 * CONTACTS_MAX);
    assert_eq!(played.hub.presence_sizes().people, users.len() - whole);
    played.open = held;
    assert_eq!(played.answer_all().len(), users.len() * 2 * CONTACTS_MAX);
    assert_eq!(played.hub.counters().notices_lost, 0);
    assert_eq!(played.told_up_to(), Some(9));
}

fn change(session: u128, present: bool) -> PresenceChange {
    PresenceChange { session: SessionId(session), user: "ann".into(), generation: 1, present }
}

/// Steps that left since it was looked at, each answered.
fn steps(played: &mut Played) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some(command) = played.open.pop() {
        let BrokerCommand::SetPresence { request, set } = command else { panic!("{command:?}") };
        let SetPresence { room, changes, grace_ms, .. } = *set;
        let one = |it: &PresenceChange| {
            format!(" {}{}/{}", if it.present { '+' } else { '-' }, { it.session.0 }, it.user)
        };
        let changes: String = changes.iter().map(one).collect();
        steps.push(format!("{room} grace {grace_ms}{changes}"));
        let outcome = Some(PresenceSet::Done(None));
        let event = BrokerEvent::PresenceSet { request, outcome };
        played.act(|hub, now, out| hub.broker_event(now, event, out));
    }
    steps
}

#[test]
fn whoever_says_that_nobody_looks_is_away_at_once_and_whoever_goes_after_the_grace() {
    let mut played = Played::new();
    let says = |played: &mut Played, session, present, away| {
        let message = HubMessage::Person(Person { change: change(session, present), away });
        played.act(|hub, now, out| hub.message(now, message, out));
    };
    says(&mut played, 4, true, false);
    assert_eq!(steps(&mut played), ["$agents grace 5000 +5/$user-ann"]);
    assert_eq!((played.hub.people(), played.hub.agents()), (1, 0));
    // In one step there is one grace.
    says(&mut played, 4, true, true);
    says(&mut played, 8, true, false);
    played.pass(STEP_MS);
    assert_eq!(steps(&mut played), ["$agents grace 0 +5/$away-ann"]);
    played.pass(STEP_MS);
    assert_eq!(steps(&mut played), ["$agents grace 5000 +9/$user-ann"]);
    says(&mut played, 4, true, false);
    says(&mut played, 8, false, false);
    played.pass(STEP_MS);
    assert_eq!(steps(&mut played), ["$agents grace 5000 +5/$user-ann -9/$user-ann"]);
    says(&mut played, 4, false, false);
    played.pass(STEP_MS);
    assert_eq!(steps(&mut played), ["$agents grace 5000 -5/$user-ann"]);
    assert_eq!(played.hub.people(), 0);
}

/// `online bob 5`, as it stands in ann's inbox.
fn kept(offset: u64, user: &str, online: bool, version: u64) -> Kept {
    let inbox = room("user-ann");
    let told = crate::hub::people::status(inbox, (user, online), at(version), 1_700_000_000_000);
    Kept::Publication(Arc::new(Publication { position: Some(at(offset)), ..told }))
}

/// A list of conversations, told while ann had been there since that version.
fn list(offset: u64, since: u64) -> Kept {
    let content = Content::Json("[]".into());
    let it = Publication::bare(room("user-ann"), content);
    let origin = List { since }.origin(it.room.clone(), 1);
    let (position, origin) = (Some(at(offset)), Some(Box::new(origin)));
    Kept::Publication(Arc::new(Publication { position, kind: LIST.into(), origin, ..it }))
}

#[test]
fn a_list_is_given_again_while_its_user_was_there_all_the_time() {
    let entries = || vec![list(1, 4), list(2, 6)];
    for (there, expected) in [
        ([("$user-ann", 6), ("$away-bob", 1)], vec![2]),
        ([("$user-ann", 4), ("$away-ann", 9)], vec![1, 2]),
        // Whether somebody looks is no matter.
        ([("$away-ann", 5), ("$user-bob", 1)], vec![2]),
        ([("$user-ann", 7), ("$away-ann", 8)], vec![]),
        ([("$user-bob", 1), ("$away-bob", 1)], vec![]),
    ] {
        assert_eq!(given(&there, entries(), false), Some(expected), "{there:?}");
    }
}

/// What of it a lane is given.
fn given(there: &[(&'static str, u64)], entries: Vec<Kept>, fails: bool) -> Option<Vec<u64>> {
    let mut played = Played::new();
    played.there = there.iter().copied().collect();
    let message = HubMessage::Read {
        reader: Reader::Lane { lane: LaneId(0), query: 7 },
        room: room("user-ann"),
        span: Span::above(0),
    };
    played.act(|hub, now, out| hub.message(now, message, out));
    let Some(BrokerCommand::Read { request, .. }) = played.open.pop() else {
        assert_eq!(fails, !there.is_empty(), "the room keeps nothing");
        return None;
    };
    let head = Head { position: at(entries.len() as u64), first: 1 };
    let count = entries.len();
    let page = Some(Page { head, entries, whole: true });
    played.act(|hub, now, out| hub.broker_event(now, BrokerEvent::Read { request, page }, out));
    if fails {
        played.fail_all();
    } else {
        played.answer_all();
    }
    assert!(played.hub.people.are_idle() && played.hub.asks.are_idle());
    let page = played.pages.pop()?;
    assert_eq!(page.entries.len(), count, "each has its offset");
    let is_given = |kept: &&Kept| matches!(kept, Kept::Publication(_));
    let given = page.entries.iter().filter(is_given).filter_map(Kept::position);
    let given: Vec<_> = given.map(|it| it.offset).collect();
    assert_eq!(played.hub.counters().statuses_dropped, (count - given.len()) as u64);
    Some(given)
}

#[test]
fn what_tells_who_is_online_is_given_again_only_while_it_is_true() {
    let plain = || {
        let content = Content::Text("hi".into());
        let it = Publication::bare(room("user-ann"), content);
        Kept::Publication(Arc::new(Publication { position: Some(at(1)), ..it }))
    };
    let entries = || {
        vec![
            plain(),
            kept(2, "bob", true, 5),
            kept(3, "cid", true, 6),
            kept(4, "dan", false, 7),
            kept(5, "eve", false, 8),
        ]
    };
    // Bob came before ann and cid after her; dan is away, eve is back.
    let there = [("$user-ann", 5), ("$user-bob", 2), ("$user-cid", 6), ("$user-eve", 9)];
    assert_eq!(given(&there, entries(), false), Some(vec![1, 2, 3, 4]));
    // Ann came anew since, and is told of those who are there anew; cid has come anew himself.
    let there = [("$user-ann", 10), ("$user-bob", 2), ("$user-cid", 11)];
    assert_eq!(given(&there, entries(), false), Some(vec![1, 4, 5]));
    // She is not entered yet.
    let there = [("$user-bob", 2), ("$user-cid", 6)];
    assert_eq!(given(&there, entries(), false), Some(vec![1, 4, 5]));
    // Nobody knows: the lane asks again.
    assert_eq!(given(&there, entries(), true), None);
    assert_eq!(given(&[], vec![plain()], false), Some(vec![1]), "nothing is asked for that");
}
