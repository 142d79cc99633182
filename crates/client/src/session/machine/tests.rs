//! The machine by scripts: what happens, and what it wants done. Time stands still but for `at`, which ticks.
//!
//! ```text
//! at 1500              the clock moves, and what is due is done
//! up 1                 connection 1 brings a plain welcome; `up 1 <json>` one with these fields
//! hear 1 <json>        it brings a message
//! closed 1 4200        it ends with this code
//! failed 1             it does not come about; `failed 1 503 7`: HTTP 503, Retry-After 7
//! join 9 news          the application asks, and waits as 9
//! ```
//! Effects are one line each. Jitter is at its bound's half in expectations that name no time.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Machine;
use crate::driver::LinkId;
use crate::error::{Closed, Error};
use crate::event::Position;
use crate::options::{Format, PublishOptions};
use crate::session::effect::{Effect, Out, Reply, Waiter};
use crate::session::event::{RoomState, SessionEvent, SessionState};
use crate::session::options::SessionOptions;
use crate::session::outbox::Parcel;
use crate::wire::{self, Incoming, Outgoing};

struct Script {
    machine: Machine,
    now_ms: u64,
    reading: bool,
}

impl Script {
    fn new(options: SessionOptions) -> Self {
        Self { machine: Machine::new(options, 7), now_ms: 0, reading: true }
    }

    fn step(&mut self, line: &str) -> Vec<Effect> {
        let mut out = Out::new(Format::Json);
        let (machine, now_ms) = (&mut self.machine, self.now_ms);
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        let link = |index: usize| LinkId(number(index));
        let rest = |count: usize| line.splitn(count + 1, ' ').nth(count).unwrap_or("{}");
        match words[0] {
            "start" => machine.start(now_ms, &mut out),
            "at" => {
                self.now_ms = number(1);
                machine.tick(self.now_ms, self.reading, &mut out);
            }
            "up" => {
                let mut welcome = json!({"type": "welcome", "user_id": "u", "permissions": [],
                    "session_id": "s1", "resume_token": "s1.a", "resume_window_s": 120});
                let more: Value = serde_json::from_str(rest(2)).unwrap();
                welcome.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                machine.heard(now_ms, link(1), incoming(&welcome.to_string()), &mut out);
            }
            "hear" => machine.heard(now_ms, link(1), incoming(rest(2)), &mut out),
            "closed" => {
                let code = words[2].parse().unwrap();
                let closed = Closed { code, reason: "why".into() };
                machine.closed(now_ms, link(1), closed, &mut out);
            }
            "failed" => {
                let error = match words.get(2) {
                    None => Error::Timeout { what: "connect", after: Duration::from_secs(10) },
                    Some(status) => Error::Upgrade {
                        status: status.parse().unwrap(),
                        body: "why".into(),
                        retry_after: words.get(3).map(|_| Duration::from_secs(number(3))),
                    },
                };
                machine.failed(now_ms, link(1), &error, &mut out);
            }
            "join" => {
                let since = words.get(3).map(|at| position(at));
                machine.join(now_ms, (words[2].into(), since), Waiter(number(1)), &mut out);
            }
            "leave" => machine.leave(now_ms, words[2].into(), Waiter(number(1)), &mut out),
            "publish" | "post" | "send" => {
                let (id, data) = (words[2], json!(1));
                let options = PublishOptions { ack: words[0] != "send", ..Default::default() };
                let message = Outgoing::publication(id, "news", "note", &data, &options);
                let bytes = wire::encode(Format::Json, &message).unwrap();
                let waiter = (words[0] != "post").then(|| Waiter(number(1)));
                let (id, room) = (id.to_owned(), "news".to_owned());
                let parcel = Parcel { id, room, bytes, ack: options.ack, waiter };
                machine.publish(now_ms, parcel, &mut out);
            }
            "reads" => {
                let at = Position { epoch: "e".into(), offset: number(3) };
                let data = crate::receipts::mark_request(words[2], "read", &at);
                machine.receipt(now_ms, data, Waiter(number(1)), &mut out);
            }
            "presence" => {
                let data = json!({"room": words[2]});
                machine.presence(now_ms, data, Waiter(number(1)), &mut out);
            }
            "refresh" => {
                machine.refresh(now_ms, words[2].into(), Some(Waiter(number(1))), &mut out);
            }
            "ready" => machine.ready(Waiter(number(1)), &mut out),
            "token" => {
                let token = match words[1] {
                    "none" => Err("signed out".to_owned()),
                    token => Ok(token.to_owned()),
                };
                machine.token(now_ms, token, &mut out);
            }
            "got" => machine.got(words[1], words[2], words[3], &mut out),
            "close" => machine.close(&mut out),
            other => panic!("no such step: {other}"),
        }
        out.effects
    }

    /// Runs lines, and compares what the last of them wants.
    #[track_caller]
    fn check(&mut self, lines: &str, expected: &str) {
        let mut shown = String::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            shown.clear();
            for effect in self.step(line) {
                show(&effect, &mut shown);
            }
        }
        let expected: String = expected.lines().map(str::trim).filter(|it| !it.is_empty()).fold(
            String::new(),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        );
        assert_eq!(shown, expected, "after {lines}");
    }

    /// Runs lines for what they leave.
    fn run(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            drop(self.step(line));
        }
    }

    fn room(&self, name: &str) -> Option<RoomState> {
        self.machine.rooms.statuses().into_iter().find(|it| it.room == name).map(|it| it.state)
    }

    fn covered(&self, name: &str) -> Option<u64> {
        let rooms = self.machine.rooms.statuses();
        rooms.into_iter().find(|it| it.room == name)?.covered.map(|it| it.offset)
    }
}

