//! The event `chats`, and what has no place in it.

use roomcast_dialects::chat::write_list;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Conversation, Message};
use roomcast_protocol::lists::{LIST, LIST_EVENT_BYTES_MAX, List};
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::publication::Publication;
use serde_json::Value;

use crate::common::{at, heard, json_of, publication};

/// A group, or a dialog with User1; its last message has so many characters.
fn chat(with: &str, group: bool, last: Option<usize>) -> Conversation {
    let said = |count| {
        let content = json_of(&format!(r#"{{"message":"{}"}}"#, "x".repeat(count)));
        let said = publication("dialog-a:b", "new", content, 5);
        let said = Publication { position: Some(at(5)), ..said };
        Message { said: said.into(), edited: None, erased_unix_ms: None, mark: None }
    };
    Conversation {
        with: with.into(),
        group,
        people: vec!["User1".into()],
        owners: Vec::new(),
        last: last.map(said),
        unread: 0,
        first_unread: None,
        online: None,
        seen_unix_ms: None,
    }
}

/// Which chats are listed, those with their last message as `name+`; and how many bytes it takes.
fn shown(list: &[Conversation], about: &str) -> (Vec<String>, usize) {
    let written = write_list("User1", list, about);
    let parsed: Vec<Value> = serde_json::from_slice(&written).unwrap();
    let names = parsed.iter().map(|it| {
        let last = if it.get("lastMessage").is_some() { "+" } else { "" };
        format!("{}{last}", it["chatId"].as_str().unwrap())
    });
    (names.collect(), written.len())
}

#[test]
fn a_list_is_an_event_with_an_id() {
    let room = "user-User1";
    let content = Content::Json(write_list("User1", &[chat("team", true, None)], "team"));
    let told = publication(room, LIST, content, 1_700_300_000_000);
    let origin = List { since: 3 }.origin(told.room.clone(), 1_700_300_000_000);
    let told = Publication { position: Some(at(23)), origin: Some(Box::new(origin)), ..told };
    let frame = r#"{"type":"event","timestamp":1700300000000,"id":23,"eventType":"chats","payload":[{"chatId":"team","type":"group","participants":["User1"],"missed":0}]}"#;
    assert_eq!(heard(&Outbound::Publication(&told)).as_deref(), Some(frame));
    assert_eq!(write_list("User1", &[], "team"), "[]");
}

#[test]
fn a_last_message_has_place_up_to_the_bound() {
    let bytes = |count| shown(&[chat("team", true, None), chat("b", false, Some(count))], "team");
    let free = LIST_EVENT_BYTES_MAX - bytes(0).1;
    // The comma that each is counted with is one more than are written.
    let (names, used) = bytes(free - 1);
    assert_eq!((names, used), (vec!["team".to_owned(), "b+".to_owned()], LIST_EVENT_BYTES_MAX - 1));
    assert_eq!(bytes(free).0, ["team", "b"]);
}

#[test]
fn chats_have_place_from_the_first_on_and_the_one_in_question_always() {
    let long = "n".repeat(250);
    let mut list: Vec<_> =
        (0..300).map(|at| chat(&format!("{long}{at:03}"), false, None)).collect();
    list.push(chat("team", true, Some(10)));
    let (names, used) = shown(&list, "team");
    let kept = names.len();
    assert!((150..300).contains(&kept) && used <= LIST_EVENT_BYTES_MAX, "{kept}, {used}");
    assert_eq!(names.last().map(String::as_str), Some("team"), "in its place");
    assert!(names[..kept - 1].iter().enumerate().all(|(at, it)| *it == format!("{long}{at:03}")));
    // A dialog with a user of that name is another chat.
    *list.last_mut().unwrap() = chat("team", false, None);
    assert_ne!(shown(&list, "team").0.len(), kept + 1);
}

#[test]
fn last_messages_come_behind_all_chats() {
    let list = [
        chat("a", false, Some(LIST_EVENT_BYTES_MAX - 200)),
        chat("b", false, Some(500)),
        chat("team", true, Some(10)),
    ];
    assert_eq!(shown(&list, "team").0, ["a", "b+", "team+"]);
}
