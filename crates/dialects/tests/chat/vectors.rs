//! Every frame of the vectors, in its order: what a client says becomes this command, and what it hears comes of this
//! outbound.

use std::net::{IpAddr, Ipv4Addr};

use roomcast_dialects::chat::CHAT;
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::command::{Command, Unreadable};
use roomcast_protocol::conversation::{Act, Answered, Origin, Saying};
use roomcast_protocol::dialect::{Dialect, Handshake};
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::receipts::Mark;
use serde::Deserialize;
use serde_json::Value;

use crate::common::{Client, answer, at, converse, copy, heard, json_of, of_message, publication};

#[derive(Deserialize)]
struct Vectors {
    frames: Vec<Said>,
    handshake: Vec<Upgrade>,
}

#[derive(Deserialize)]
struct Upgrade {
    header: String,
}

#[derive(Deserialize)]
struct Said {
    dir: String,
    raw: Option<String>,
    msg: Option<Value>,
}

impl Said {
    fn text(&self) -> String {
        self.raw.clone().unwrap_or_else(|| self.msg.as_ref().unwrap().to_string())
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../vectors/chat/chat.json")).unwrap()
}

/// The frames that are not checked yet.
struct Script {
    frames: std::vec::IntoIter<Said>,
    clients: [Client; 2],
}

impl Script {
    fn read() -> Self {
        Self { frames: vectors().frames.into_iter(), clients: <[Client; 2]>::default() }
    }

    #[track_caller]
    fn next(&mut self, dir: &str, user: usize) -> Said {
        let said = self.frames.next().unwrap();
        let expected = format!("{dir} User{user}");
        let is_first = user == 1 && said.dir == dir;
        assert!(said.dir == expected || is_first, "{} {}", said.dir, said.text());
        said
    }

    /// The next frame is said by the user and becomes this.
    #[track_caller]
    fn says(&mut self, user: usize, command: &Command) {
        let text = self.next(">", user).text();
        assert_eq!(self.clients[user - 1].says(&text), *command, "{text}");
    }

    /// The next frame is heard by the user and is this one.
    #[track_caller]
    fn hears(&mut self, user: usize, told: &str) {
        let said = self.next("<", user);
        match said.msg {
            None => assert_eq!(said.raw.unwrap(), told, "byte for byte"),
            Some(expected) => {
                assert_eq!(serde_json::from_str::<Value>(told).unwrap(), expected);
            }
        }
    }
}

const CLIENT_ID: &str = "9CD99794-6D8E-4E82-9C97-D474831A43E3";

fn pong() -> String {
    heard(&Outbound::Pong { timestamp: None, unix_ms: 7 }).unwrap()
}

fn saying(kind: &str, id: Option<&str>, content: &str) -> Saying {
    Saying { kind: kind.into(), id: id.map(Into::into), content: json_of(content) }
}

fn told(publication: &roomcast_protocol::publication::Publication) -> String {
    let first = heard(&Outbound::Publication(publication)).unwrap();
    assert_eq!(heard(&Outbound::Redelivered(publication)).unwrap(), first, "and again the same");
    first
}

#[test]
fn every_vector_is_met_frame_by_frame() {
    let mut script = Script::read();
    keep_alives_and_typing(&mut script);
    a_message(&mut script);
    marks(&mut script);
    errors(&mut script);
    assert!(script.frames.next().is_none());
}

fn keep_alives_and_typing(script: &mut Script) {
    for _ in 0..2 {
        script.says(1, &Command::KeepAlive(None));
        script.hears(1, &pong());
    }
    let typing = Act::Signal(saying("typing", None, "{}"));
    script.says(1, &converse(None, "User2", typing));
    let room = of_message("", 0).room;
    let mut signal = publication("user-User2", "typing", json_of("{}"), 1_700_500_000_000);
    signal.origin = Some(Box::new(Origin::of(room, 1)));
    script.hears(2, &told(&signal));
}

fn a_message(script: &mut Script) {
    let content = r#"{"message":"hi"}"#;
    script
        .says(1, &converse(Some("1"), "User2", Act::Say(saying("new", Some(CLIENT_ID), content))));
    let said =
        Answered::Said { position: at(125), id: CLIENT_ID.into(), at_unix_ms: 1_700_500_000_000 };
    script.hears(1, &answer("1", "User1", &said, 1_700_200_000_000));
    let origin = Origin { unread: Some(1), ..of_message(CLIENT_ID, 1_700_500_000_000) };
    let new = copy("User2", 1, "new", content, 1_700_300_000_000, origin);
    script.hears(2, &told(&new));
    script.says(2, &Command::AckEvent(1));
    script.says(2, &Command::AckEvent(1));
}

fn marks(script: &mut Script) {
    let marked = |mark| Answered::Marked {
        mark,
        with: "User1".into(),
        offset: 125,
        id: CLIENT_ID.into(),
        at_unix_ms: 1_700_200_000_000,
        unread: 0,
    };
    let mark = |mark| Act::Mark { mark, up_to: Some(125) };
    script.says(2, &converse(Some("101"), "User1", mark(Mark::Delivered)));
    script.hears(2, &answer("101", "User2", &marked(Mark::Delivered), 1_700_200_000_000));
    let origin = of_message(CLIENT_ID, 1_700_200_000_000);
    script.hears(1, &told(&copy("User1", 1, "delivered", "{}", 1_700_200_000_000, origin)));
    script.says(2, &converse(Some("102"), "User1", mark(Mark::Read)));
    script.hears(2, &answer("102", "User2", &marked(Mark::Read), 1_700_200_002_000));
}

fn errors(script: &mut Script) {
    let text = script.next(">", 1).text();
    let (reply, refused, raw) = script.clients[0].refused(&text);
    assert_eq!((reply.id.as_deref(), raw.as_deref()), (Some("1"), None));
    assert_eq!(refused.refusal, Refusal::Duplicate);
    let outbound = Outbound::Refused { reply: &reply, refused: &refused, raw: None };
    script.hears(1, &heard(&outbound).unwrap());

    let text = script.next(">", 1).text();
    let command = script.clients[0].says(&text);
    let Command::Unreadable(Unreadable { reply, refused, raw, .. }) = command else {
        panic!("{command:?}")
    };
    assert_eq!((reply.id.as_deref(), raw.as_deref()), (None, Some(text.as_str())));
    assert_eq!(refused.refusal, Refusal::BadJson);
    let outbound = Outbound::Refused { reply: &reply, refused: &refused, raw: raw.as_deref() };
    let found = heard(&outbound).unwrap();
    assert!(refused.message.contains("line 1 column"), "the parser's text: {found}");
    script.hears(1, &found.replace(&*refused.message, "<parser text>"));
}

#[test]
fn every_header_of_the_vectors_brings_its_token() {
    let headers: Vec<_> = vectors().handshake.into_iter().map(|upgrade| upgrade.header).collect();
    assert_eq!(headers.len(), 2);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        let value = value.replace("<jwt>", "e.p.s");
        let is_offer = name == "Sec-WebSocket-Protocol";
        assert!(is_offer || name == "Authorization", "{header}");
        let offered = value.split(", ").filter(|_| is_offer).map(Into::into).collect();
        let agreed = CHAT.accepts(&Handshake {
            path: "/chat".into(),
            query: "".into(),
            subprotocols: offered,
            authorization: (!is_offer).then(|| value.as_str().into()),
            fingerprint: None,
            origin: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        let agreed = agreed.unwrap();
        assert_eq!(agreed.token.as_deref(), Some("e.p.s"), "{header}");
        assert_eq!(agreed.subprotocol, is_offer.then_some("protocol"), "{header}");
    }
}
