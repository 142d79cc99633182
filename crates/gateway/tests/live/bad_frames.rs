//! Frames that RFC 6455 forbids, and floods of frames that it allows: the connection ends with the code of the table,
//! and the one beside it lives.

use std::time::{Duration, Instant};

use roomcast_protocol::codes::Close;
use roomcast_protocol::limits::LimitName;
use serde_json::json;

use crate::common::Bystander;
use crate::common::Live;
use crate::common::ws::{CLOSE, FIRST, Heard, LAST, MIDDLE, PING, TEXT, Ws, frame, head};
use crate::scene::{Scene, expect_pong};

/// Each of these, sent by a connection of its own, ends that connection so.
#[track_caller]
fn each_closes(close: Close, attacks: &[&[u8]]) {
    let live = Live::start(&[("limits.connections_per_user", "1000")]);
    let mut bystander = Bystander::join(&live);
    for attack in attacks {
        let mut eve = live.user("eve");
        eve.flood(attack);
        eve.expect_close(close);
        bystander.lives();
    }
    live.expect_closes(close, attacks.len() as u32);
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    let attacks = [
        // Unmasked: text, and a ping.
        &b"\x81\x02{}"[..],
        b"\x89\x00",
        // Reserved bits, on a text and on a Close.
        &frame(0xc1, b"{}"),
        &frame(0xa1, b"{}"),
        &frame(0x91, b"{}"),
        &frame(0xc8, b""),
        // Opcodes that are not defined.
        &frame(0x83, b""),
        &frame(0x8b, b""),
        // Control frames in fragments, or too long.
        &frame(0x09, b""),
        &frame(PING, &[0; 126]),
        &frame(CLOSE, &[0; 126]),
        // A length in more bytes than it needs, and one that no file has.
        b"\x81\xfe\x00\x7d\x00\x00\x00\x00",
        b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00",
        &head(TEXT, 1 << 63),
        &head(TEXT, u64::MAX),
        // A continuation of nothing, and a message within another.
        &frame(MIDDLE, b"{}"),
        &frame(LAST, b"{}"),
        &[frame(FIRST, b"{"), frame(TEXT, b"{}")].concat(),
        // Closes that say nothing that may be said.
        &frame(CLOSE, b"\x03"),
        &frame(CLOSE, &999_u16.to_be_bytes()),
        &frame(CLOSE, &1005_u16.to_be_bytes()),
        &frame(CLOSE, &1006_u16.to_be_bytes()),
        &frame(CLOSE, &5000_u16.to_be_bytes()),
    ];
    each_closes(Close::Protocol, &attacks);
}

#[test]
fn a_close_whose_reason_is_not_utf8_is_answered_with_bad_text() {
    each_closes(Close::BadText, &[&frame(CLOSE, b"\x03\xe8\xff")]);
}

#[test]
fn announced_lengths_over_the_limit_end_the_connection_before_a_byte_of_them_is_read() {
    let attacks = [
        &head(TEXT, 65_537)[..],
        &head(TEXT, 1 << 32),
        &head(TEXT, (1 << 63) - 1),
        &[frame(FIRST, &[b'x'; 65_536]), head(MIDDLE, 65_537)].concat(),
    ];
    each_closes(Close::TooLarge, &attacks);
}

#[test]
fn a_hundred_announced_giants_take_no_memory() {
    let live = Live::start(&[
        ("limits.connections_per_user", "1000"),
        ("limits.connections_per_ip", "1000"),
    ]);
    let mut bystander = Bystander::join(&live);
    let mut giants: Vec<Ws> = (0..100).map(|_| live.user("eve")).collect();
    for giant in &mut giants {
        giant.flood(&[head(TEXT, 60 << 20), vec![b'x']].concat());
    }
    for giant in &mut giants {
        giant.expect_close_over(Close::TooLarge, LimitName::FrameBytes, 65_536);
    }
    bystander.lives();
    live.expect_hits(LimitName::FrameBytes, 100);
}

#[test]
fn a_million_empty_fragments_end_the_connection() {
    let mut scene = Scene::new();
    let started = Instant::now();
    let some = frame(MIDDLE, b"").repeat(10_000);
    scene.eve.send(FIRST, b"");
    for _ in 0..100 {
        scene.eve.flood(&some);
    }
    scene.eve.expect_close_over(Close::Flood, LimitName::Fragments, 64);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    scene.bystander.lives();
    scene.live.expect_closes(Close::Flood, 1);
    scene.live.expect_hits(LimitName::Fragments, 1);
}

