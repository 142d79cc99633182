//! `pub`, `sub` and `agent` against a real node.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::common::{LIMIT, Node, Running, fresh_path, json_lines, output, with_input};

/// A listener whose rooms are joined: the log says so.
#[track_caller]
fn listening(command: &mut Command, rooms: usize) -> Running {
    let child = command
        .args(["--log", "info"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Running(child.spawn().unwrap());
    let log = BufReader::new(child.0.stderr.take().unwrap());
    let (sender, joined) = mpsc::channel();
    // Reads on to the end: a full or closed pipe would disturb the listener.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok).filter(|line| line.contains("joined")) {
            drop(sender.send(line));
        }
    });
    for _ in 0..rooms {
        joined.recv_timeout(LIMIT).unwrap();
    }
    child
}

#[track_caller]
fn heard(mut listener: Running) -> Vec<serde_json::Value> {
    let stdout = listener.0.stdout.take().unwrap();
    let reading = std::thread::spawn(move || std::io::read_to_string(stdout));
    let status = crate::common::ended(&mut listener.0);
    let text = reading.join().unwrap().unwrap();
    assert!(status.success(), "{status}: {text}");
    json_lines(text.as_bytes())
}

#[test]
fn sub_hears_what_pub_says_in_order_and_in_both_formats() {
    let node = Node::start(&[]);
    for (publisher, subscriber) in [("json", "msgpack"), ("msgpack", "json")] {
        let mut sub = node.command("sub");
        sub.args(["system", "tasks", "--count", "3", "--timeout", "15s", "--format", subscriber]);
        let listener = listening(&mut sub, 2);
        let mut publish = node.command("pub");
        publish.args(["system", "--type", "note", "--priority", "high", "--format", publisher]);
        publish.args(["--id", publisher]);
        let published = with_input(&mut publish, "{\"n\":1}\n\n\"two\"\n[3,null]\n");
        assert!(published.status.success(), "{published:?}");
        let acks = json_lines(&published.stdout);
        assert_eq!(acks.len(), 3);
        assert_eq!(acks[0]["ack"]["level"], "accepted");
        assert_eq!(acks[0]["id"], format!("{publisher}-1"));
        let heard = heard(listener);
        let data: Vec<_> = heard.iter().map(|publication| &publication["data"]).collect();
        assert_eq!(serde_json::json!(data), serde_json::json!([{"n": 1}, "two", [3, null]]));
        assert!(heard.iter().all(|publication| publication["type"] == "note"
            && publication["room"] == "system"
            && publication["metadata"]["priority"] == "high"));
    }
}

#[test]
fn tokens_travel_in_query_header_and_first_frame() {
    let node = Node::start(&[]);
    for token_in in ["query", "header", "frame"] {
        let mut publish = node.command("pub");
        let published = output(publish.args(["system", "hello", "--token-in", token_in]));
        assert!(published.status.success(), "{token_in}: {published:?}");
    }
}

#[test]
fn a_bad_token_and_a_missing_right_end_with_exit_code_3() {
    let node = Node::start(&[]);
    let mut bad = crate::common::roomcast();
    let refused =
        output(bad.args(["pub", "system", "1", "--token", "x.y.z", "--url", &node.url()]));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let nobody =
        output(crate::common::roomcast().args(["token", "mint", "--dev", "--sub", "nobody"]));
    let token = String::from_utf8(nobody.stdout).unwrap();
    for args in
        [["sub", "system"].as_slice(), &["pub", "system", "1"], &["pub", "system", "1", "--no-ack"]]
    {
        let mut command = crate::common::roomcast();
        let refused =
            output(command.args(args).args(["--token", token.trim(), "--url", &node.url()]));
        assert_eq!(refused.status.code(), Some(3), "{args:?}: {refused:?}");
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains("Permission denied"), "{args:?}: {text}");
    }
}