fn incoming(text: &str) -> Incoming {
    wire::decode(Format::Json, text.as_bytes()).unwrap()
}

/// `e:5`.
fn position(text: &str) -> Position {
    let (epoch, offset) = text.split_once(':').unwrap();
    Position { epoch: epoch.into(), offset: offset.parse().unwrap() }
}

fn at(position: Option<&Position>) -> String {
    position.map_or("-".into(), |it| format!("{}:{}", it.epoch, it.offset))
}

fn show(effect: &Effect, out: &mut String) {
    match effect {
        Effect::Connect { link: LinkId(link), token, continuation } => {
            write!(out, "connect {link} token={}", token.as_deref().unwrap_or("-")).unwrap();
            if let Some(resume) = &continuation.resume_token {
                write!(out, " resume={resume}").unwrap();
            }
            for (room, covered) in &continuation.covered {
                write!(out, " {room}@{}", at(Some(covered))).unwrap();
            }
            out.push_str(if continuation.hands_over { "" } else { " stays" });
        }
        Effect::Send { link: LinkId(link), bytes } => {
            let mut message: Value = serde_json::from_slice(bytes).unwrap();
            let message = message.as_object_mut().unwrap();
            let take = |message: &mut serde_json::Map<String, Value>, key: &str| {
                message.remove(key).map_or("-".into(), |it| it.to_string().replace('"', ""))
            };
            let kind = take(message, "type");
            write!(out, "send {link} {kind}").unwrap();
            match kind.as_str() {
                "ping" => {}
                "ack" => {
                    write!(out, " {}", take(message, "ackId")).unwrap();
                    write!(out, " of {}", take(message, "room")).unwrap();
                }
                "auth" => write!(out, " {}", take(message, "token")).unwrap(),
                "note" => write!(out, " {}", take(message, "id")).unwrap(),
                _ => {
                    let id = take(message, "id");
                    write!(out, " {id} {}", take(message, "data")).unwrap();
                }
            }
        }
        Effect::Close(LinkId(link)) => write!(out, "close {link}").unwrap(),
        Effect::Drop(LinkId(link)) => write!(out, "drop {link}").unwrap(),
        Effect::GetToken => out.push_str("get token"),
        Effect::Answer(Waiter(waiter), answer) => {
            write!(out, "answer {waiter} ").unwrap();
            match answer {
                Ok(Reply::Ready(welcome)) => write!(out, "ready {}", welcome.user_id).unwrap(),
                Ok(Reply::Joined(it)) => {
                    write!(out, "joined {} at {}", it.room, at(it.position.as_ref())).unwrap();
                    match &it.recovered {
                        None => {}
                        Some(Ok(())) => out.push_str(" recovered"),
                        Some(Err(why)) => write!(out, " lost {why}").unwrap(),
                    }
                    out.push_str(if it.live { "" } else { " not live" });
                }
                Ok(Reply::Done) => out.push_str("done"),
                Ok(Reply::Published(it)) => {
                    let level = it.ack.as_ref().map_or("-", |ack| ack.level.as_str());
                    write!(out, "published {} {level}", it.id).unwrap();
                }
                Ok(Reply::Roster(page)) => write!(out, "roster {}", page.count).unwrap(),
                Ok(Reply::Marked(it)) => {
                    let marked = it.read.as_ref().map_or(0, |marked| marked.offset);
                    write!(out, "marked {marked}").unwrap();
                }
                Ok(Reply::Receipts(page)) => {
                    write!(out, "receipts {}", page.receipts.len()).unwrap();
                }
                Ok(Reply::Rooms(rooms)) => write!(out, "rooms {}", rooms.len()).unwrap(),
                Err(error) => write!(out, "error {}", error.name()).unwrap(),
            }
        }
        Effect::Tell(event) => tell(event, out),
    }
    out.push('\n');
}

fn tell(event: &SessionEvent, out: &mut String) {
    match event {
        SessionEvent::Publication(it) => {
            write!(out, "tell {} {} {}", it.room, it.id, at(it.metadata.position().as_ref()))
        }
        SessionEvent::Skip { room, to, count, reasons } => {
            write!(out, "skip {room} {count} to {} {reasons:?}", at(Some(to)))
        }
        SessionEvent::Gap { room, reason, position } => {
            let room = room.as_deref().unwrap_or("-");
            write!(out, "gap {room} {reason} at {}", at(position.as_ref()))
        }
        SessionEvent::Lost { room, count } => write!(out, "lost {room} {count}"),
        SessionEvent::Presence(it) => {
            write!(out, "presence {} {} {:?} {:?}", it.room, it.count, it.joined, it.left)
        }
        SessionEvent::Receipts(it) => write!(out, "receipts {} {}", it.room, it.receipts.len()),
        SessionEvent::Joined(it) => {
            write!(out, "joined {} at {}", it.room, at(it.position.as_ref()))
        }
        SessionEvent::RoomLost { room, refused } => {
            write!(out, "room lost {room} {}", refused.code)
        }
        SessionEvent::Connected(_) => write!(out, "connected"),
        SessionEvent::Resumed { session, recovered } => {
            write!(out, "resumed session={session} recovered={recovered}")
        }
        SessionEvent::HandedOver => write!(out, "handed over"),
        SessionEvent::Reconnecting { attempt, .. } => write!(out, "reconnecting {attempt}"),
        SessionEvent::MaxReconnectAttemptsReached { attempts } => {
            write!(out, "max reconnect attempts reached {attempts}")
        }
        SessionEvent::TakenOut { room, reason } => write!(out, "taken out of {room}: {reason}"),
        SessionEvent::Degraded { isolated } => write!(out, "degraded {isolated}"),
        SessionEvent::TokenExpiring { .. } => write!(out, "token expiring"),
        SessionEvent::Unpublished { id, error, .. } => {
            write!(out, "unpublished {id} {}", error.name())
        }
        SessionEvent::Error(refused) => write!(out, "error {}", refused.code),
        SessionEvent::Other(message) => write!(out, "other {message}"),
        SessionEvent::Closed(closed) => write!(out, "over {}", closed.code),
    }
    .unwrap();
}