#[test]
fn sixty_five_thousand_fragments_of_one_byte_end_the_connection() {
    let mut scene = Scene::new();
    scene.eve.send(FIRST, b"{");
    scene.eve.flood(&frame(MIDDLE, b" ").repeat(65_536));
    scene.eve.expect_close_over(Close::Flood, LimitName::Fragments, 64);
    scene.bystander.lives();
}

#[test]
fn a_message_without_an_end_ends_the_connection_at_the_limit() {
    let mut scene = Scene::new();
    let part = frame(MIDDLE, &[b'x'; 65_536]);
    scene.eve.send(FIRST, b"");
    for _ in 0..200 {
        scene.eve.flood(&part);
    }
    scene.eve.expect_close_over(Close::TooLarge, LimitName::MessageBytes, 262_144);
    scene.bystander.lives();
    scene.live.expect_hits(LimitName::MessageBytes, 1);
}

#[test]
fn a_flood_of_pings_ends_the_connection() {
    let mut scene = Scene::new();
    scene.eve.flood(&frame(PING, b"flood").repeat(10_000));
    scene.eve.expect_close_at_last(Close::Flood);
    scene.bystander.lives();
    scene.live.expect_closes(Close::Flood, 1);
    scene.live.expect_hits(LimitName::ControlFrames, 1);
}

#[test]
fn a_storm_of_closes_is_one_close() {
    let mut scene = Scene::new();
    scene.eve.flood(&frame(CLOSE, &1000_u16.to_be_bytes()).repeat(10_000));
    assert_eq!(scene.eve.next(), Heard::Close(Some(1000), String::new()));
    assert_eq!(scene.eve.next(), Heard::End);
    scene.bystander.lives();
}

#[test]
fn what_comes_behind_a_close_is_not_heard() {
    let mut scene = Scene::new();
    let note = json!({ "type": "note", "room": "demo", "data": "late" }).to_string();
    let late = [frame(CLOSE, &4999_u16.to_be_bytes()), frame(TEXT, note.as_bytes())].concat();
    scene.eve.raw(&late);
    assert_eq!(scene.eve.next(), Heard::Close(Some(4999), String::new()));
    assert_eq!(scene.eve.next(), Heard::End);
    scene.bystander.lives(); // would have heard the note first
}

#[test]
fn sockets_that_end_anywhere_leave_nothing_behind() {
    let live = Live::start(&[("limits.connections_per_user", "1000")]);
    let mut bystander = Bystander::join(&live);
    let note = json!({ "type": "note", "room": "demo-x", "data": "x".repeat(300) }).to_string();
    let whole = frame(TEXT, note.as_bytes());
    for cut in [0, 1, 2, 3, 5, 8, 9, 100, whole.len() - 1] {
        let mut eve = live.user("eve");
        eve.join("demo-x");
        eve.raw(&whole[..cut]);
    }
    let mut silent = live.dial();
    silent.raw(&whole[..4]);
    drop(silent);
    bystander.lives();
    drop(bystander);
    live.assert_empty();
}

#[test]
fn fragments_with_pings_between_them_are_one_message() {
    let mut scene = Scene::new();
    let text = json!({ "type": "ping", "timestamp": "é" }).to_string();
    let (first, rest) = text.as_bytes().split_at(text.find('é').unwrap() + 1);
    scene.eve.send(FIRST, first);
    scene.eve.send(PING, b"in between");
    assert_eq!(scene.eve.next(), Heard::Pong(b"in between".to_vec()));
    scene.eve.send(MIDDLE, b"");
    scene.eve.send(LAST, rest);
    scene.eve.expect(&json!({ "type": "pong", "timestamp": "é" }));
    expect_pong(&mut scene.eve);
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let mut scene = Scene::new();
    let text = json!({ "type": "ping", "timestamp": "x".repeat(126) }).to_string();
    for byte in frame(TEXT, text.as_bytes()) {
        scene.eve.raw(&[byte]);
    }
    assert_eq!(scene.eve.json()["type"], "pong");
    scene.all_live();
}