#[test]
fn a_silent_room_ends_with_exit_code_4_and_bad_usage_with_2() {
    let node = Node::start(&[]);
    let silent = output(node.command("sub").args(["system", "--count", "1", "--timeout", "200ms"]));
    assert_eq!(silent.status.code(), Some(4), "{silent:?}");
    let enough = output(node.command("sub").args(["system", "--timeout", "200ms"]));
    assert_eq!(enough.status.code(), Some(0), "{enough:?}");
    let not_json = with_input(node.command("pub").args(["system", "-"]), "1\n{oops\n");
    assert_eq!(not_json.status.code(), Some(2), "{not_json:?}");
    assert!(String::from_utf8(not_json.stderr).unwrap().contains("line 2 of stdin"));
    let no_token = output(crate::common::roomcast().args(["sub", "system"]));
    assert_eq!(no_token.status.code(), Some(2), "{no_token:?}");
    let nobody =
        output(crate::common::roomcast().args(["sub", "x", "--dev", "--url", "ws://127.0.0.1:1"]));
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn an_agent_reports_this_machine_into_both_rooms() {
    let node = Node::start(&[]);
    let mut sub = node.command("sub");
    sub.args(["agents", "agent-7", "--type", "agent_status", "--count", "4", "--timeout", "15s"]);
    let listener = listening(&mut sub, 2);
    let mut agent = node.command("agent");
    agent.args(["--id", "7", "--hostname", "test-host", "--interval", "100ms", "--count", "2"]);
    let reported = output(&mut agent);
    assert!(reported.status.success(), "{reported:?}");
    let heard = heard(listener);
    for room in ["agents", "agent-7"] {
        let of_room: Vec<_> = heard.iter().filter(|report| report["room"] == room).collect();
        assert_eq!(of_room.len(), 2, "{heard:?}");
        for report in of_room {
            let data = &report["data"];
            assert_eq!(
                (data["agent_id"].as_u64(), data["status"].as_str()),
                (Some(7), Some("online"))
            );
            assert_eq!(data["hostname"], "test-host");
            assert!(data["memory_usage"].as_f64().unwrap() > 0.0, "{data}");
            assert!(data["network_io"]["bytes_sent"].is_u64(), "{data}");
        }
    }
}

#[test]
fn an_agent_comes_back_after_its_node() {
    let node = Node::start(&[]);
    let url = node.url();
    let mut agent = crate::common::roomcast();
    agent.args(["agent", "--dev", "--url", &url, "--id", "7", "--interval", "50ms"]);
    let _agent = Running(agent.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let hear_one = |node: &Node| {
        let sub = &mut node.command("sub");
        output(sub.args(["agent-7", "--type", "agent_status", "--count", "1", "--timeout", "10s"]))
    };
    assert!(hear_one(&node).status.success());
    let address = node.ready["public"].as_str().unwrap().to_owned();
    drop(node);
    let node = Node::start_at(&address, &[]);
    assert_eq!(node.url(), url);
    let heard = hear_one(&node);
    assert!(heard.status.success(), "{heard:?}");
}

#[test]
fn sub_shows_the_rooms_that_were_asked_for_and_leaves_what_waits_elsewhere() {
    let rules = fresh_path("rules.toml");
    let own = "[[rooms]]\nmatch = \"user-{id}\"\nrequires_ack = true\ncursor = \"user\"\n\
        publish = \"user.kind == 'backend'\"\njoin = \"user.id == id\"\n\
        history = { size = 10 }\n";
    for (rules_text, way) in
        [("", None), ("", Some("--follow")), (own, None), (own, Some("--follow"))]
    {
        std::fs::write(&rules, rules_text).unwrap();
        let node = Node::start(&["--config", &rules.display().to_string()]);
        let say = |room: &str, data: &str| {
            let published = output(node.command("pub").args([room, data]));
            assert!(published.status.success(), "{published:?}");
        };
        let sub = |room: &str, count: &str| {
            let mut sub = node.command("sub");
            sub.args([room, "--as", "ann", "--count", count, "--timeout", "15s"]).args(way);
            sub
        };
        say("user-ann", "waits");
        let listener = listening(&mut sub("system", "1"), 1);
        say("user-ann", "goes on waiting");
        say("system", "news");
        let data = |heard: Vec<serde_json::Value>| -> Vec<_> {
            heard.iter().map(|publication| publication["data"].clone()).collect()
        };
        assert_eq!(data(heard(listener)), ["news"], "{rules_text} {way:?}");
        let own = output(&mut sub("user-ann", "2"));
        assert!(own.status.success(), "{own:?}");
        assert_eq!(data(json_lines(&own.stdout)), ["waits", "goes on waiting"]);
    }
    std::fs::remove_file(rules).unwrap();
}
