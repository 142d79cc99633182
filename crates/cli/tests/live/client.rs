//! The Rust client against a real node.

use std::time::Duration;

use crate::common::{LIMIT, Node};
use roomcast_client::{Client, Error, Event, Format, Options, PublishOptions, TokenIn, connect};
use serde_json::json;

pub(crate) fn mint(args: &[&str]) -> String {
    let minted = crate::common::output(
        crate::common::roomcast().args(["token", "mint", "--dev"]).args(args),
    );
    assert!(minted.status.success(), "{minted:?}");
    String::from_utf8(minted.stdout).unwrap().trim().to_owned()
}

pub(crate) fn viewer() -> String {
    mint(&["--sub", "viewer", "--permissions", "view_system,view_tasks"])
}

pub(crate) fn backend() -> String {
    mint(&["--sub", "app", "--kind", "backend"])
}

async fn next(client: &Client) -> Event {
    tokio::time::timeout(LIMIT, client.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_member_hears_what_is_published_until_it_leaves() {
    let node = Node::start(&[]);
    for format in [Format::Json, Format::MessagePack] {
        let options = |token| Options { format, ..Options::new(node.url(), token) };
        let member = connect(options(viewer())).await.unwrap();
        let publisher = connect(options(backend())).await.unwrap();
        assert_eq!(member.welcome().user_id, "viewer");
        assert_eq!(member.welcome().permissions, ["view_system", "view_tasks"]);
        assert!(member.welcome().session_id.is_some());
        assert_eq!(member.join("system").await.unwrap().room, "system");
        let data = json!({"text": "ü", "n": 1.5, "list": [null, true]});
        let published =
            publisher.publish("system", "note", &data, &PublishOptions::acked()).await.unwrap();
        assert_eq!(published.ack.unwrap().level, "accepted");
        let Event::Publication(heard) = next(&member).await else { panic!("no publication") };
        assert_eq!((&*heard.room, &*heard.kind, &heard.data), ("system", "note", &data));
        assert_eq!((heard.id, &*heard.sender), (published.id, "app"));
        member.leave("system").await.unwrap();
        publisher.publish("system", "note", &1, &PublishOptions::acked()).await.unwrap();
        // A pong comes behind everything that was sent before it.
        assert!(member.ping().await.unwrap() < LIMIT);
        let silence = tokio::time::timeout(Duration::from_millis(50), member.next()).await;
        assert!(silence.is_err(), "{silence:?}");
        member.close().await;
        assert!(matches!(member.ping().await, Err(Error::Closed(_))));
    }
}

#[tokio::test]
async fn a_repeat_by_id_is_acked_and_heard_once() {
    let node = Node::start(&[]);
    let member = connect(Options::new(node.url(), viewer())).await.unwrap();
    let publisher = connect(Options::new(node.url(), backend())).await.unwrap();
    member.join("tasks").await.unwrap();
    let once = PublishOptions { id: Some("once".into()), ..PublishOptions::acked() };
    for _ in 0..2 {
        publisher.publish("tasks", "note", &json!(1), &once).await.unwrap();
    }
    let other = publisher.publish("tasks", "note", &json!(2), &once).await.unwrap_err();
    assert_eq!((other.code(), other.name()), (Some(122), "duplicate"));
    publisher.publish("tasks", "last", &json!(3), &PublishOptions::acked()).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "last") {
        let Event::Publication(heard) = next(&member).await else { continue };
        kinds.push(heard.kind);
    }
    assert_eq!(kinds, ["note", "last"]);
}

#[tokio::test]
async fn refusals_keep_the_connection_and_name_their_code() {
    let node = Node::start(&[]);
    let client = connect(Options::new(node.url(), viewer())).await.unwrap();
    for (room, code) in [("agents", 110), ("no-such-room", 110), ("a b", 104), ("$control", 104)] {
        let error = client.join(room).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{room}: {error}");
        assert!(!error.retry(), "{room}");
    }
    let error = client.publish("system", "note", &1, &PublishOptions::acked()).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    client.publish("system", "note", &1, &PublishOptions::default()).await.unwrap();
    let Event::Error(refused) = next(&client).await else { panic!("no error event") };
    assert_eq!(refused.code, 110);
    client.join("system").await.unwrap();
}

#[tokio::test]
async fn bad_tokens_are_closed_with_4001_wherever_they_travel() {
    let node = Node::start(&[]);
    for token_in in [TokenIn::Query, TokenIn::Header, TokenIn::Frame] {
        let options = Options { token_in, ..Options::new(node.url(), "x.y.z") };
        let error = connect(options).await.unwrap_err();
        assert_eq!(error.code(), Some(4001), "{token_in:?}: {error}");
        assert!(error.is_denied() && !error.retry(), "{token_in:?}");
    }
}

#[tokio::test]
async fn a_device_whose_name_is_too_long_is_told_so_at_once_wherever_it_is_said() {
    let node = Node::start(&[]);
    for (token_in, told) in
        [(TokenIn::Frame, "data.device must be"), (TokenIn::Query, "device in the query must be")]
    {
        let mut options = Options { token_in, ..Options::new(node.url(), viewer()) };
        options.continuation.device = Some("d".repeat(65));
        let error = connect(options).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(!error.retry(), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_refreshed_in_place_but_not_for_another_subject() {
    let node = Node::start(&[]);
    let client = connect(Options::new(node.url(), viewer())).await.unwrap();
    client.refresh(&viewer()).await.unwrap();
    client.join("system").await.unwrap();
    let error = client.refresh(&backend()).await.unwrap_err();
    assert_eq!(error.code(), Some(4001), "{error}");
}

#[tokio::test]
async fn the_end_of_the_node_is_told_with_its_code() {
    let mut node = Node::start(&[]);
    let client = connect(Options::new(node.url(), viewer())).await.unwrap();
    node.signal(rustix::process::Signal::INT);
    let Event::Closed(closed) = next(&client).await else { panic!("not closed") };
    assert_eq!(closed.code, 1001);
    assert!(closed.retry());
    assert_eq!(client.next().await, None);
    assert!(node.ended().success());
}

#[tokio::test]
async fn other_addresses_are_errors_that_name_the_mend() {
    let node = Node::start(&[]);
    let public = node.ready["public"].as_str().unwrap();
    let wrong_path = connect(Options::new(format!("ws://{public}/nowhere"), "t")).await;
    assert!(matches!(wrong_path, Err(Error::Upgrade { status: 404, .. })), "{wrong_path:?}");
    let nobody = connect(Options::new("ws://127.0.0.1:1", "t")).await.unwrap_err();
    assert!(nobody.retry() && nobody.name() == "no_connection", "{nobody}");
}
