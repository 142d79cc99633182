//! Conversations in the hub: how many are under way, what is asked again, and how long somebody waits.
#![allow(clippy::wildcard_enum_match_arm, reason = "each test looks for one kind of many")]

mod held;

use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Act, Answered, Range, Saying, dialog, group};
use roomcast_protocol::directory::DirectoryPage;
use roomcast_protocol::envelope::{Accepted, BrokerCommand, BrokerEvent};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::position::{Epoch, Head, Page, Position};
use roomcast_protocol::receipts::{Mark, Marked, MarksSet, ReceiptsPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::Rules;
use crate::hub::talks::REACHED_UNDER_WAY_MAX;
use crate::hub::{Hub, HubConfig, TALK_ENDS_MS, TALK_MS, TALKS_MAX};
use crate::messages::{HubEffect, HubMessage, LaneMessage, Talk, TalkOf, Ticket};

/// A group's room, of a rule that keeps what is said.
fn crew() -> RoomName {
    RoomName::parse("talk-crew").unwrap()
}

/// A hub whose broker the test plays, and which cannot fail.
struct Played {
    hub: Hub,
    now: Now,
    out: Vec<HubEffect>,
    /// Those who are called so are groups; all others are told to be none at once.
    groups: Vec<&'static str>,
    /// How often that was asked.
    asked_of_groups: usize,
}

impl Played {
    fn new() -> Self {
        let config = HubConfig {
            linger_ms: 0,
            leave_grace_ms: 0,
            id: NodeId(1),
            node: "n".into(),
            seed: 0,
            lanes: 2,
            answer_bytes_max: 1 << 20,
            watched: false,
            occupancy: false,
            write_list: None,
        };
        let now = Now { mono_ms: 1_000, unix_ms: 1_700_000_000_000 };
        let (out, groups, asked_of_groups) = (Vec::new(), Vec::new(), 0);
        Self { hub: Hub::new(config, Arc::new(Rules)), now, out, groups, asked_of_groups }
    }

    fn asks(&mut self, session: u32, with: &str, act: Act) {
        self.asks_of(session, TalkOf::Room(dialog("ann", with).unwrap(), act));
    }

    fn asks_of(&mut self, session: u32, of: TalkOf) {
        let talk = Talk {
            lane: LaneId(1),
            session: SessionKey { index: session, generation: 1 },
            reply: ReplyTo { id: Some("r".into()), ..ReplyTo::default() },
            user: "ann".into(),
            said_in: SessionId(9),
            of,
        };
        self.hub.message(self.now, HubMessage::Converse(Box::new(talk)), &mut self.out);
        self.hub.tick(self.now, &mut self.out);
    }

    fn says(&mut self, session: u32, with: &str) {
        let content = Content::Json(r#"{"message":"hi"}"#.into());
        let saying = Saying { kind: "new".into(), id: Some("a".into()), content };
        self.asks(session, with, Act::Say(saying));
    }

    /// What was wanted since it was looked at: of the broker, which answers later, and of lanes.
    fn seen(&mut self) -> (Vec<BrokerCommand<Ticket>>, Vec<String>) {
        let (mut commands, mut told) = (Vec::new(), Vec::new());
        self.name();
        for effect in self.out.drain(..) {
            match effect {
                // The hub's own rooms.
                HubEffect::Broker(
                    BrokerCommand::Subscribe { .. } | BrokerCommand::Heads { .. },
                ) => {}
                HubEffect::Broker(command) => commands.push(command),
                HubEffect::Lane(_, LaneMessage::Conversed { session, outcome, .. }) => {
                    let outcome = match outcome.as_deref() {
                        Ok(Answered::Said { position, .. }) => format!("said {}", position.offset),
                        Ok(Answered::Marked { offset, .. }) => format!("marked {offset}"),
                        Ok(Answered::Messages(found)) => format!("Messages {}", found.len()),
                        Ok(other) => format!("{other:?}"),
                        Err(Refused { unknown: true, .. }) => "unknown".to_owned(),
                        Err(refused) => refused.refusal.row().name.to_owned(),
                    };
                    told.push(format!("{} {outcome}", session.index));
                }
                other => panic!("{other:?}"),
            }
        }
        (commands, told)
    }

    /// The same, and what was asked is still to be answered.
    fn seen_and_put_back(&mut self) -> (usize, Vec<String>) {
        let (commands, told) = self.seen();
        let count = commands.len();
        self.out.extend(commands.into_iter().map(HubEffect::Broker));
        (count, told)
    }

    /// Says who is a group, to whoever asks.
    fn name(&mut self) {
        let asked = |it: &mut HubEffect| {
            matches!(it, HubEffect::Broker(BrokerCommand::Directory { directory, .. })
                if directory.as_str().starts_with("$chat-"))
        };
        for effect in self.out.extract_if(.., asked).collect::<Vec<_>>() {
            let HubEffect::Broker(BrokerCommand::Directory { request, directory, .. }) = effect
            else {
                continue;
            };
            self.asked_of_groups += 1;
            let is_one = self.groups.iter().any(|it| directory.as_str() == format!("$chat-{it}"));
            let entries = if is_one { vec![("bob".into(), "member".into())] } else { Vec::new() };
            let page = Some(DirectoryPage { total: u32::from(is_one), entries, next: None });
            self.tell(BrokerEvent::Directory { request, page });
        }
    }

    fn tell(&mut self, event: BrokerEvent<Ticket>) {
        self.hub.broker_event(self.now, event, &mut self.out);
        self.hub.tick(self.now, &mut self.out);
    }

    /// Answers what can be answered without knowing more, as for the first message of a conversation.
    fn answer(&mut self, command: BrokerCommand<Ticket>) {
        let head = Position { epoch: Epoch(1), offset: 1 };
        self.tell(match command {
            BrokerCommand::Publish { ticket, .. } => {
                BrokerEvent::Published { ticket, outcome: Ok(Accepted::stored(head)) }
            }
            BrokerCommand::Receipts { request, .. } => {
                let (receipts, next) = (Vec::new(), None);
                let page = ReceiptsPage { head, version: 0, receipts, next };
                BrokerEvent::Receipts { request, page: Some(page) }
            }
            BrokerCommand::Read { request, .. } => {
                let head = Head { position: head, first: 1 };
                let page = Page { head, entries: Vec::new(), whole: true };
                BrokerEvent::Read { request, page: Some(page) }
            }
            BrokerCommand::Present { request, .. } => BrokerEvent::Present { request, since: None },
            BrokerCommand::SetMarks { request, .. } => {
                let marked = vec![Marked { offset: 1, at_unix_ms: 1 }];
                let outcome = Some(MarksSet::Done { head, marked });
                BrokerEvent::MarksSet { request, outcome }
            }
            other => panic!("{other:?}"),
        });
    }

    /// Answers all that is asked, until nothing is.
    fn answer_all(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..100 {
            let (commands, more) = self.seen();
            told.extend(more);
            if commands.is_empty() {
                break;
            }
            commands.into_iter().for_each(|command| self.answer(command));
        }
        told
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
        self.hub.tick(self.now, &mut self.out);
    }
}

fn names(commands: &[BrokerCommand<Ticket>]) -> Vec<String> {
    let shown = commands.iter().map(|command| match command {
        BrokerCommand::Publish { publication, .. } => publication.room.to_string(),
        BrokerCommand::Receipts { room, .. } | BrokerCommand::Read { room, .. } => {
            format!("? {room}")
        }
        other => format!("{other:?}"),
    });
    shown.collect()
}

#[test]
fn the_conversation_comes_first_then_the_inboxes_then_the_answer() {
    let mut it = Played::new();
    it.says(3, "talk");
    let (commands, told) = it.seen();
    assert!(told.is_empty());
    assert_eq!(names(&commands), ["dialog-ann:talk"]);
    commands.into_iter().for_each(|command| it.answer(command));
    let (commands, _) = it.seen();
    assert_eq!(names(&commands), ["? dialog-ann:talk"]);
    commands.into_iter().for_each(|command| it.answer(command));
    let (commands, _) = it.seen();
    assert_eq!(names(&commands), ["? dialog-ann:talk"]);
    commands.into_iter().for_each(|command| it.answer(command));
    let (mut commands, told) = it.seen();
    let all = ["user-ann", "$talks-ann", "user-talk", "$talks-talk"];
    assert_eq!(names(&commands), all);
    assert!(told.is_empty(), "nobody is answered before all stands");
    let last = commands.pop().unwrap();
    commands.into_iter().for_each(|command| it.answer(command));
    assert!(it.seen().1.is_empty());
    it.answer(last);
    assert_eq!(it.seen().1, ["3 said 1"]);
    assert!(it.hub.talks.are_idle());
    it.says(3, "talk");
    let listed = |name: &String| name.starts_with('$');
    let mut seen = Vec::new();
    for _ in 0..9 {
        let (commands, _) = it.seen();
        seen.extend(names(&commands));
        commands.into_iter().for_each(|command| it.answer(command));
    }
    assert!(!seen.iter().any(listed), "listed once, not again: {seen:?}");
}

#[test]
fn whoever_names_a_group_and_is_no_member_is_told_so() {
    let mut it = Played::new();
    it.groups = vec!["crew"];
    for act in [
        Act::Mark { mark: Mark::Read, up_to: None },
        Act::Messages { range: Range::Newest, count_max: 1 },
        Act::Show,
    ] {
        it.asks(3, "crew", act);
        let (commands, told) = it.seen();
        assert!(commands.is_empty(), "{commands:?}");
        assert_eq!(told, ["3 permission_denied"]);
    }
    it.says(3, "crew");
    assert_eq!(it.seen().1, ["3 permission_denied"]);
    assert!(it.hub.talks.are_idle());
}

#[test]
fn whether_somebody_is_a_group_is_asked_once_until_somebody_becomes_a_member() {
    let mut it = Played::new();
    for _ in 0..2 {
        it.says(3, "crew");
        assert_eq!(it.answer_all(), ["3 said 1"]);
        assert_eq!(it.asked_of_groups, 1);
    }
    it.hub.talks.is_a_group(Some("others"));
    it.says(3, "crew");
    assert_eq!((it.answer_all().len(), it.asked_of_groups), (1, 1));
    it.says(3, "crew");
    it.hub.talks.is_a_group(Some("crew"));
    it.groups = vec!["crew"];
    // What was asked before counts for that alone.
    assert_eq!(it.answer_all(), ["3 said 1"]);
    it.says(3, "crew");
    assert_eq!(it.answer_all(), ["3 permission_denied"]);
}

#[test]
fn what_was_not_answered_is_asked_again_until_nobody_waits_and_then_completed() {
    let mut it = Played::new();
    it.says(3, "talk");
    for _ in 0..3 {
        let (commands, _) = it.seen();
        commands.into_iter().for_each(|command| it.answer(command));
    }
    let lose = |it: &mut Played| {
        let (commands, told) = it.seen();
        let count = commands.len();
        for command in commands {
            let BrokerCommand::Publish { ticket, .. } = command else { panic!("{command:?}") };
            let refused = Refused { unknown: true, ..Refused::unavailable("away".into(), 1) };
            it.tell(BrokerEvent::Published { ticket, outcome: Err(refused) });
        }
        (count, told)
    };
    assert_eq!(lose(&mut it), (4, Vec::new()));
    it.pass(499);
    assert_eq!(it.seen().0.len(), 0);
    it.pass(1);
    assert_eq!(lose(&mut it), (4, Vec::new()));
    it.pass(TALK_MS - 501);
    lose(&mut it);
    it.pass(1);
    let (commands, told) = it.seen();
    assert_eq!(told, ["3 unknown"]);
    assert_eq!(commands.len(), 4, "it is completed all the same");
    commands.into_iter().for_each(|command| it.answer(command));
    assert!(it.seen().1.is_empty(), "and nobody told twice");
    assert!(it.hub.talks.are_idle());
}

#[test]
fn what_cannot_be_completed_is_given_up_in_the_end() {
    let mut it = Played::new();
    it.says(3, "talk");
    it.pass(TALK_MS);
    assert_eq!(
        it.seen().1,
        ["3 unknown"],
        "nothing stands for certain: it is asked again by who wants it"
    );
    assert_eq!(it.hub.counters().talks_given_up, 1);
    it.says(3, "talk");
    let (commands, _) = it.seen();
    commands.into_iter().for_each(|command| it.answer(command));
    it.pass(TALK_MS);
    assert_eq!(it.seen().1, ["3 unknown"]);
    it.pass(TALK_ENDS_MS - TALK_MS);
    assert_eq!(it.hub.counters().talks_given_up, 2);
    assert_eq!(it.hub.talks.len(), 0);
}

#[test]
fn as_many_are_under_way_as_may_be_and_one_more_is_refused() {
    let mut it = Played::new();
    for at in 0..=TALKS_MAX {
        it.says(u32::try_from(at).unwrap(), &format!("talk{at}"));
    }
    let (commands, told) = it.seen();
    assert_eq!(commands.len(), TALKS_MAX);
    assert_eq!(told, [format!("{TALKS_MAX} unavailable")]);
    assert_eq!(it.hub.counters().talks_refused, 1);
    commands.into_iter().take(1).for_each(|command| it.answer(command));
    assert_eq!(it.answer_all(), ["0 said 1"]);
    it.says(7, "talk");
    assert_eq!(it.seen().0.len(), 1, "there is a place again");
}

#[test]
fn a_mark_names_what_is_marked_and_an_empty_conversation_has_nothing() {
    let mut it = Played::new();
    it.asks(3, "talk", Act::Mark { mark: Mark::Read, up_to: Some(4) });
    let (commands, _) = it.seen();
    commands.into_iter().for_each(|command| it.answer(command));
    let (commands, _) = it.seen();
    let [BrokerCommand::Read { request, .. }] = commands[..] else { panic!("{commands:?}") };
    let head = Head { position: Position { epoch: Epoch(1), offset: 0 }, first: 1 };
    let page = Some(Page { head, entries: Vec::new(), whole: true });
    it.tell(BrokerEvent::Read { request, page });
    assert_eq!(it.seen().1, ["3 marked 0"]);
}

#[test]
fn what_was_asked_by_who_went_out_of_a_group_meanwhile_is_not_shown() {
    let act = || Act::Messages { range: Range::Newest, count_max: 9 };
    for (room, user, told) in [
        (crew(), "ann", "3 unavailable"),
        (crew(), "bob", "3 Messages"),
        (group("others").unwrap(), "ann", "3 Messages"),
    ] {
        let mut it = Played::new();
        it.asks_of(3, TalkOf::Group(crew(), 1, act()));
        it.hub.talks.bar(&room, user);
        let all = it.answer_all();
        assert!(all.len() == 1 && all[0].starts_with(told), "{room} {user}: {all:?}");
    }
}

#[test]
fn marks_of_one_user_are_carried_out_one_after_the_other() {
    let mut it = Played::new();
    let read = |offset| Act::Mark { mark: Mark::Read, up_to: Some(offset) };
    it.asks(3, "talk", read(4));
    it.asks(3, "talk", read(2));
    it.asks(4, "other", read(2));
    let (mut commands, _) = it.seen();
    assert_eq!(names(&commands), ["? dialog-ann:talk", "? dialog-ann:other"]);
    let mut all = Vec::new();
    // Nothing stands there: the first is over.
    let empty = Head { position: Position { epoch: Epoch(1), offset: 0 }, first: 1 };
    for _ in 0..2 {
        for command in std::mem::take(&mut commands) {
            match command {
                BrokerCommand::Read { request, .. } => {
                    let page = Page { head: empty, entries: Vec::new(), whole: true };
                    it.tell(BrokerEvent::Read { request, page: Some(page) });
                }
                command => it.answer(command),
            }
        }
        let (more, told) = it.seen();
        commands = more;
        all.extend(told);
    }
    assert_eq!(all, ["3 marked 0", "4 marked 0"]);
    assert_eq!(names(&commands), ["? dialog-ann:talk"], "the second one");
    it.pass(TALK_MS);
    assert_eq!(it.seen().1, ["3 unknown"]);
    assert_eq!(it.hub.talks.len(), 0);
}

#[test]
fn what_reached_users_is_marked_once_at_a_time_and_so_many_at_once() {
    let mut it = Played::new();
    let reach = |it: &mut Played, with: &str, offset| {
        let at = Position { epoch: Epoch(1), offset };
        let room = dialog("ann", with).unwrap();
        let message = HubMessage::Reached { room, user: "ann".into(), at };
        it.hub.message(it.now, message, &mut it.out);
    };
    for at in 0..=REACHED_UNDER_WAY_MAX {
        reach(&mut it, &format!("talk{at}"), 1);
    }
    reach(&mut it, "talk0", 2);
    assert_eq!(it.seen().0.len(), REACHED_UNDER_WAY_MAX);
    assert_eq!(it.hub.talks.reached.len(), 2, "one too many, and one of a conversation under way");
}

#[test]
fn what_reached_a_user_while_the_broker_did_not_answer_is_marked_later() {
    let mut it = Played::new();
    let at = Position { epoch: Epoch(1), offset: 1 };
    let room = dialog("ann", "talk").unwrap();
    let message = HubMessage::Reached { room, user: "ann".into(), at };
    it.hub.message(it.now, message, &mut it.out);
    assert_eq!(names(&it.seen().0), ["? dialog-ann:talk"]);
    it.pass(TALK_MS);
    let (again, _) = it.seen();
    assert_eq!(names(&again), ["? dialog-ann:talk"], "no other message may come to mark it");
    again.into_iter().for_each(|command| it.answer(command));
    let (commands, _) = it.seen();
    assert_eq!(names(&commands), ["? dialog-ann:talk"]);
}

#[test]
fn what_was_counted_is_not_remembered_where_it_could_not_be_written() {
    let mut it = Played::new();
    it.says(3, "talk");
    for _ in 0..3 {
        let (commands, _) = it.seen();
        commands.into_iter().for_each(|command| it.answer(command));
    }
    it.pass(TALK_MS);
    it.pass(TALK_ENDS_MS);
    assert_eq!(it.hub.talks.len(), 0);
    assert!(it.hub.talks.counted.is_empty(), "its speaker may have to be marked yet");
    it.says(3, "talk");
    it.seen().0.into_iter().for_each(|command| it.answer(command));
    it.answer_all();
    assert_eq!(it.hub.talks.counted.len(), 1);
}