fn options() -> SessionOptions {
    SessionOptions::new("ws://localhost", "t")
}

fn with_tokens() -> SessionOptions {
    options().get_token(|| std::future::ready(Ok("never called here".to_owned())))
}

/// A publication of `news` as it comes.
fn publication(link: u64, id: &str, at: &str) -> String {
    let metadata = match at.split_once(':') {
        Some((epoch, offset)) => format!(r#","metadata":{{"epoch":"{epoch}","offset":{offset}}}"#),
        None => String::new(),
    };
    format!(
        r#"hear {link} {{"type":"note","id":"{id}","sender":"b","room":"news","data":1{metadata}}}"#
    )
}

/// An answer to a join, or what a node says unasked if `id` is empty.
fn subscribed(link: u64, id: &str, room: &str, at: &str, recovered: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!(r#""correlation_id":"{id}""#) };
    let at = match at.split_once(':') {
        Some((epoch, offset)) => format!(r#""epoch":"{epoch}","offset":{offset}"#),
        None => String::new(),
    };
    let comma = if id.is_empty() || at.is_empty() { "" } else { "," };
    let recovered = match recovered {
        "" => String::new(),
        "yes" => r#","recovered":true"#.to_owned(),
        why => format!(r#","recovered":false,"reason":"{why}""#),
    };
    format!(
        r#"hear {link} {{"type":"subscribed","data":{{"room":"{room}"{recovered}}},"metadata":{{{id}{comma}{at}}}}}"#
    )
}

/// In `news`, which keeps publications, covered up to e:5.
fn in_news() -> Script {
    let mut script = Script::new(options());
    script.run("start\nup 1\njoin 1 news");
    script.check(&subscribed(1, "roomcast:1", "news", "e:5", ""), "answer 1 joined news at e:5");
    script
}

#[test]
fn what_waits_in_an_inbox_is_told_before_its_join_is_answered() {
    let mut script = Script::new(options());
    script.run("start\nup 1\njoin 1 news");
    script.check(&publication(1, "a", "e:6"), "tell news a e:6");
    script.check(&publication(1, "b", "e:7"), "tell news b e:7");
    script.check(&subscribed(1, "roomcast:1", "news", "e:7", ""), "answer 1 joined news at e:7");
    script.check(&publication(1, "c", "e:8"), "tell news c e:8");
    let counters = script.machine.counters();
    assert_eq!((counters.early, counters.gaps, counters.delivered), (0, 0, 3));
}

#[test]
fn it_connects_joins_and_hears() {
    let mut script = Script::new(options());
    script.check("start", "connect 1 token=t");
    script.check("ready 7", "");
    script.check("join 8 news", "");
    assert_eq!(script.room("news"), Some(RoomState::Waiting));
    script.check(
        "up 1",
        "answer 7 ready u
         connected
         send 1 ping
         send 1 subscribe roomcast:1 {room:news}",
    );
    assert_eq!(script.room("news"), Some(RoomState::Joining));
    script.check(&subscribed(1, "roomcast:1", "news", "e:5", ""), "answer 8 joined news at e:5");
    script.check(&publication(1, "a", "e:6"), "tell news a e:6");
    assert_eq!((script.room("news"), script.covered("news")), (Some(RoomState::Joined), Some(6)));
    script.check("join 9 news", "answer 9 joined news at e:6");
    script.check("ready 10", "answer 10 ready u");
}

#[test]
fn what_is_covered_is_dropped_by_position_and_what_is_known_by_id() {
    let mut script = in_news();
    script.check(&publication(1, "old", "e:5"), "");
    script.check(&publication(1, "a", "e:6"), "tell news a e:6");
    script.check(&publication(1, "a", "f:1"), "");
    assert_eq!(script.covered("news"), Some(1), "it was stored anew, and covers all the same");
    script.check(&publication(1, "plain", ""), "tell news plain -");
    script.check(&publication(1, "plain", ""), "");
    let counters = script.machine.counters();
    assert_eq!((counters.repeats_by_position, counters.repeats_by_id), (1, 2));
    assert_eq!(counters.delivered, 2);
}

#[test]
fn skips_and_gaps_move_what_is_covered() {
    let mut script = in_news();
    let skip = r#"hear 1 {"type":"skip","data":{"room":"news","to":8,"count":3,"reasons":["conflated"]},"metadata":{"epoch":"e"}}"#;
    script.check(skip, r#"skip news 3 to e:8 ["conflated"]"#);
    script.check(skip, "");
    let gap = r#"hear 1 {"type":"gap","data":{"room":"news","reason":"too_old"},"metadata":{"epoch":"e","offset":20}}"#;
    script.check(gap, "gap news too_old at e:20");
    script.check(gap, "");
    script.check(&publication(1, "b", "e:21"), "tell news b e:21");
    let all = r#"hear 1 {"type":"gap","data":{"reason":"feed"}}"#;
    script.check(all, "gap - feed at -");
}

#[test]
fn a_node_that_leaves_offsets_out_is_found_out() {
    let mut script = in_news();
    script.check(
        &publication(1, "c", "e:8"),
        "gap news hole at e:7
         tell news c e:8",
    );
    assert_eq!(script.machine.counters().holes, 1);
}

#[test]
fn a_lost_connection_is_resumed_with_what_is_covered() {
    let mut script = in_news();
    script.check("closed 1 1006", "reconnecting 1");
    assert_eq!(script.room("news"), Some(RoomState::Recovering));
    assert_eq!(script.machine.state(), SessionState::Connecting);
    script.check("at 1000", "connect 2 token=t resume=s1.a news@e:5");
    script.check(
        r#"up 2 {"resumed":true,"resume_token":"s1.b"}"#,
        "connected
         send 2 ping",
    );
    script.check(
        &subscribed(2, "", "news", "e:5", "yes"),
        "joined news at e:5
         resumed session=true recovered=true",
    );
    script.check(&publication(2, "a", "e:6"), "tell news a e:6");
    let counters = script.machine.counters();
    assert_eq!((counters.resumes, counters.reconnects, counters.connections), (1, 1, 2));
}

#[test]
fn a_room_that_the_node_does_not_restore_is_joined_again() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000");
    script.run(r#"up 2 {"resumed":true}"#);
    script.check("at 3999", "");
    script.check("at 4000", "send 2 subscribe roomcast:2 {room:news,since:{epoch:e,offset:5}}");
    script.check(
        &subscribed(2, "roomcast:2", "news", "e:5", "yes"),
        "joined news at e:5
         resumed session=true recovered=true",
    );
}

#[test]
fn a_session_that_cannot_be_resumed_begins_anew_and_joins_all_rooms() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000");
    script.check(
        r#"up 2 {"resumed":false,"reason":"unknown","session_id":"s2"}"#,
        "connected
         send 2 ping
         send 2 subscribe roomcast:2 {room:news,since:{epoch:e,offset:5}}",
    );
    script.check(
        &subscribed(2, "roomcast:2", "news", "e:9", "too_old"),
        "gap news too_old at e:9
         joined news at e:9
         resumed session=false recovered=false",
    );
    assert_eq!(script.machine.counters().fresh, 1);
}

#[test]
fn what_cannot_be_read_now_is_asked_for_again_and_then_told() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000\nup 2 {\"resumed\":false}");
    script.check(&subscribed(2, "roomcast:2", "news", "e:9", "unavailable"), "");
    script.check(&publication(2, "z", "e:10"), "");
    for (at, id) in [(2_000, 3), (3_000, 4)] {
        let again =
            format!("send 2 subscribe roomcast:{id} {{room:news,since:{{epoch:e,offset:5}}}}");
        script.check(&format!("at {at}"), &again);
        let answer = subscribed(2, &format!("roomcast:{id}"), "news", "e:9", "unavailable");
        script.check(&answer, "");
    }
    script.run("at 4000");
    script.check(
        &subscribed(2, "roomcast:5", "news", "e:10", "unavailable"),
        "gap news unavailable at e:10
         joined news at e:10
         resumed session=false recovered=false",
    );
    assert_eq!(script.machine.counters().early, 1, "what came ahead lies in the gap that was told");
}

#[test]
fn a_room_that_keeps_nothing_tells_that_it_was_not_heard() {
    let mut script = Script::new(options());
    script.run("start\nup 1\njoin 1 chat");
    script.run(&subscribed(1, "roomcast:1", "chat", "", ""));
    script.run("closed 1 1006\nat 1000\nup 2 {\"resumed\":true}");
    script.check(
        &subscribed(2, "", "chat", "", ""),
        "gap chat no_history at -
         joined chat at -
         resumed session=true recovered=false",
    );
}

#[test]
fn the_nodes_own_rooms_are_taken_along() {
    let mut script = Script::new(options());
    script.run("start\nup 1");
    script.check(&subscribed(1, "", "user-u", "e:5", ""), "joined user-u at e:5");
    script.run(&subscribed(1, "", "session-s1", "e:2", ""));
    script.run("closed 1 1006\nat 1000\nup 2 {\"resumed\":false,\"session_id\":\"s2\"}");
    assert_eq!(script.room("session-s1"), None, "that session is over");
    script.check(
        &subscribed(2, "", "user-u", "e:9", ""),
        "send 2 subscribe roomcast:1 {room:user-u,since:{epoch:e,offset:5}}",
    );
    script.check(
        &subscribed(2, "roomcast:1", "user-u", "e:5", "yes"),
        "joined user-u at e:5
         resumed session=false recovered=true",
    );
}

#[test]
fn an_inbox_that_begins_lower_repeats_nothing() {
    let mut script = Script::new(options());
    script.run("start\nup 1");
    script.run(&subscribed(1, "", "user-u", "e:5", "yes"));
    script.run("closed 1 1006\nat 1000\nup 2 {\"resumed\":false,\"session_id\":\"s2\"}");
    script.check(
        &subscribed(2, "", "user-u", "e:3", "yes"),
        "joined user-u at e:5
         resumed session=false recovered=true",
    );
    let own = |id: &str, at| publication(2, id, at).replace("news", "user-u");
    script.check(&own("d", "e:4"), "");
    script.check(&own("f", "e:6"), "tell user-u f e:6");
}

#[test]
fn rooms_left_while_away_are_left_when_back() {
    let mut script = in_news();
    script.run("closed 1 1006");
    script.check("leave 3 news", "answer 3 done");
    script.check("at 1000", "connect 2 token=t resume=s1.a");
    script.check(
        r#"up 2 {"resumed":true}"#,
        "connected
         send 2 ping
         resumed session=true recovered=true
         send 2 unsubscribe roomcast:2 {room:news}",
    );
    script.check(&publication(2, "a", "e:6"), "");
    script.run(r#"hear 2 {"type":"unsubscribed","data":{"room":"news"},"metadata":{"correlation_id":"roomcast:2"}}"#);
    assert_eq!(script.room("news"), None);
}

const TAKEN_OUT: &str =
    r#"{"type":"unsubscribed","data":{"room":"news","reason":"ordered"},"metadata":{}}"#;

#[test]
fn a_room_that_a_back_end_took_the_session_out_of_is_not_joined_again_by_itself() {
    let mut script = in_news();
    script.check(&format!("hear 1 {TAKEN_OUT}"), "taken out of news: ordered");
    assert_eq!(script.room("news"), Some(RoomState::Lost));
    script.check(&publication(1, "a", "e:6"), "");
    script.run("closed 1 1006\nat 1000");
    let resumed = r#"up 2 {"resumed":true}"#;
    script.check(resumed, "connected\nsend 2 ping\nresumed session=true recovered=true");
}

#[test]
fn the_word_of_a_connection_over_which_a_room_is_not_heard_takes_nobody_out() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000\nup 2 {\"resumed\":true}");
    script.check(&format!("hear 1 {TAKEN_OUT}"), "");
    assert_eq!(script.room("news"), Some(RoomState::Recovering));
}

#[test]
fn attempts_end_after_ten_and_say_so() {
    let mut script = in_news();
    script.check("closed 1 1006", "reconnecting 1");
    let mut now_ms = 0;
    for attempt in 1..=10 {
        now_ms += 30_000;
        script.run(&format!("at {now_ms}"));
        let expected = match attempt {
            10 => "max reconnect attempts reached 10\nover 1006".to_owned(),
            _ => format!("reconnecting {}", attempt + 1),
        };
        script.check(&format!("failed {}", attempt + 1), &expected);
    }
    assert_eq!(script.machine.state(), SessionState::Closed);
    assert_eq!(script.machine.next_wake(), None);
    script.check("join 9 news", "answer 9 error closed");
    script.check("publish 9 p", "answer 9 error closed");
    script.check("ready 9", "answer 9 error closed");
    script.check("presence 9 news", "answer 9 error closed");
}

#[test]
fn a_connection_that_stands_begins_the_count_anew() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000\nfailed 2\nat 4000\nup 3 {\"resumed\":true}");
    script.check("closed 3 1006", "reconnecting 1");
}

#[test]
fn a_node_that_says_when_to_come_back_is_heeded() {
    let mut script = in_news();
    script.run("closed 1 1012\nat 1000");
    script.check("failed 2 503 7", "reconnecting 2");
    script.check("at 7999", "");
    assert!(script.machine.next_wake().unwrap() >= 8_000);
    script.check("at 9500", "connect 3 token=t resume=s1.a news@e:5");
}

#[test]
fn close_codes_decide_whether_and_how_it_comes_back() {
    for (code, first) in [
        (1_001, "reconnecting 1"),
        (1_012, "reconnecting 1"),
        (4_200, "reconnecting 1"),
        (4_202, "reconnecting 1"),
        (4_300, "reconnecting 1"),
        (4_001, "over 4001"),
        (4_100, "over 4100"),
        (4_101, "over 4101"),
        (1_009, "over 1009"),
    ] {
        let mut script = in_news();
        script.check(&format!("closed 1 {code}"), first);
        if code == 4_300 {
            // A session that must prove itself anew is a new one.
            script.check("at 1000", "connect 2 token=t");
            script.check(
                "up 2 {\"session_id\":\"s2\"}",
                "connected
                 send 2 ping
                 send 2 subscribe roomcast:2 {room:news,since:{epoch:e,offset:5}}",
            );
        }
    }
}

#[test]
fn a_token_that_is_no_good_is_replaced() {
    let mut script = Script::new(with_tokens());
    script.run("start\nup 1");
    script.check("closed 1 4001", "reconnecting 1");
    script.check("at 1000", "get token");
    script.check("token fresh", "connect 2 token=fresh resume=s1.a");
    script.run("up 2 {\"resumed\":true}");
    script.check(r#"hear 2 {"type":"token_expiring","data":{"expires_at":"x"}}"#, "get token");
    script.check(r#"hear 2 {"type":"token_expiring","data":{"expires_at":"x"}}"#, "");
    script.check("token newer", "send 2 auth newer");
    script.check("closed 2 1006", "reconnecting 1");
    script.run("at 3000");
    script.check("failed 3 401", "reconnecting 2");
    script.check("at 9000", "get token");
    script.check("token none", "reconnecting 3");
}

#[test]
fn without_a_token_it_asks_for_one_first() {
    let mut options = with_tokens();
    options.connect.token = None;
    let mut script = Script::new(options);
    script.check("start", "get token");
    assert_eq!(script.machine.next_wake(), Some(10_000));
    script.check("at 10000", "reconnecting 1");
}

#[test]
fn a_token_that_runs_out_is_told_where_nobody_has_another() {
    let mut script = in_news();
    script.check(r#"hear 1 {"type":"token_expiring","data":{"expires_at":"x"}}"#, "token expiring");
    script.check("refresh 4 newer", "send 1 auth newer");
    let answer =
        r#"hear 1 {"type":"refresh","data":{},"metadata":{"correlation_id":"roomcast:2"}}"#;
    script.check(answer, "answer 4 done");
    script.run("closed 1 1006");
    script.check("refresh 5 newest", "answer 5 done");
    script.check("at 1000", "connect 2 token=newest resume=s1.a news@e:5");
}

#[test]
fn silence_behind_a_ping_is_a_dead_connection() {
    let mut script = in_news();
    script.check("at 29999", "");
    script.check("at 30000", "send 1 ping");
    script.run(r#"hear 1 {"type":"pong","timestamp":30000}"#);
    script.check("at 40000", "");
    script.check("at 60000", "send 1 ping");
    assert_eq!(script.machine.next_wake(), Some(70_000));
    script.check("at 69999", "");
    script.reading = false;
    script.check("at 70000", "");
    script.reading = true;
    script.check(
        "at 80000",
        "drop 1
         reconnecting 1",
    );
    assert_eq!(script.machine.counters().heartbeat_timeouts, 1);
}

#[test]
fn a_publication_is_sent_until_it_is_acked() {
    let mut script = in_news();
    let ack = r#"hear 1 {"type":"ack","ackId":"p","data":{"level":"stored"},"metadata":{}}"#;
    script.check("publish 2 p", "send 1 note p");
    script.check("at 4999", "");
    script.check("at 5000", "send 1 note p");
    script.check(ack, "answer 2 published p stored");
    script.check(ack, "");
    script.check("send 3 q", "send 1 note q\nanswer 3 published q -");
    let counters = script.machine.counters();
    assert_eq!((counters.published, counters.sent_again), (1, 1));
}

#[test]
fn three_repeats_without_an_ack_are_enough() {
    let mut script = in_news();
    script.run(r#"hear 1 {"type":"pong","timestamp":0}"#);
    script.check("post 0 p", "send 1 note p");
    for at in [5_000, 10_000, 15_000] {
        script.check(&format!("at {at}"), "send 1 note p");
    }
    script.check("at 20000", "unpublished p given_up");
}

#[test]
fn publications_wait_for_a_connection_and_go_over_the_next_one() {
    let mut script = in_news();
    script.run("publish 2 p\nclosed 1 1006");
    script.check("publish 3 q", "");
    script.run("at 1000");
    script.check(
        r#"up 2 {"resumed":true}"#,
        "connected
         send 2 ping
         send 2 note p
         send 2 note q",
    );
}

#[test]
fn what_waits_too_long_is_given_up_before_nodes_forget_its_id() {
    let mut options = options();
    options.reconnect.attempts_max = 1_000;
    let mut script = Script::new(options);
    script.run("start\npublish 2 p");
    assert_eq!(script.machine.next_wake(), Some(20_000), "the node must say welcome");
    script.run("failed 1");
    script.check("at 109999", "connect 2 token=t");
    script.check("at 110000", "answer 2 error given_up");
}

#[test]
fn the_queue_holds_as_many_as_it_says() {
    let mut options = options();
    options.reliable.queue_max = 2;
    let mut script = Script::new(options.clone());
    script.run("start\npublish 1 a\npublish 2 b");
    script.check("publish 3 c", "answer 3 error full");
    // One publication of the script.
    options.reliable.queue_bytes_max =
        br#"{"type":"note","id":"a","room":"news","data":1,"requiresAck":true}"#.len();
    let mut script = Script::new(options.clone());
    script.check("start\npublish 1 a", "");
    script.check("publish 2 b", "answer 2 error full");
    options.reliable.queue_bytes_max -= 1;
    let mut script = Script::new(options);
    script.check("start\npublish 1 a", "answer 1 error full");
}

#[test]
fn a_refusal_ends_a_publication_or_makes_it_wait() {
    let mut script = in_news();
    let refused = |id: &str, code: u16, more: &str| {
        format!(
            r#"hear 1 {{"type":"error","data":{{"code":{code},"name":"n","message":"m"{more}}},"metadata":{{"correlation_id":"{id}"}}}}"#
        )
    };
    script.run("publish 2 p\npublish 3 q\npost 0 r");
    script.check(&refused("p", 110, ""), "answer 2 error n");
    script.check(&refused("q", 120, r#","retry":true,"retry_after_ms":700"#), "");
    script.check(&refused("r", 122, ""), "unpublished r n");
    script.check("at 699", "");
    script.check("at 700", "send 1 note q");
    script.check(&refused("q", 130, r#","outcome":"unknown""#), "");
    script.check("at 1700", "send 1 note q");
    script.check(&refused("x", 102, ""), "error 102");
}

#[test]
fn a_join_that_is_refused_is_answered_and_forgotten() {
    let mut script = in_news();
    script.run("join 2 secret");
    let error = |id: &str, code: u16, more: &str| {
        format!(
            r#"hear 1 {{"type":"error","data":{{"code":{code},"name":"n","message":"m"{more}}},"metadata":{{{id}}}}}"#
        )
    };
    let id = r#""correlation_id":"roomcast:2""#;
    script.check(&error(id, 110, r#","room":"secret""#), "answer 2 error n");
    assert_eq!(script.room("secret"), None);
    script.run("join 3 busy");
    let id = r#""correlation_id":"roomcast:3""#;
    script.check(&error(id, 120, r#","retry":true,"retry_after_ms":50"#), "");
    script.check("at 50", "send 1 subscribe roomcast:4 {room:busy}");
    // The right to a room was lost.
    script.check(&error("", 110, r#","room":"news""#), "room lost news 110");
    assert_eq!(script.room("news"), Some(RoomState::Lost));
    script.check(&publication(1, "a", "e:6"), "");
    script.check("join 4 news", "send 1 subscribe roomcast:5 {room:news,since:{epoch:e,offset:5}}");
}

#[test]
fn a_node_that_is_cut_off_says_the_position_later() {
    let mut script = Script::new(options());
    script.run("start\nup 1\njoin 2 news e:3");
    let later = r#"hear 1 {"type":"subscribed","data":{"room":"news","live":false},"metadata":{"correlation_id":"roomcast:1"}}"#;
    script.check(later, "answer 2 joined news at - not live");
    assert_eq!(script.covered("news"), Some(3));
    script.check("at 20000", "");
    script.check(&subscribed(1, "roomcast:1", "news", "e:3", "yes"), "joined news at e:3");
}

#[test]
fn what_requires_an_ack_is_acked_once_the_application_has_it() {
    let mut script = in_news();
    let requires = |id: &str, at: &str, again: &str| {
        publication(1, id, at)
            .replace(r#""data":1"#, &format!(r#""requiresAck":true{again},"data":1"#))
    };
    let again = r#","redelivered":true"#;
    script.check(&requires("a", "e:6", ""), "tell news a e:6");
    script.check(&requires("a", "e:6", again), "");
    script.check("got news b a", "send 1 ack a of news");
    script.check("got news b a", "");
    // The ack was lost on its way.
    script.check(&requires("a", "e:6", again), "send 1 ack a of news");
    // Never got, although it is covered.
    script.check(&requires("c", "e:4", again), "tell news c e:4");
    assert_eq!(script.covered("news"), Some(6));
    assert_eq!(script.machine.counters().redelivered, 3);
}

const DRAIN: &str =
    r#"hear 1 {"type":"drain","data":{"turn_ms":5000,"resume_token":"s1.turn","reason":"drain"}}"#;

#[test]
fn a_hand_over_leaves_no_silence_and_no_repeat() {
    let mut script = in_news();
    script.check(DRAIN, "connect 2 token=t resume=s1.turn news@e:5");
    assert_eq!(script.machine.state(), SessionState::HandingOver);
    script.check(&publication(1, "a", "e:6"), "tell news a e:6");
    script.check("publish 2 p", "send 1 note p");
    script.check(
        r#"up 2 {"resumed":true,"resume_token":"s1.b"}"#,
        "connected
         handed over
         send 2 ping",
    );
    script.check(&publication(1, "b", "e:7"), "tell news b e:7");
    script.check(
        &subscribed(2, "", "news", "e:5", "yes"),
        "joined news at e:7
         resumed session=true recovered=true",
    );
    script.check(&publication(2, "a", "e:6"), "");
    script.check(&publication(1, "c", "e:8"), "");
    script.check(&publication(2, "b", "e:7"), "");
    script.check(&publication(2, "c", "e:8"), "tell news c e:8");
    script.check("publish 3 q", "send 2 note q");
    script.check("closed 1 4202", "send 2 note p");
    let counters = script.machine.counters();
    assert_eq!((counters.hand_overs, counters.reconnects, counters.gaps), (1, 0, 0));
    assert_eq!((counters.repeats_by_position, counters.early), (2, 1));
    assert_eq!(script.machine.state(), SessionState::Connected);
}

#[test]
fn a_room_that_keeps_nothing_is_heard_through_a_hand_over_once() {
    let mut script = Script::new(options());
    script.run("start\nup 1\njoin 1 news");
    script.run(&subscribed(1, "roomcast:1", "news", "", ""));
    script.run(DRAIN);
    script.run(r#"up 2 {"resumed":true}"#);
    script.check(&publication(1, "a", ""), "tell news a -");
    script.check(
        &subscribed(2, "", "news", "", ""),
        "joined news at -
         resumed session=true recovered=true",
    );
    script.check(&publication(2, "a", ""), "");
    script.check(&publication(2, "b", ""), "tell news b -");
    script.check(&publication(1, "b", ""), "");
}

#[test]
fn a_hand_over_that_fails_is_tried_again_within_its_turn() {
    let mut script = in_news();
    script.run(DRAIN);
    script.check("failed 2 503", "");
    script.check("at 1000", "connect 3 token=t resume=s1.turn news@e:5");
    script.check("failed 3 503 9", "");
    script.check("at 4999", "");
    assert_eq!(script.machine.state(), SessionState::Connected, "9 s are beyond the turn");
    script.check("closed 1 1012", "reconnecting 1");
    script.check("at 7000", "connect 4 token=t resume=s1.turn news@e:5");
}

#[test]
fn an_old_connection_that_ends_first_leaves_the_new_one_to_resume() {
    let mut script = in_news();
    script.run(DRAIN);
    script.check("closed 1 1012", "");
    script.check(
        r#"up 2 {"resumed":true}"#,
        "connected
         send 2 ping",
    );
    assert_eq!(script.machine.counters().hand_overs, 0);
}

#[test]
fn a_hand_over_into_a_new_session_keeps_the_old_one_until_all_rooms_are_heard() {
    let mut script = in_news();
    script.run(DRAIN);
    script.check(
        r#"up 2 {"resumed":false,"reason":"unavailable","session_id":"s2"}"#,
        "connected
         send 2 ping
         send 2 subscribe roomcast:2 {room:news,since:{epoch:e,offset:5}}",
    );
    script.check(&publication(1, "a", "e:6"), "tell news a e:6");
    script.check("at 5000", "");
    script.check(
        &subscribed(2, "roomcast:2", "news", "e:5", "yes"),
        "joined news at e:6
         resumed session=false recovered=true",
    );
    script.check("at 6000", "close 1");
    script.check(&publication(2, "a", "e:6"), "");
    script.check(&publication(2, "b", "e:7"), "tell news b e:7");
}

#[test]
fn what_the_old_connection_brought_is_not_missing_on_the_new_one() {
    let mut script = in_news();
    script.run(DRAIN);
    script.run(r#"up 2 {"resumed":false,"reason":"unavailable","session_id":"s2"}"#);
    script.run(&publication(1, "a", "e:6"));
    script.check(&publication(1, "b", "e:7"), "tell news b e:7");
    script.check(
        &subscribed(2, "roomcast:2", "news", "e:6", "too_old"),
        "joined news at e:7
         resumed session=false recovered=true",
    );
    script.check(&publication(2, "b", "e:7"), "");
    script.check(&publication(2, "c", "e:8"), "tell news c e:8");
}

#[test]
fn a_node_that_never_had_what_is_covered_begins_lower() {
    let mut script = in_news();
    script.run("closed 1 1006\nat 1000");
    script.run(r#"up 2 {"resumed":false,"reason":"unknown","session_id":"s2"}"#);
    script.check(
        &subscribed(2, "roomcast:2", "news", "e:3", "ahead"),
        "gap news ahead at e:3
         joined news at e:3
         resumed session=false recovered=false",
    );
    script.check(&publication(2, "z", "e:4"), "tell news z e:4");
}

#[test]
fn a_client_that_stays_is_not_handed_over() {
    let mut options = options();
    options.hands_over = false;
    let mut script = Script::new(options);
    script.check("start", "connect 1 token=t stays");
    script.run("up 1");
    script.check(DRAIN, "");
}

#[test]
fn a_mark_is_said_again_until_it_is_answered() {
    let mut script = in_news();
    script.check("reads 4 news 5", "send 1 receipt roomcast:2 {read:{epoch:e,offset:5},room:news}");
    script.check("closed 1 1006", "reconnecting 1");
    script.run("at 1000");
    script.check(
        r#"up 2 {"resumed":true}"#,
        "connected
         send 2 ping
         send 2 receipt roomcast:2 {read:{epoch:e,offset:5},room:news}",
    );
    let marked = r#"hear 2 {"type":"receipt","data":{"room":"news","user":"a","read":{"offset":5}},"metadata":{"correlation_id":"roomcast:2"}}"#;
    script.check(marked, "answer 4 marked 5");
    let told = r#"hear 2 {"type":"receipt","data":{"room":"news","receipts":[{"user":"b"}]},"metadata":{"version":2}}"#;
    script.check(told, "receipts news 1");
}

#[test]
fn requests_are_asked_again_over_the_next_connection() {
    let mut script = in_news();
    script.check("presence 4 news", "send 1 presence roomcast:2 {room:news}");
    script.run("closed 1 1006\nat 1000");
    script.check(
        r#"up 2 {"resumed":true}"#,
        "connected
         send 2 ping
         send 2 presence roomcast:2 {room:news}",
    );
    let roster = r#"hear 2 {"type":"presence","data":{"room":"news","count":3,"users":[]},"metadata":{"correlation_id":"roomcast:2"}}"#;
    script.check(roster, "answer 4 roster 3");
    script.run("presence 5 news");
    script.run(r#"hear 2 {"type":"pong"}"#);
    script.run(&subscribed(2, "", "news", "e:5", "yes"));
    script.check("at 10999", "");
    script.check("at 11000", "answer 5 error timeout");
}

#[test]
fn presence_that_two_connections_tell_is_told_once() {
    let mut script = in_news();
    let told = |offset: u64| {
        format!(
            r#"hear 1 {{"type":"presence","data":{{"room":"news","count":2,"joined":["x"],"left":[]}},"metadata":{{"epoch":"p","offset":{offset}}}}}"#
        )
    };
    script.check(&told(4), r#"presence news 2 ["x"] []"#);
    script.check(&told(4), "");
    script.check(&told(3), "");
    script.check(&told(7), r#"presence news 2 ["x"] []"#);
    script.check(r#"hear 1 {"type":"lost","data":{"room":"user-u","count":3}}"#, "lost user-u 3");
}

#[test]
fn the_end_answers_everybody() {
    let mut script = in_news();
    script.run("publish 2 p\njoin 3 other\npresence 4 news");
    script.check(
        "close",
        "close 1
         answer 3 error closed
         answer 4 error closed
         answer 2 error closed
         over 1000",
    );
    script.check("close", "");
    script.check(&publication(1, "a", "e:6"), "");
}

#[test]
fn a_node_that_never_says_welcome_is_left() {
    let mut script = Script::new(options());
    script.run("start");
    script.check("at 19999", "");
    script.check("at 20000", "drop 1\nreconnecting 1");
}
