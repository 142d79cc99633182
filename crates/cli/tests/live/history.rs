//! Rooms with history by the command line; and ten thousand members of one: who joins a live room costs no read at the
//! broker (G11).

use std::io;
use std::time::Duration;

use roomcast_protocol::limits::LimitName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use xtask::servers::Redis;

use crate::common::{LIMIT, Node, fresh_path, json_lines, output, roomcast};

const MEMBERS: usize = 10_000;

/// Connections that are made at the same time.
const AT_ONCE: usize = 64;

const RULES: &str = r#"
[[rooms]]
match = "kept-{id}"
join = "true"
publish = "user.kind == 'backend'"
history = {}

[[rooms]]
match = "user-{id}"
join = "user.id == id"
"#;

/// A node with a room that keeps publications.
#[track_caller]
fn node(more: &[&str]) -> Node {
    let config = fresh_path("history.toml");
    std::fs::write(&config, RULES).unwrap();
    let path = config.display().to_string();
    let node = Node::start(&[&["--config", &path], more].concat());
    std::fs::remove_file(config).unwrap();
    node
}

#[test]
fn pub_tells_positions_and_sub_begins_behind_one() {
    let node = node(&[]);
    let mut acks = Vec::new();
    for number in ["1", "2", "3"] {
        let published = output(node.command("pub").args(["kept-1", number]));
        acks.extend(json_lines(&published.stdout));
    }
    assert_eq!((&acks[0]["ack"]["level"], acks.len()), (&"stored".into(), 3));
    let epoch = acks[0]["ack"]["position"]["epoch"].as_str().unwrap();
    assert_eq!(acks[2]["ack"]["position"]["offset"], 3);
    let since = format!("{epoch}:1");
    let sub = ["kept-1", "--since", &since, "--count", "2", "--timeout", "15s"];
    let heard = json_lines(&output(node.command("sub").args(sub)).stdout);
    let told: Vec<_> = heard.iter().map(|it| (&it["data"], &it["metadata"]["offset"])).collect();
    assert_eq!(told, [(&2.into(), &2.into()), (&3.into(), &3.into())]);
    for wrong in [&["kept-1", "--since", "7"][..], &["kept-1", "kept-2", "--since", &since]] {
        assert_eq!(output(node.command("sub").args(wrong)).status.code(), Some(2), "{wrong:?}");
    }
}

/// Reads until the node has said this.
async fn heard(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        if stream.read_buf(&mut bytes).await? == 0 {
            let said = String::from_utf8_lossy(&bytes).into_owned();
            return Err(io::Error::other(format!("no {text:?}, the node ended with {said:?}")));
        }
    }
    Ok(())
}

/// Connects and joins.
async fn join(address: String, token: String) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&address).await?;
    let upgrade = format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await?;
    heard(&mut stream, "\"welcome\"").await?;
    let message = br#"{"type":"subscribe","data":{"room":"kept-1"}}"#;
    // Masked by zeros, which change nothing.
    let length = u8::try_from(message.len()).map_err(io::Error::other)?;
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend(message);
    stream.write_all(&frame).await?;
    heard(&mut stream, "\"offset\":1}").await?;
    Ok(stream)
}

/// A figure once it no longer moves: a node that has just started looks at its own rooms.
async fn settled(node: &Node, name: &str) -> f64 {
    let mut last = node.figure(name);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let now = node.figure(name);
        if (now - last).abs() < f64::EPSILON {
            return now;
        }
        last = now;
    }
    panic!("{name} never settles")
}

#[tokio::test]
async fn ten_thousand_joins_of_one_room_cost_one_read() {
    let open_files = roomcast_gateway::system::raise_open_files();
    assert!(open_files > 10_500, "{open_files} open files are too few: `ulimit -n 20000`");
    let redis = Redis::start(&[]).unwrap();
    let mut more = vec!["--redis".to_owned(), redis.url()];
    for limit in [LimitName::ConnectionsPerIp, LimitName::ConnectionsPerUser] {
        more.extend(["--set".to_owned(), format!("limits.{}=20000", limit.name())]);
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let node = node(&more);
    let published = output(node.command("pub").args(["kept-1", "1"]));
    assert!(published.status.success(), "{published:?}");
    let minted = output(roomcast().args(["token", "mint", "--dev", "--sub", "member"]));
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let address = node.ready["public"].as_str().unwrap().to_owned();
    let before = settled(&node, "roomcast_history_heads_total").await;
    let mut joining: JoinSet<io::Result<TcpStream>> = JoinSet::new();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        if joining.len() == AT_ONCE {
            members.push(joining.join_next().await.unwrap().unwrap().unwrap());
        }
        joining.spawn(join(address.clone(), token.clone()));
    }
    while let Some(joined) = joining.join_next().await {
        members.push(joined.unwrap().unwrap());
    }
    assert_eq!(members.len(), MEMBERS);
    let reads = node.figure("roomcast_history_heads_total") - before;
    assert!((reads - 1.0).abs() < f64::EPSILON, "{reads} reads of the room's head");
    assert!(node.figure("roomcast_history_reads_total") < 0.5, "nothing had to be read");
    let published = output(node.command("pub").args(["kept-1", "2"]));
    assert!(published.status.success(), "{published:?}");
    for member in &mut members {
        tokio::time::timeout(LIMIT, heard(member, "\"offset\":2}")).await.unwrap().unwrap();
    }
    let joined = node.figure("roomcast_rooms_memberships");
    assert!(joined >= MEMBERS as f64, "{joined}");
    drop(members);
    let deadline = std::time::Instant::now() + LIMIT;
    while node.figure("roomcast_sessions_open") > 0.0 {
        assert!(std::time::Instant::now() < deadline, "sessions are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
