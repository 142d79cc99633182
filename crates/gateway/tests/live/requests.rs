//! Requests of clients to the application, as both see them.

use std::time::Duration;

use roomcast_protocol::codes::Refusal;
use roomcast_protocol::limits::LimitName;
use serde_json::{Value, json};

use crate::common::Live;
use crate::common::application::{Answer, Application, Called};
use crate::common::ws::Ws;

/// A node whose methods `report.*` go to the application, with these lines for the call.
fn node(application: &Application, lines: &str) -> Live {
    Live::with_file(&format!(
        "[[upstream.targets]]\nname = \"app\"\nurl = \"{}\"\nsecret = \"sixteen bytes and more\"\n\
         [[upstream.calls]]\nname = \"reports\"\ntarget = \"app\"\npath = \"/reports\"\n{lines}\n\
         [[upstream.requests]]\nmethods = [\"report.*\"]\ncall = \"reports\"\n",
        application.url()
    ))
}

fn echo(called: &Called) -> Answer {
    (200, json!({ "you": called.body["user"], "asked": called.body["params"] }).to_string())
}

fn request(id: &str, method: &str, params: &Value) -> Value {
    json!({ "type": "request", "id": id, "data": { "method": method, "params": params } })
}

fn ask(ws: &mut Ws, id: &str, params: &Value) -> Value {
    ws.ask(&request(id, "report.daily", params))
}

#[test]
fn the_application_is_told_who_asks_and_its_body_is_the_answer() {
    let application = Application::start(echo);
    let live = node(&application, "");
    let mut ann = live.user("ann");
    let answer = ask(&mut ann, "q1", &json!({ "day": 1 }));
    let body = json!({ "you": "ann", "asked": { "day": 1 } });
    let expected = json!({
        "type": "request",
        "data": { "status": 200, "body": body },
        "metadata": { "correlation_id": "q1" },
    });
    assert_eq!(answer, expected);
    let called = application.called().remove(0);
    assert_eq!(called.path, "/reports");
    assert!(called.head.contains("roomcast-signature: v1="), "{}", called.head);
    let session = called.body["session"].as_str().unwrap();
    assert_eq!(session.len(), 32);
    let expected = json!({
        "method": "report.daily",
        "params": { "day": 1 },
        "user": "ann",
        "kind": "user",
        "session": session,
        "id": "q1",
    });
    assert_eq!(called.body, expected);
    ann.tell(&request("q2", "bill.daily", &json!(null)));
    let error = ann.expect_refusal(Refusal::UnknownType);
    assert_eq!(error["metadata"]["correlation_id"], "q2");
    assert_eq!(application.called().len(), 1, "what no call serves goes nowhere");
    ann.close();
    live.assert_empty();
}

#[test]
fn what_the_application_declines_is_an_answer_and_what_it_cannot_do_is_none() {
    let application = Application::start(|called| match called.body["params"].as_u64() {
        Some(status) => (u16::try_from(status).unwrap(), "{\"why\":1}".to_owned()),
        None => (200, "no json".to_owned()),
    });
    let live = node(&application, "");
    let mut ann = live.user("ann");
    let answer = ask(&mut ann, "q", &json!(404));
    assert_eq!(answer["data"], json!({ "status": 404, "body": { "why": 1 } }));
    assert_eq!(ask(&mut ann, "q", &json!(null))["data"]["body"], "no json");
    for status in [500, 302] {
        ann.tell(&request("q", "report.daily", &json!(status)));
        let error = ann.expect_refusal(Refusal::UpstreamFailed);
        let told = format!("The application answered with the status {status}");
        assert_eq!(error["data"]["message"], told);
    }
}

#[test]
fn with_the_application_stopped_answers_are_stale_or_refused_until_it_is_back() {
    let mut application = Application::start(echo);
    let live = node(&application, "breaker_open = \"500ms\"\ncache = \"50ms\"");
    let mut ann = live.user("ann");
    let mut bob = live.user("bob");
    let fresh = ask(&mut ann, "q", &json!(1));
    assert_eq!(fresh["data"]["stale"], Value::Null);
    application.stop();
    std::thread::sleep(Duration::from_millis(60));
    for _ in 0..5 {
        ann.tell(&request("q", "report.daily", &json!(1)));
        let error = ann.expect_refusal(Refusal::UpstreamFailed);
        assert_eq!(error["data"]["outcome"], Value::Null, "it was never asked");
    }
    let stale = ask(&mut ann, "q", &json!(1));
    assert_eq!(
        (&stale["data"]["stale"], &stale["data"]["body"]),
        (&json!(true), &fresh["data"]["body"])
    );
    // What was kept is ann's.
    bob.tell(&request("q", "report.daily", &json!(1)));
    let error = bob.expect_refusal(Refusal::BreakerOpen);
    let wait_ms = error["data"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=500).contains(&wait_ms) && error["data"]["retry"] == true, "{error}");
    assert_eq!(live.metric_with("roomcast_node_upstream_open", "reports"), Some(1.0));
    application.come_back();
    std::thread::sleep(Duration::from_millis(wait_ms + 20));
    assert_eq!(ask(&mut bob, "q", &json!(1))["data"]["body"]["you"], "bob");
    let fresh = ask(&mut ann, "q", &json!(1));
    assert_eq!(fresh["data"]["stale"], Value::Null);
    assert_eq!(live.metric_with("roomcast_node_upstream_open", "reports"), Some(0.0));
    assert_eq!(live.metric_with("roomcast_upstream_calls_stale_total", "reports"), Some(1.0));
}

#[test]
fn requests_of_one_session_are_bounded_and_one_who_waits_holds_nobody_up() {
    let application = Application::start(|called| {
        std::thread::sleep(Duration::from_millis(300));
        echo(called)
    });
    let live = node(&application, "");
    let mut ann = live.user("ann");
    for at in 0..9 {
        ann.tell(&request(&at.to_string(), "report.daily", &json!(at)));
    }
    let error = ann.expect_refusal(Refusal::Limit);
    assert_eq!(error["data"]["limit"], LimitName::RequestsPerSession.name());
    assert_eq!(error["metadata"]["correlation_id"], "8");
    let pong = ann.ask(&json!({ "type": "ping", "timestamp": 7 }));
    assert_eq!(pong, json!({ "type": "pong", "timestamp": 7 }));
    let mut answered: Vec<_> = (0..8)
        .map(|_| ann.json()["metadata"]["correlation_id"].as_str().unwrap().to_owned())
        .collect();
    answered.sort();
    assert_eq!(answered.join(""), "01234567");
    live.expect_hits(LimitName::RequestsPerSession, 1);
    // Who has gone is not answered, and nothing is left of it.
    ann.tell(&request("last", "report.daily", &json!(null)));
    ann.close();
    live.assert_empty();
}

#[test]
fn a_slow_application_is_told_as_unknown_once_the_timeout_is_over() {
    let application = Application::start(|called| {
        std::thread::sleep(Duration::from_millis(600));
        echo(called)
    });
    let live = node(&application, "timeout = \"100ms\"");
    let mut ann = live.user("ann");
    ann.tell(&request("q", "report.daily", &json!(null)));
    let error = ann.expect_refusal(Refusal::UpstreamFailed);
    assert_eq!(error["data"]["outcome"], "unknown");
}
