//! Every request: what it asks, what it may leave out, and what is refused by name.

use roomcast_dialects::chat::{CALL_ID_BYTES_MAX, PARTICIPANTS_MAX};
use roomcast_protocol::codes::Refusal;
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::conversation::{
    Act, MESSAGES_DEFAULT, MESSAGES_MAX, MessageRef, Range, Saying,
};
use roomcast_protocol::position::OFFSET_MAX;
use roomcast_protocol::publication::TEXT_BYTES_MAX;
use roomcast_protocol::receipts::Mark;
use serde_json::{Value, json};

use crate::common::{Client, act, json_of, request};

fn saying(kind: &str, id: Option<&str>, content: &str) -> Saying {
    Saying { kind: kind.into(), id: id.map(Into::into), content: json_of(content) }
}

/// The payload with these members; one that is null is taken out.
fn with(payload: &Value, changes: &Value) -> Value {
    let mut changed = payload.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            changed.remove(name);
        } else {
            changed.insert(name.clone(), value.clone());
        }
    }
    changed.into()
}

/// The request is refused, with its id, and for this.
#[track_caller]
fn check_refused(kind: &str, payload: &Value, message: &str) {
    let (reply, refused, raw) = Client::default().refused(&request("1", kind, payload));
    assert_eq!((reply.id.as_deref(), raw), (Some("1"), None), "{payload}");
    assert_eq!((refused.refusal, &*refused.message), (Refusal::Schema, message), "{payload}");
}

/// The whole request is good; with each of these changes it is refused.
#[track_caller]
fn check_fields(kind: &str, good: &Value, changes: &[(Value, &str)]) {
    act(kind, good);
    let chat = "chatId is missing: the id of the user with whom you talk";
    let long = "chatId must be at most 255 bytes";
    for (change, message) in [
        (json!({"chatId": null}), chat),
        (json!({"chatId": ""}), chat),
        (json!({"chatId": 7}), "chatId must be a string"),
        (json!({"chatId": "u".repeat(TEXT_BYTES_MAX + 1)}), long),
    ] {
        check_refused(kind, &with(good, &change), message);
    }
    for (change, message) in changes {
        check_refused(kind, &with(good, change), message);
    }
    // What nobody knows is passed over, and null is as good as absent.
    let more = with(good, &json!({"more": {"chatId": 1}, "moreNames": [1]}));
    assert_eq!(act(kind, &more), act(kind, good));
    let nulls = ["stop", "count", "startId", "callType", "replyTo", "forwarded"];
    let mut nullified = good.clone();
    for name in nulls.into_iter().filter(|name| good.get(name).is_none()) {
        nullified[name] = Value::Null;
    }
    assert_eq!(act(kind, &nullified), act(kind, good));
}

const OFFSET: &str = " must be a whole number from 1 to 9007199254740991";

#[test]
fn chats_of_names_up_to_255_bytes_are_talked_in() {
    let longest = "u".repeat(TEXT_BYTES_MAX);
    let text = request("1", "chat", &json!({"chatId": longest}));
    let Command::Converse(converse) = Client::default().says(&text) else { panic!("{text}") };
    assert_eq!(*converse.with, *longest);
}

#[test]
fn new_says_what_it_has_as_it_was_written() {
    let text = r#"{"type":"request","id":"1","payloadType":"new","payload":{ "forwarded" : {"from": 1.50},
        "message":"h\u0069", "chatId":"User2", "replyTo":  "12", "attachments":[ {"type":"file","b":2,"a":1e3} ],
        "clientMessageId":"c-1", "sender":"User9", "timestamp":5}}"#;
    let Command::Converse(converse) = Client::default().says(text) else { panic!("{text}") };
    let content = r#"{"message":"h\u0069","attachments":[ {"type":"file","b":2,"a":1e3} ],"replyTo":"12","forwarded":{"from": 1.50}}"#;
    assert_eq!(converse.act, Act::Say(saying("new", Some("c-1"), content)));
}

