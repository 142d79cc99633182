//! The commands of the server API against a real node.

use serde_json::json;

use crate::common::{Node, fresh_path, json_lines, output, roomcast, with_input};

/// A command that talks to this node's server API.
fn command(node: &Node, words: &[&str]) -> std::process::Command {
    let mut command = roomcast();
    let internal = node.ready["internal"].as_str().unwrap();
    command.args(words).args(["--api", &format!("http://{internal}")]);
    command
}

#[test]
fn what_was_published_many_at_once_is_read_back_from_history() {
    let node = Node::start(&[]);
    let line = |n: u64| format!("{{\"room\":\"demo-team\",\"type\":\"note\",\"data\":{n}}}\n");
    let lines: String = (1..=250).map(line).collect();
    let file = fresh_path("batch.jsonl");
    std::fs::write(&file, &lines).unwrap();
    let words = ["pub", "--id", "import", "--batch", file.to_str().unwrap()];
    let published = output(&mut command(&node, &words));
    let again = with_input(&mut command(&node, &["pub", "--id", "import", "--batch", "-"]), &lines);
    std::fs::remove_file(file).unwrap();
    assert!(published.status.success(), "{published:?}");
    assert_eq!(json_lines(&published.stdout), json_lines(&again.stdout), "sent again, done once");
    assert_eq!(json_lines(&published.stdout).last().unwrap()["id"], "import-3/49");
    let newest = output(&mut command(&node, &["history", "demo-team", "--limit", "3"]));
    let data = |bytes: &[u8]| {
        json_lines(bytes).iter().map(|it| it["data"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(data(&newest.stdout), [250, 249, 248]);
    // The room keeps 100.
    let words = ["history", "demo-team", "--direction", "forward", "--all"];
    assert_eq!(data(&output(&mut command(&node, &words)).stdout), (151..=250).collect::<Vec<_>>());
}

#[test]
fn what_some_rooms_do_not_take_is_told_with_the_others() {
    let node = Node::start(&[]);
    let sent = output(&mut command(&node, &["broadcast", "system,nowhere", "plain text"]));
    assert_eq!(sent.status.code(), Some(1), "{sent:?}");
    let results = json_lines(&sent.stdout);
    assert_eq!((&results[0]["room"], &results[0]["status"]), (&json!("system"), &json!(200)));
    assert_eq!((&results[1]["room"], &results[1]["code"]), (&json!("nowhere"), &json!(110)));
}

#[test]
fn a_refusal_says_why_and_a_bad_address_what_to_write() {
    let node = Node::start(&[]);
    let kept = output(&mut command(&node, &["history", "system"]));
    assert_eq!(kept.status.code(), Some(1));
    let text = String::from_utf8(kept.stderr).unwrap();
    assert!(text.contains("400 schema: This room keeps no history"), "{text}");
    let secure = output(roomcast().args(["history", "a", "--api", "https://localhost"]));
    assert_eq!(secure.status.code(), Some(2));
}

#[test]
fn a_disconnected_user_is_counted() {
    let node = Node::start(&[]);
    let ended = output(&mut command(&node, &["disconnect", "7", "--timeout", "1s"]));
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(json_lines(&ended.stdout)[0]["disconnected"], 0);
}

#[test]
fn webhooks_of_a_node_without_dead_letters_list_and_replay_none() {
    let node = Node::start(&[]);
    let dead = output(&mut command(&node, &["webhooks", "dead"]));
    assert!(dead.status.success() && dead.stdout.is_empty(), "{dead:?}");
    for words in [&["webhooks", "replay", "--all"][..], &["webhooks", "replay", "7"]] {
        let done = output(&mut command(&node, words));
        assert!(done.status.success(), "{words:?}: {done:?}");
        assert_eq!(json_lines(&done.stdout)[0]["queued"], 0, "{words:?}");
    }
}

#[test]
fn orders_and_lists_of_a_node_without_sessions_are_empty() {
    let node = Node::start(&[]);
    let session = "000000000000000000000000000000a1";
    for (words, member, value) in [
        (&["rooms", "--prefix", "task-"][..], "rooms", json!([])),
        (&["connections", "--limit", "5"], "connections", json!([])),
        (&["sessions", "gs:7"], "sessions", json!([])),
        (&["disconnect", "--session", session], "disconnected", json!(0)),
        (&["revoke", "7"], "disconnected", json!(0)),
        (&["revoke", "--jti", "t-1"], "disconnected", json!(0)),
        (&["subscribe", "system", "7"], "subscribed", json!(0)),
        (&["unsubscribe", "system", "--session", session], "unsubscribed", json!(0)),
    ] {
        let done = output(&mut command(&node, words));
        assert!(done.status.success(), "{words:?}: {done:?}");
        let answer = &json_lines(&done.stdout)[0];
        assert_eq!((&answer[member], &answer["unanswered"]), (&value, &json!([])), "{words:?}");
    }
}
