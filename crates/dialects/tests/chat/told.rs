//! What clients hear: answers, errors, and publications of every kind, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::content::Content;
use roomcast_protocol::conversation::{Amends, Answered, Conversation, Message, Origin, dialog};
use roomcast_protocol::outbound::{Entry, Loss, Outbound};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::receipts::Mark;
use roomcast_protocol::room::RoomName;

use crate::common::{answer, at, copy, heard, json_of, of_message, publication};

#[track_caller]
fn check_answer(answered: &Answered, payload: &str) {
    let expected = format!(r#"{{"type":"response","timestamp":9,"id":"r-1"{payload}}}"#);
    assert_eq!(answer("r-1", "User1", answered, 9), expected);
}

#[test]
fn what_is_said_is_answered_with_its_number_and_its_id() {
    let said = Answered::Said { position: at(125), id: "c-\"1".into(), at_unix_ms: 8 };
    let payload = r#","payload":{"messageId":125,"timestamp":8,"clientMessageId":"c-\"1"}"#;
    check_answer(&said, payload);
    check_answer(&Answered::Done, "");
}

#[test]
fn marks_are_answered_with_what_stands() {
    let marked = |mark, offset, unread| Answered::Marked {
        mark,
        with: "User2".into(),
        offset,
        id: if offset > 0 { "c-1".into() } else { "".into() },
        at_unix_ms: offset,
        unread,
    };
    let delivered = |offset| marked(Mark::Delivered, offset, 3);
    check_answer(&delivered(125), r#","payload":{"messageId":125,"timestamp":125}"#);
    check_answer(&delivered(1), r#","payload":{"messageId":1,"timestamp":1}"#);
    check_answer(&delivered(0), r#","payload":{}"#);
    check_answer(
        &marked(Mark::Read, 125, 3),
        r#","payload":{"chatId":"User2","messageId":125,"clientMessageId":"c-1","timestamp":125,"missed":3}"#,
    );
    check_answer(
        &marked(Mark::Read, 0, 0),
        r#","payload":{"chatId":"User2","messageId":0,"missed":0}"#,
    );
}

/// A message at an offset of the dialog of `User1` and `User2`, at the time of its offset.
fn message(offset: u64, sender: &str, kind: &str, content: Content) -> Message {
    let said = Publication {
        sender: sender.into(),
        id: format!("c-{offset}").into(),
        position: Some(at(offset)),
        ..publication("dialog-User1:User2", kind, content, offset)
    };
    Message { said: Arc::new(said), edited: None, erased_unix_ms: None, mark: None }
}

#[track_caller]
fn check_message(message: Message, expected: &str) {
    let sender = message.said.sender.clone();
    let payload = format!(r#","payload":{{"messages":[{expected}],"authors":["{sender}"]}}"#);
    check_answer(&Answered::Messages(vec![message]), &payload);
}

#[test]
fn a_message_shows_how_far_it_got() {
    for (mark, status) in
        [(None, "undelivered"), (Some(Mark::Delivered), "unread"), (Some(Mark::Read), "read")]
    {
        let content =
            json_of(r#"{"message":"hi","attachments":[{"id":1.50}],"replyTo":3,"forwarded":{}}"#);
        let told = Message { mark, ..message(5, "User2", "new", content) };
        let expected = format!(
            r#"{{"messageId":5,"sender":"User2","clientMessageId":"c-5","type":"new","message":"hi","attachments":[{{"id":1.50}}],"replyTo":3,"forwarded":{{}},"timestamp":5,"status":"{status}"}}"#
        );
        check_message(told, &expected);
    }
}

#[test]
fn an_edit_stands_in_the_place_of_what_it_changes() {
    let edited = |said: &str, edit: &str| {
        let edit = message(6, "User1", "edit", json_of(edit));
        Message { edited: Some(edit.said), ..message(5, "User1", "new", json_of(said)) }
    };
    let expected = |members: &str| {
        format!(
            r#"{{"messageId":5,"sender":"User1","clientMessageId":"c-5","type":"new",{members},"edited":true,"timestamp":5,"status":"undelivered"}}"#
        )
    };
    let said = r#"{"message":"hi","attachments":[1],"replyTo":3}"#;
    let told = expected(r#""attachments":[1],"replyTo":3,"message":"ho""#);
    check_message(edited(said, r#"{"message":"ho"}"#), &told);
    let told = expected(r#""replyTo":3,"attachments":[],"message":"ho""#);
    check_message(edited(said, r#"{"message":"ho","attachments":[]}"#), &told);
    let twice = r#"{"message":"hi","message":"hi again"}"#;
    check_message(edited(twice, r#"{"message":"ho"}"#), &expected(r#""message":"ho""#));
    let forged = r#"{"message":"ho","status":"read","messageId":1,"sender":"x"}"#;
    check_message(edited(forged, forged), &expected(r#""message":"ho""#));
}

#[test]
fn a_message_that_was_taken_back_is_blanked() {
    let content =
        json_of(r#"{"message":"hi","attachments":[1],"replyTo":3,"forwarded":{"text":"hi"}}"#);
    let edit = message(6, "User1", "edit", json_of(r#"{"message":"ho"}"#)).said;
    let told = Message {
        erased_unix_ms: Some(77),
        edited: Some(edit),
        mark: Some(Mark::Read),
        ..message(5, "User1", "new", content)
    };
    check_message(
        told,
        r#"{"messageId":5,"sender":"User1","clientMessageId":"c-5","type":"new","message":"","attachments":[],"replyTo":3,"timestamp":5,"status":"deleted","deletedAt":77}"#,
    );
}

#[test]
fn what_a_conversation_keeps_of_a_call_is_its_payload() {
    let content =
        json_of(r#"{"callId":"k","caller":"User2","participants":["User1"],"callDuration":7}"#);
    check_message(
        message(5, "User2", "call", content),
        r#"{"messageId":5,"sender":"User2","clientMessageId":"c-5","type":"call","payload":{"direction":"incoming","status":"received","callId":"k","caller":"User2","participants":["User1"],"callDuration":7},"timestamp":5,"status":"undelivered"}"#,
    );
}

#[test]
fn what_is_no_object_is_told_as_data() {
    for (content, data) in [
        (Content::Text("h\"i".into()), r#""h\"i""#),
        (Content::Binary(Bytes::from_static(b"\xff\xfe\x00bin")), r#""//4AYmlu""#),
        (json_of("[1.50]"), "[1.50]"),
    ] {
        let expected = format!(
            r#"{{"messageId":5,"sender":"s","clientMessageId":"c-5","type":"new","data":{data},"timestamp":5,"status":"undelivered"}}"#
        );
        check_message(message(5, "s", "new", content), &expected);
    }
}

#[test]
fn messages_come_with_each_author_once() {
    let list = [(1, "b"), (2, "a"), (3, "b")]
        .map(|(offset, sender)| message(offset, sender, "new", json_of("{}")));
    let answered = answer("r", "a", &Answered::Messages(list.to_vec()), 9);
    assert!(answered.ends_with(r#"],"authors":["a","b"]}}"#), "{answered}");
    assert_eq!(answered.matches("messageId").count(), 3);
    check_answer(&Answered::Messages(Vec::new()), r#","payload":{"messages":[],"authors":[]}"#);
}

#[test]
fn chats_are_told_as_a_list_and_one_as_itself() {
    let dialog = Conversation {
        with: "User2".into(),
        people: vec!["User1".into(), "User2".into()],
        last: Some(message(5, "User2", "new", json_of(r#"{"message":"hi"}"#))),
        unread: 2,
        first_unread: Some(4),
        group: false,
        owners: Vec::new(),
        online: None,
        seen_unix_ms: None,
    };
    let alone = Conversation {
        with: "User1".into(),
        people: vec!["User1".into()],
        last: None,
        unread: 0,
        first_unread: None,
        group: false,
        owners: Vec::new(),
        online: None,
        seen_unix_ms: None,
    };
    let told = r#"{"chatId":"User2","type":"dialog","participants":["User1","User2"],"lastMessage":{"messageId":5,"sender":"User2","clientMessageId":"c-5","type":"new","message":"hi","timestamp":5,"status":"undelivered"},"missed":2,"firstMissed":4}"#;
    let favorites = r#"{"chatId":"User1","type":"favorites","participants":["User1"],"missed":0}"#;
    let chats = |one, list: &[&Conversation]| Answered::Conversations {
        one,
        list: list.iter().map(|&chat| chat.clone()).collect(),
    };
    check_answer(&chats(true, &[&dialog]), &format!(r#","payload":{told}"#));
    check_answer(&chats(false, &[&dialog, &alone]), &format!(r#","payload":[{told},{favorites}]"#));
    for (online, seen_unix_ms, shown) in [
        (Some(true), None, r#","online":true"#),
        (Some(false), None, r#","online":false"#),
        (Some(false), Some(7), r#","online":false,"lastSeen":7"#),
    ] {
        let chat = Conversation { online, seen_unix_ms, ..dialog.clone() };
        let told = told.strip_suffix('}').unwrap();
        check_answer(&chats(true, &[&chat]), &format!(r#","payload":{told}{shown}}}"#));
    }
    check_answer(&chats(false, &[]), r#","payload":[]"#);
    check_answer(&chats(true, &[]), r#","payload":{}"#);
}

#[track_caller]
fn check_error(id: Option<&str>, refusal: Refusal, raw: Option<&str>, expected: &str) {
    let reply = ReplyTo { id: id.map(Into::into), ..ReplyTo::default() };
    let refused = Refused::because(refusal, "Wrong \"x\"".into());
    let told = heard(&Outbound::Refused { reply: &reply, refused: &refused, raw }).unwrap();
    assert_eq!(told, format!(r#"{{"error":{{{expected}"exception":"Wrong \"x\""}}}}"#));
}

#[test]
fn errors_name_the_request_else_repeat_the_frame_else_say_what_is_wrong() {
    for refusal in Refusal::ALL {
        let kind = if refusal == Refusal::Duplicate { "warning" } else { "error" };
        for raw in [None, Some("raw")] {
            check_error(Some("7"), refusal, raw, &format!(r#""id":"7","type":"{kind}","#));
        }
        check_error(None, refusal, Some("a\n\"b"), r#""incomingMessage":"a\n\"b","#);
        check_error(None, refusal, None, "");
    }
}

#[track_caller]
fn check_event(publication: &Publication, expected: &str) {
    for outbound in [Outbound::Publication(publication), Outbound::Redelivered(publication)] {
        assert_eq!(heard(&outbound).unwrap(), format!(r#"{{"type":"event",{expected}}}"#));
    }
}

#[test]
fn what_is_said_reads_as_the_owner_of_the_inbox_sees_it() {
    let content = r#"{"message":"hi","attachments":[{"a":1.50}],"replyTo":3}"#;
    let origin = Origin { unread: Some(2), ..of_message("c-1", 7) };
    let to_other = copy("User2", 4, "new", content, 9, origin.clone());
    check_event(
        &to_other,
        r#""timestamp":9,"id":4,"eventType":"new","payload":{"chatId":"User1","sender":"User1","messageId":125,"clientMessageId":"c-1","message":"hi","attachments":[{"a":1.50}],"replyTo":3,"timestamp":7,"missed":2}"#,
    );
    let to_author = copy("User1", 5, "new", r#"{"message":"hi"}"#, 9, of_message("c-1", 7));
    check_event(
        &to_author,
        r#""timestamp":9,"id":5,"eventType":"new","payload":{"chatId":"User2","sender":"User1","messageId":125,"clientMessageId":"c-1","message":"hi","timestamp":7}"#,
    );
    let forged =
        r#"{"chatId":"x","sender":"x","messageId":1,"timestamp":1,"missed":9,"message":"hi"}"#;
    check_event(
        &copy("User2", 4, "new", forged, 9, of_message("c-1", 7)),
        r#""timestamp":9,"id":4,"eventType":"new","payload":{"chatId":"User1","sender":"User1","messageId":125,"clientMessageId":"c-1","message":"hi","timestamp":7}"#,
    );
}

#[test]
fn favourites_are_a_chat_with_oneself() {
    let room = dialog("User1", "User1").unwrap();
    let origin = Origin { position: Some(at(3)), id: "c".into(), ..Origin::of(room, 7) };
    check_event(
        &copy("User1", 5, "new", r#"{"message":"hi"}"#, 9, origin),
        r#""timestamp":9,"id":5,"eventType":"new","payload":{"chatId":"User1","sender":"User1","messageId":3,"clientMessageId":"c","message":"hi","timestamp":7}"#,
    );
}

#[test]
fn edits_and_deletions_name_what_they_change() {
    let amended = |erases, id: &str| Origin {
        amends: Some(Amends { offset: 120, id: id.into(), erases }),
        ..of_message("c-2", 7)
    };
    check_event(
        &copy("User2", 4, "edit", r#"{"message":"ho"}"#, 9, amended(false, "c-1")),
        r#""timestamp":9,"id":4,"eventType":"edit","payload":{"chatId":"User1","sender":"User1","messageId":125,"clientMessageId":"c-2","originalMessageId":120,"originalClientMessageId":"c-1","message":"ho","timestamp":7}"#,
    );
    check_event(
        &copy("User2", 4, "delete", "null", 9, amended(true, "")),
        r#""timestamp":9,"id":4,"eventType":"delete","payload":{"chatId":"User1","sender":"User1","messageId":125,"clientMessageId":"c-2","originalMessageId":120,"timestamp":7}"#,
    );
}

#[test]
fn marks_are_told_without_who_made_them() {
    for (kind, told) in [("delivered", "dlvrd"), ("read", "read")] {
        let marked = copy("User1", 4, kind, r#"{"x":1}"#, 9, of_message("c-1", 7));
        let expected = format!(
            r#""timestamp":9,"id":4,"eventType":"{told}","payload":{{"chatId":"User2","messageId":125,"clientMessageId":"c-1","timestamp":7}}"#
        );
        check_event(&marked, &expected);
        let plain = publication("news", kind, json_of("{}"), 9);
        let expected =
            format!(r#""timestamp":9,"eventType":"{kind}","payload":{{"chatId":"news"}}"#);
        check_event(&plain, &expected);
    }
}

#[test]
fn who_is_online_is_told_by_the_users_id_and_when_it_was_by_the_time() {
    for (kind, beside) in [("online", ""), ("offline", r#","lastSeen":7"#)] {
        let mut told = publication("user-User2", kind, json_of(r#"{"userId":"x"}"#), 9);
        told.position = Some(at(3));
        // Without an origin it is somebody else's, and has no meaning here.
        let plain = format!(
            r#""timestamp":9,"id":3,"eventType":"{kind}","payload":{{"chatId":"user-User2","userId":"x"}}"#
        );
        check_event(&told, &plain);
        let about = Origin::of(RoomName::parse("user-a:User\u{e9}1").unwrap(), 7);
        told.origin = Some(Box::new(Origin { position: Some(at(12)), ..about }));
        let expected = format!(
            r#""timestamp":9,"id":3,"eventType":"{kind}","payload":{{"userId":"a:Useré1"{beside}}}"#
        );
        check_event(&told, &expected);
    }
}

#[test]
fn typing_has_neither_a_sender_nor_an_id() {
    let mut signal =
        publication("user-User2", "typing", json_of(r#"{"stop":true,"chatId":"x"}"#), 9);
    signal.sender = "User1".into();
    signal.origin = Some(Box::new(Origin::of(dialog("User1", "User2").unwrap(), 7)));
    check_event(
        &signal,
        r#""timestamp":9,"eventType":"typing","payload":{"chatId":"User1","stop":true}"#,
    );
}

#[track_caller]
fn check_call(user: &str, content: &str, seen: &str) {
    let chat = if user == "User1" { "User2" } else { "User1" };
    let expected = format!(
        r#""timestamp":9,"id":4,"eventType":"call","payload":{{"chatId":"{chat}","sender":"User1","messageId":125,"clientMessageId":"call-k",{seen},"timestamp":7}}"#
    );
    check_event(&copy(user, 4, "call", content, 9, of_message("call-k", 7)), &expected);
}

#[test]
fn a_call_shows_its_direction_and_whether_one_was_in_it() {
    let of = |people: &str| {
        format!(
            r#""callId":"k","caller":"User1","participants":{people},"callType":"video","callDuration":7"#
        )
    };
    for (user, people, direction, status) in [
        ("User1", r#"["User1","User2"]"#, "outgoing", "received"),
        ("User1", r#"["User2"]"#, "outgoing", "missed"),
        ("User2", r#"["User1","User2"]"#, "incoming", "received"),
        ("User2", r#"["User1"]"#, "incoming", "missed"),
        ("User2", "[]", "incoming", "missed"),
    ] {
        let members = of(people);
        let seen = format!(r#""direction":"{direction}","status":"{status}",{members}"#);
        check_call(user, &format!("{{{members}}}"), &seen);
        let forged = format!(r#"{{"direction":"x","status":"x",{members}}}"#);
        check_call(user, &forged, &seen);
    }
    check_call("User2", r#"{"callId":"k"}"#, r#""status":"missed","callId":"k""#);
}

#[test]
fn calls_are_told_with_all_that_was_said_of_them() {
    let content = r#"{"callId":"k","userId":"User1","participantsInvited":["User2"]}"#;
    let origin = Origin { position: None, ..of_message("newCall-1", 7) };
    check_event(
        &copy("User2", 4, "newCall", content, 9, origin),
        r#""timestamp":9,"id":4,"eventType":"newCall","payload":{"chatId":"User1","sender":"User1","callId":"k","userId":"User1","participantsInvited":["User2"],"timestamp":7}"#,
    );
}

#[test]
fn whoever_is_not_one_of_its_people_reads_the_conversations_own_name() {
    let elsewhere = copy("User3", 4, "new", r#"{"message":"hi"}"#, 9, of_message("c-1", 7));
    check_event(
        &elsewhere,
        r#""timestamp":9,"id":4,"eventType":"new","payload":{"chatId":"dialog-User1:User2","sender":"User1","messageId":125,"clientMessageId":"c-1","message":"hi","timestamp":7}"#,
    );
    let within = Publication {
        room: RoomName::parse("dialog-User1:User2").unwrap(),
        ..copy("User2", 4, "call", r#"{"caller":"User1"}"#, 9, of_message("c-1", 7))
    };
    check_event(
        &within,
        r#""timestamp":9,"eventType":"call","payload":{"chatId":"dialog-User1:User2","sender":"User1","messageId":125,"clientMessageId":"c-1","caller":"User1","timestamp":7}"#,
    );
}

#[track_caller]
fn check_plain(content: Content, payload: &str) {
    let told = publication("news", "message", content, 9);
    check_event(&told, &format!(r#""timestamp":9,"eventType":"message","payload":{payload}"#));
}

#[test]
fn publications_of_other_rooms_have_their_room_as_chat() {
    check_plain(json_of(r#"{"b":1.50,"a b":[1]}"#), r#"{"chatId":"news","b":1.50,"a b":[1]}"#);
    check_plain(json_of("{}"), r#"{"chatId":"news"}"#);
    check_plain(json_of(r#"{"b":1.50,"chatId":7}"#), r#"{"b":1.50,"chatId":7}"#);
    check_plain(json_of(r#"{"chat\u0049d":null}"#), r#"{"chat\u0049d":null}"#);
    check_plain(json_of(r#"{"a\"\u0001":1}"#), r#"{"chatId":"news","a\"\u0001":1}"#);
    check_plain(json_of("[1,2.0]"), r#"{"chatId":"news","data":[1,2.0]}"#);
    check_plain(json_of("null"), r#"{"chatId":"news","data":null}"#);
    check_plain(Content::Text("h\"i".into()), r#"{"chatId":"news","data":"h\"i"}"#);
    let bytes = Content::Binary(Bytes::from_static(b"\xff\xfe\x00bin"));
    check_plain(bytes, r#"{"chatId":"news","data":"//4AYmlu"}"#);
}

#[test]
fn only_what_stands_in_ones_own_room_has_an_id() {
    let at_room = |room: &str, position| Publication {
        position,
        ..publication(room, "message", json_of("{}"), 9)
    };
    let expected = |id: &str, room: &str| {
        format!(r#""timestamp":9,{id}"eventType":"message","payload":{{"chatId":"{room}"}}"#)
    };
    check_event(&at_room("user-a", Some(at(4))), &expected(r#""id":4,"#, "user-a"));
    check_event(&at_room("user-a", None), &expected("", "user-a"));
    check_event(&at_room("news", Some(at(4))), &expected("", "news"));
}

#[test]
fn an_event_has_the_time_of_its_publication_else_that_of_what_it_tells() {
    let mut told = publication("news", "message", json_of("{}"), 0);
    told.timestamp = "2024-01-15T11:30:00.5+01:00".into();
    let plain = r#""eventType":"message","payload":{"chatId":"news"}"#;
    check_event(&told, &format!(r#""timestamp":1705314600500,{plain}"#));
    told.timestamp = "yesterday".into();
    check_event(&told, &format!(r#""timestamp":0,{plain}"#));
    let mut typing = publication("user-User2", "typing", json_of("{}"), 0);
    typing.timestamp = "".into();
    typing.origin = Some(Box::new(Origin::of(dialog("User1", "User2").unwrap(), 7)));
    check_event(&typing, r#""timestamp":7,"eventType":"typing","payload":{"chatId":"User1"}"#);
}

#[test]
fn what_it_has_no_words_for_is_not_said() {
    let reply = ReplyTo::default();
    let entry = Entry { position: None, recovered: None, live: true };
    for outbound in [
        Outbound::Joined { reply: &reply, room: "foo", entry },
        Outbound::Left { reply: &reply, room: "foo", ordered: false },
        Outbound::Refreshed { reply: &reply, expires_unix_ms: 1 },
        Outbound::TokenExpiring { expires_unix_ms: 1 },
        Outbound::Gap { room: None, loss: Loss::Feed },
        Outbound::Gap { room: Some(("user-a", at(4))), loss: Loss::TooOld },
        Outbound::Lost { room: "foo", count: 1 },
        Outbound::Degraded { isolated: true },
    ] {
        assert_eq!(heard(&outbound), None, "{outbound:?}");
    }
}

#[test]
fn a_group_is_told_with_its_members_roles() {
    let group = Conversation {
        with: "team".into(),
        people: vec!["a".into(), "b".into()],
        last: None,
        unread: 0,
        first_unread: None,
        group: true,
        owners: vec!["b".into()],
        online: None,
        seen_unix_ms: None,
    };
    let chats = |one| Answered::Conversations { one, list: vec![group.clone()] };
    check_answer(
        &chats(true),
        r#","payload":{"chatId":"team","type":"group","participants":["a","b"],"roles":{"a":"member","b":"owner"},"missed":0}"#,
    );
    check_answer(
        &chats(false),
        r#","payload":[{"chatId":"team","type":"group","participants":["a","b"],"missed":0}]"#,
    );
}

#[test]
fn what_is_said_in_a_group_has_a_number_with_the_groups_in_it() {
    let room = RoomName::parse("chat-team").unwrap();
    let origin = Origin { group: Some(3), ..Origin::of(room.clone(), 5) };
    let said = |kind: &str, position| Publication {
        id: "c-7".into(),
        kind: kind.into(),
        sender: "User1".into(),
        origin: Some(Box::new(origin.clone())),
        position,
        ..Publication::bare(room.clone(), json_of(r#"{"message":"hi"}"#))
    };
    // 2^42 + 3 × 2^33 + 7 of the epoch + 7.
    let told = heard(&Outbound::Publication(&said("new", Some(at(7))))).unwrap();
    let expected = r#"{"type":"event","timestamp":5,"id":4423816314894,"eventType":"new","payload":{"chatId":"team","sender":"User1","messageId":7,"clientMessageId":"c-7","message":"hi","timestamp":5}}"#;
    assert_eq!(told, expected);
    let told = heard(&Outbound::Publication(&said("typing", None))).unwrap();
    let expected = r#"{"type":"event","timestamp":5,"eventType":"typing","payload":{"chatId":"team","userId":"User1","message":"hi"}}"#;
    assert_eq!(told, expected);
}
