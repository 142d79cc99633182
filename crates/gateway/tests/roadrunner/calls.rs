//! What good back-ends see: the captured answers, in the order of their calls, and members that hear them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::caller::{self, Caller, Stream, call, field, request};
use crate::common::Live;

const PUBLISH: &str = "broadcast.Publish";

/// Calls of the pipelining test.
const CALLS: u32 = 100_000;

/// Anybody may join and back-ends publish everywhere; RPC over TCP, and what is added.
pub(crate) fn node(more: &str) -> Live {
    Live::with_file(&format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n\
         [[rooms]]\nmatch = \"demo\"\njoin = \"true\"\npublish = \"true\"\n\
         [[rooms]]\nmatch = \"closed\"\njoin = \"true\"\npublish = \"false\"\n\
         [[rooms]]\nmatch = \"typed\"\njoin = \"true\"\ntypes = [\"note\"]\n\
         [[rooms]]\nmatch = \"{{any}}\"\njoin = \"true\"\nhistory = {{}}\n{more}"
    ))
}

pub(crate) const TCP: &str = "[rpc]\nlisten = [\"tcp://127.0.0.1:0\"]\n";

/// A socket's path that no other test has.
fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("roomcast-{}-{name}.sock", std::process::id()))
}

#[track_caller]
fn replayed<S: Stream>(dial: impl Fn() -> Caller<S>) {
    let calls = caller::of_php();
    assert_eq!(calls.len(), 4);
    let mut all = dial();
    let mut expected = Vec::new();
    for captured in &calls {
        all.send(&captured.request());
        expected.extend(captured.response());
    }
    assert_eq!(all.rest(), expected);
    let mut count = 0;
    for captured in calls.into_iter().chain(caller::of_others()) {
        let mut one = dial();
        one.send(&captured.request());
        assert_eq!(one.rest(), captured.response(), "{}", captured.name);
        count += 1;
    }
    assert_eq!(count, 4 + 9 + 45);
}

#[test]
fn captured_calls_get_the_captured_answers_over_tcp() {
    let live = node(TCP);
    replayed(|| Caller::tcp(live.rpc()));
    assert_eq!(live.metric("roomcast_rpc_connections_open"), Some(0.0));
    live.stop();
}

#[test]
fn captured_calls_get_the_captured_answers_over_a_unix_socket() {
    let path = socket("replay");
    let live = node(&format!("[rpc]\nlisten = [\"unix://{}\"]\n", path.display()));
    replayed(|| Caller::unix(&path));
    live.stop();
    assert!(!path.exists(), "the file goes with the node");
}

#[test]
fn pipelined_calls_are_all_answered_in_order() {
    let live = node(TCP);
    let stream = Caller::tcp(live.rpc()).stream;
    let (mut writes, reads) = stream.both();
    let writing = std::thread::spawn(move || {
        for first in (1..=CALLS).step_by(100) {
            let body = request(&["demo"], first.to_string().as_bytes());
            let calls: Vec<u8> =
                (first..first + 100).flat_map(|seq| call(seq, PUBLISH, &body)).collect();
            std::io::Write::write_all(&mut writes, &calls).unwrap();
        }
    });
    let mut reads = Caller::new(reads);
    for seq in 1..=CALLS {
        let answer = reads.answer().expect("the node hung up");
        assert_eq!((answer.seq, answer.failed), (seq, None));
    }
    writing.join().unwrap();
    drop(reads);
    assert_eq!(live.metric("roomcast_rpc_publications_total"), Some(f64::from(CALLS)));
    let done = live.metric_with("roomcast_rpc_calls_total", "answer=\"done\"");
    assert_eq!(done, Some(f64::from(CALLS)));
}

#[test]
fn members_hear_what_is_called_in_the_order_of_the_calls() {
    let live = node(TCP);
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut back = Caller::tcp(live.rpc());
    for (method, payload) in [
        (PUBLISH, &b"hello, PHP"[..]),
        ("broadcast.PublishAsync", b" {\"b\": 1.50, \"a\": [1e2]} "),
        (PUBLISH, b"[1, 2]"),
        ("broadcast.PublishAsync", b"\xff\xfe\x00bin"),
        (PUBLISH, b""),
    ] {
        back.send(&call(1, method, &request(&["demo"], payload)));
    }
    for _ in 0..5 {
        assert_eq!(back.answer().unwrap().failed, None);
    }
    let mut heard = || {
        let heard = ann.json();
        assert_eq!((&heard["type"], &heard["sender"]), (&json!("message"), &json!("api:rpc")));
        assert!(heard["id"].is_string());
        heard["data"].clone()
    };
    assert_eq!(heard(), json!("hello, PHP"));
    assert_eq!(heard(), json!({ "b": 1.50, "a": [1e2] }));
    assert_eq!(heard(), json!("[1, 2]"));
    let binary = heard();
    assert!(binary.to_string().contains("//4AYmlu"), "{binary}");
    assert_eq!(heard(), json!(""));
}