#[test]
fn new_needs_a_message_attachments_or_what_is_forwarded() {
    let base = json!({"chatId": "User2", "clientMessageId": "c-1"});
    for (more, content) in [
        (json!({"message": "hi"}), r#"{"message":"hi"}"#),
        (json!({"message": ""}), r#"{"message":""}"#),
        (json!({"attachments": []}), r#"{"attachments":[]}"#),
        (json!({"forwarded": true}), r#"{"forwarded":true}"#),
        (json!({"message": "hi", "replyTo": 12}), r#"{"message":"hi","replyTo":12}"#),
    ] {
        let expected = Act::Say(saying("new", Some("c-1"), content));
        assert_eq!(act("new", &with(&base, &more)), expected);
    }
    check_refused("new", &base, "message is missing: a string, or attachments");
}

#[test]
fn new_needs_no_id_of_its_client() {
    for id in [json!({}), json!({"clientMessageId": null}), json!({"clientMessageId": ""})] {
        let said = with(&json!({"chatId": "User2", "message": "Hi from User1!"}), &id);
        assert_eq!(
            act("new", &said),
            Act::Say(saying("new", None, r#"{"message":"Hi from User1!"}"#))
        );
    }
}

#[test]
fn every_field_of_new_is_checked() {
    let good = json!({"chatId": "User2", "clientMessageId": "c-1", "message": "hi"});
    let attachments = "attachments must be an array of objects";
    let long = "clientMessageId must be at most 255 bytes";
    check_fields(
        "new",
        &good,
        &[
            (json!({"clientMessageId": 7}), "clientMessageId must be a string"),
            (json!({"clientMessageId": "c".repeat(TEXT_BYTES_MAX + 1)}), long),
            (json!({"message": 7}), "message must be a string"),
            (json!({"message": {}}), "message must be a string"),
            (json!({"attachments": {}}), attachments),
            (json!({"attachments": ["a"]}), attachments),
            (json!({"attachments": [{}, null]}), attachments),
            (json!({"replyTo": "x"}), &format!("replyTo{OFFSET}")),
            (json!({"replyTo": 0}), &format!("replyTo{OFFSET}")),
        ],
    );
    let longest = "c".repeat(TEXT_BYTES_MAX);
    let longest_said = act("new", &with(&good, &json!({"clientMessageId": longest})));
    assert_eq!(longest_said, Act::Say(saying("new", Some(&longest), r#"{"message":"hi"}"#)));
}

#[test]
fn edit_and_delete_name_a_message_by_its_number_or_by_its_senders_id() {
    let (offset, id) = (MessageRef::Offset(125), MessageRef::Id("c-1".into()));
    let edited = |of: &MessageRef, id: Option<&str>| Act::Amend {
        of: of.clone(),
        erases: false,
        saying: saying("edit", id, r#"{"message":"ho"}"#),
    };
    let erased = |of: &MessageRef| Act::Amend {
        of: of.clone(),
        erases: true,
        saying: saying("delete", None, "null"),
    };
    let edit = json!({"chatId": "User2", "message": "ho"});
    let delete = json!({"chatId": "User2"});
    for (names, of) in [
        (json!({"originalMessageId": 125}), &offset),
        (json!({"originalMessageId": "125"}), &offset),
        (json!({"messageId": 125}), &offset),
        (json!({"originalMessageId": 125, "messageId": 126}), &offset),
        (json!({"originalMessageId": 125, "originalClientMessageId": "c-1"}), &offset),
        (json!({"originalClientMessageId": "c-1"}), &id),
    ] {
        assert_eq!(act("edit", &with(&edit, &names)), edited(of, None), "{names}");
        assert_eq!(act("delete", &with(&delete, &names)), erased(of), "{names}");
    }
    let own = json!({"originalMessageId": 125, "clientMessageId": "c-2"});
    assert_eq!(act("edit", &with(&edit, &own)), edited(&offset, Some("c-2")));
    let example = json!({"messageId": 125, "clientMessageId": "c-1"});
    assert_eq!(act("delete", &with(&delete, &example)), erased(&offset));
    assert_eq!(act("delete", &with(&delete, &json!({"clientMessageId": "c-1"}))), erased(&id));
}

#[test]
fn every_field_of_edit_is_checked() {
    let good = json!({"chatId": "User2", "originalMessageId": 125, "message": "ho"});
    let missing = "originalMessageId is missing: the messageId of the message that is meant";
    check_fields(
        "edit",
        &good,
        &[
            (json!({"originalMessageId": null}), missing),
            (json!({"originalMessageId": null, "clientMessageId": "c-1"}), missing),
            (json!({"originalMessageId": 0}), &format!("originalMessageId{OFFSET}")),
            (json!({"originalMessageId": OFFSET_MAX + 1}), &format!("originalMessageId{OFFSET}")),
            (json!({"messageId": []}), &format!("messageId{OFFSET}")),
            (json!({"originalClientMessageId": 1}), "originalClientMessageId must be a string"),
            (json!({"clientMessageId": 1}), "clientMessageId must be a string"),
            (json!({"message": null}), "message is missing: a string, or attachments"),
            (json!({"message": []}), "message must be a string"),
            (json!({"attachments": "x"}), "attachments must be an array of objects"),
        ],
    );
    let last = act("edit", &with(&good, &json!({"originalMessageId": OFFSET_MAX})));
    assert!(matches!(last, Act::Amend { of: MessageRef::Offset(OFFSET_MAX), .. }), "{last:?}");
    let files = with(&good, &json!({"message": null, "attachments": [{"id": 1}]}));
    let Act::Amend { saying: said, .. } = act("edit", &files) else { panic!("{files}") };
    assert_eq!(said, saying("edit", None, r#"{"attachments":[{"id":1}]}"#));
}

#[test]
fn every_field_of_delete_is_checked() {
    let missing = "originalMessageId is missing: the messageId of the message that is meant";
    check_fields(
        "delete",
        &json!({"chatId": "User2", "originalMessageId": 125}),
        &[
            (json!({"originalMessageId": null}), missing),
            (json!({"originalMessageId": 1.5}), &format!("originalMessageId{OFFSET}")),
            (json!({"messageId": -1}), &format!("messageId{OFFSET}")),
            (json!({"originalClientMessageId": {}}), "originalClientMessageId must be a string"),
            (json!({"clientMessageId": true}), "clientMessageId must be a string"),
        ],
    );
}

#[test]
fn marks_are_up_to_a_message_or_of_all() {
    for (kind, mark) in [("dlvrd", Mark::Delivered), ("read", Mark::Read)] {
        for (id, up_to) in [
            (Value::Null, None),
            (json!(1), Some(1)),
            (json!("125"), Some(125)),
            (json!(OFFSET_MAX), Some(OFFSET_MAX)),
        ] {
            let payload = json!({"chatId": "User2", "messageId": id});
            assert_eq!(act(kind, &payload), Act::Mark { mark, up_to });
        }
        check_fields(
            kind,
            &json!({"chatId": "User2", "messageId": 1}),
            &[
                (json!({"messageId": 0}), &format!("messageId{OFFSET}")),
                (json!({"messageId": OFFSET_MAX + 1}), &format!("messageId{OFFSET}")),
                (json!({"messageId": "one"}), &format!("messageId{OFFSET}")),
            ],
        );
    }
}

#[test]
fn messages_are_the_newest_or_those_on_one_side_of_a_number() {
    assert_eq!((MESSAGES_DEFAULT, MESSAGES_MAX), (300, 500));
    for (more, range, count_max) in [
        (json!({}), Range::Newest, 300),
        (json!({"startId": 7}), Range::From(7), 300),
        (json!({"endId": "7", "count": 1}), Range::UpTo(7), 1),
        (json!({"count": 500}), Range::Newest, 500),
    ] {
        let payload = with(&json!({"chatId": "User2"}), &more);
        assert_eq!(act("messages", &payload), Act::Messages { range, count_max });
    }
    let count = "count must be a whole number from 1 to 500";
    check_fields(
        "messages",
        &json!({"chatId": "User2"}),
        &[
            (json!({"startId": 1, "endId": 1}), "startId and endId exclude each other: give one"),
            (json!({"startId": 0}), &format!("startId{OFFSET}")),
            (json!({"endId": {}}), &format!("endId{OFFSET}")),
            (json!({"count": 0}), count),
            (json!({"count": 501}), count),
            (json!({"count": "5"}), count),
            (json!({"count": -1}), count),
            (json!({"count": 1.5}), count),
        ],
    );
}

#[test]
fn chat_is_one_conversation_and_chats_are_all() {
    check_fields("chat", &json!({"chatId": "User2"}), &[]);
    assert_eq!(act("chat", &json!({"chatId": "User2"})), Act::Show);
    let reply = ReplyTo { id: Some("1".into()), ..ReplyTo::default() };
    for text in [
        request("1", "chats", &Value::Null),
        request("1", "chats", &json!({})),
        request("1", "chats", &json!({"chatId": "User2"})),
        r#"{"type":"request","id":1,"payloadType":"chats"}"#.into(),
    ] {
        assert_eq!(Client::default().says(&text), Command::Conversations(reply.clone()), "{text}");
    }
    check_refused("chats", &json!([]), "payload must be an object");
}

/// The bounds of a list of participants and of a call's id.
#[track_caller]
fn check_bounds_of_calls(kind: &str, good: &Value, lists: &[&str]) {
    let call = "callId must be a string of at most 250 bytes";
    let longest = "c".repeat(CALL_ID_BYTES_MAX);
    act(kind, &with(good, &json!({"callId": longest})));
    check_refused(kind, &with(good, &json!({"callId": format!("{longest}c")})), call);
    for name in lists {
        let users = |count| vec!["u"; count];
        let wrong =
            format!("{name} must be an array of at most 256 strings, each the id of a user");
        act(kind, &with(good, &json!({*name: users(PARTICIPANTS_MAX)})));
        act(kind, &with(good, &json!({*name: [] })));
        act(kind, &with(good, &json!({*name: ["u".repeat(TEXT_BYTES_MAX)]})));
        for value in [
            json!(users(PARTICIPANTS_MAX + 1)),
            json!("User2"),
            json!([""]),
            json!([1]),
            json!(["u".repeat(TEXT_BYTES_MAX + 1)]),
        ] {
            check_refused(kind, &with(good, &json!({*name: value})), &wrong);
        }
        let missing =
            format!("{name} is missing: an array of at most 256 strings, each the id of a user");
        check_refused(kind, &with(good, &json!({*name: null})), &missing);
    }
}

#[test]
fn a_call_is_told_to_those_who_are_invited() {
    let good = json!({"chatId": "User2", "callId": "k-1", "userId": "User1", "participantsInvited": ["User2", "User3"]});
    let told = r#"{"callId":"k-1","userId":"User1","participantsInvited":["User2","User3"]}"#;
    let to = vec!["User2".into(), "User3".into()];
    let expected = Act::Tell { to, told: saying("newCall", None, told), said: None };
    assert_eq!(act("newCall", &good), expected);
    for kind in ["video", "audio"] {
        let Act::Tell { told, .. } = act("newCall", &with(&good, &json!({"callType": kind})))
        else {
            panic!("{kind}")
        };
        let content = format!(
            r#"{{"callId":"k-1","userId":"User1","participantsInvited":["User2","User3"],"callType":"{kind}"}}"#
        );
        assert_eq!(told, saying("newCall", None, &content));
    }
    check_fields(
        "newCall",
        &good,
        &[
            (json!({"callId": null}), "callId is missing: a string of at most 250 bytes"),
            (json!({"callId": 7}), "callId must be a string"),
            (json!({"userId": null}), "userId is missing: the id of the user who calls"),
            (json!({"userId": 7}), "userId must be a string"),
            (json!({"callType": "phone"}), "callType must be `video` or `audio`"),
            (json!({"callType": 1}), "callType must be `video` or `audio`"),
        ],
    );
    check_bounds_of_calls("newCall", &good, &["participantsInvited"]);
}

#[test]
fn the_end_of_a_call_is_told_and_kept() {
    let good = json!({
        "chatId": "User2", "callId": "k-1", "userIdCreateCall": "User1", "participantsInvited": ["User2", "User3"],
        "participantsConnected": ["User2"], "callDuration": 61.5, "callType": "video",
    });
    let told = r#"{"callId":"k-1","userIdCreateCall":"User1","participantsInvited":["User2","User3"],"participantsConnected":["User2"],"callType":"video","callDuration":61.5}"#;
    let kept = r#"{"callId":"k-1","caller":"User1","participants":["User2"],"callType":"video","callDuration":61.5}"#;
    let expected = Act::Tell {
        to: vec!["User2".into(), "User3".into(), "User1".into()],
        told: saying("closeCall", None, told),
        said: Some(saying("call", Some("call-k-1"), kept)),
    };
    assert_eq!(act("closeCall", &good), expected);
    for (invited, expected) in [
        (json!([]), vec![]),
        (json!(["User1"]), vec!["User1".into()]),
        (json!(["User2"]), vec!["User2".into(), "User1".into()]),
    ] {
        let request = with(&good, &json!({"participantsInvited": invited}));
        let Act::Tell { to, .. } = act("closeCall", &request) else { panic!("{request}") };
        assert_eq!(to, expected, "who called is told, and nobody alone where all are");
    }
    let duration = "callDuration must be a number of seconds, not negative";
    check_fields(
        "closeCall",
        &good,
        &[
            (json!({"callId": ""}), "callId is missing: a string of at most 250 bytes"),
            (json!({"callId": []}), "callId must be a string"),
            (
                json!({"userIdCreateCall": null}),
                "userIdCreateCall is missing: the id of the user who called",
            ),
            (json!({"userIdCreateCall": 7}), "userIdCreateCall must be a string"),
            (json!({"callType": "phone"}), "callType must be `video` or `audio`"),
            (
                json!({"callDuration": null}),
                "callDuration is missing: a number of seconds, not negative",
            ),
            (json!({"callDuration": "61"}), duration),
            (json!({"callDuration": -1}), duration),
        ],
    );
    check_bounds_of_calls("closeCall", &good, &["participantsInvited", "participantsConnected"]);
}