#[test]
fn both_services_speak_their_own_schema() {
    let live = node(TCP);
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut back = Caller::tcp(live.rpc());
    let (mut message, mut old) = (Vec::new(), Vec::new());
    field(&mut message, 2, b"memory");
    field(&mut message, 3, b"demo");
    field(&mut message, 4, b"old");
    field(&mut old, 1, &message);
    assert_eq!(back.call("websockets.Publish", &old), None);
    assert_eq!(back.call(PUBLISH, &request(&["demo"], b"new")), None);
    assert_eq!(
        (ann.json()["data"].clone(), ann.json()["data"].clone()),
        (json!("old"), json!("new"))
    );
    let without = node("[rpc]\nlisten = [\"tcp://127.0.0.1:0\"]\nwebsockets = false\n");
    let failed = Caller::tcp(without.rpc()).call("websockets.Publish", &old);
    assert_eq!(failed.as_deref(), Some("rpc: can't find service websockets.Publish"));
}

#[test]
fn what_fails_is_told_and_the_rest_is_published() {
    let live =
        node(&format!("{TCP}[limits]\nframe_bytes = \"1 KiB\"\nmessage_bytes = \"1 KiB\"\n"));
    let mut ann = live.user("ann");
    ann.join("demo");
    let mut back = Caller::tcp(live.rpc());
    let mut fails = |topics: &[&str], payload: &[u8]| back.call(PUBLISH, &request(topics, payload));
    assert_eq!(fails(&["closed", "demo"], b"1").unwrap(), "\"closed\": Permission denied");
    assert_eq!(
        fails(&["typed", "demo"], b"2").unwrap(),
        "\"typed\": This room takes only the types note"
    );
    let long = "x".repeat(300);
    let failed = fails(&["demo", &long], b"3").unwrap();
    assert!(failed.starts_with(&format!("\"{}\": ", "x".repeat(64))), "{failed}");
    assert_eq!(fails(&["demo"], &[b'x'; 1_024]), None);
    let failed = fails(&["demo"], &[b'x'; 1_025]).unwrap();
    assert_eq!(failed, "\"demo\": The limit message_bytes is 1024");
    assert_eq!(fails(&["", "demo", ""], b"4"), None);
    for data in ["1", "2", "3", &"x".repeat(1_024), "4"] {
        assert_eq!(ann.json()["data"], data);
    }
    ann.expect_silence(Duration::from_millis(100));
    assert_eq!(live.metric("roomcast_rpc_topics_unnamed_total"), Some(2.0));
    let denied = "code=\"permission_denied\"";
    assert_eq!(live.metric_with("roomcast_rpc_publications_refused_total", denied), Some(1.0));
}

#[test]
fn a_call_for_many_rooms_and_one_of_the_longest_are_carried_out() {
    let live = node(&format!("{TCP}[limits]\nmessage_bytes = \"1 MiB\"\n"));
    let mut ann = live.user("ann");
    ann.join("demo-1023");
    let topics: Vec<_> = (0..1_024).map(|n| format!("demo-{n}")).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let mut back = Caller::tcp(live.rpc());
    assert_eq!(back.call(PUBLISH, &request(&topics, &[b'x'; 16 << 10])), None);
    assert_eq!(ann.json()["data"].as_str().map(str::len), Some(16 << 10));
    let payload = vec![b'y'; 1_000_000];
    assert_eq!(back.call(PUBLISH, &request(&["demo-1023"], &payload)), None);
    assert_eq!(ann.json()["data"].as_str().map(str::len), Some(1_000_000));
}

#[test]
fn a_node_that_stops_answers_what_it_read_and_hangs_up() {
    let live = node(TCP);
    let address = live.rpc();
    let (mut writes, reads) = Caller::tcp(address).stream.both();
    let writing = std::thread::spawn(move || {
        let body = request(&["demo-1"], b"x");
        let calls = (1..=CALLS).map(|seq| call(seq, PUBLISH, &body));
        // Until the node does not take any more.
        calls
            .into_iter()
            .take_while(|call| std::io::Write::write_all(&mut writes, call).is_ok())
            .count()
    });
    let mut reads = Caller::new(reads);
    for seq in 1..=500 {
        assert_eq!(reads.answer().unwrap().seq, seq);
    }
    let stopping = std::thread::spawn(move || live.stop());
    let mut seq = 500;
    while let Some(answer) = reads.answer() {
        seq += 1;
        assert_eq!(answer.seq, seq);
        // What was not begun is told as that, and so is what the broker had no time to answer.
        let ended = ["It is not known", "this was not published"];
        let is_told = |text: String| ended.iter().any(|it| text.contains(it));
        assert!(answer.failed.is_none_or(is_told));
    }
    drop(reads);
    writing.join().unwrap();
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
