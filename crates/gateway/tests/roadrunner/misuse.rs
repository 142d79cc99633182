//! What bad callers get: the node stays up, and whoever is beside them does not notice.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::caller::{self, Caller, call, request};
use crate::calls::{TCP, node};
use crate::common::{Bystander, Live};

/// Streams of the fuzzing test, from this seed on.
const STREAMS: u64 = 400;

#[track_caller]
fn expect_ended(live: &Live, cause: &str, count: f64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let label = format!("cause=\"{cause}\"");
    let found = || live.metric_with("roomcast_rpc_connections_ended_total", &label);
    while found() != Some(count) {
        assert!(Instant::now() < deadline, "{cause}: {:?}", found());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn expect_gone(live: &Live) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while live.metric("roomcast_rpc_connections_open") != Some(0.0) {
        assert!(Instant::now() < deadline, "connections are left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A generator with a seed. Source: Marsaglia, Xorshift RNGs (2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Calls that clients sent, of which bytes were changed, left out, doubled or put in.
fn fuzzed(seed: u64, calls: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = Vec::new();
    for _ in 0..=random.below(6) {
        bytes.extend_from_slice(&calls[random.below(calls.len())]);
    }
    for _ in 0..random.below(8) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
            2 => bytes.insert(at, random.below(256) as u8),
            _ => bytes.extend_from_within(at..),
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

#[test]
fn a_fuzzed_stream_leaves_the_node_up_and_ends_alone() {
    let live = node(TCP);
    let mut bystander = Bystander::join(&live);
    let calls: Vec<_> =
        caller::of_php().iter().chain(&caller::of_others()).map(|it| it.request()).collect();
    let mut beside = Caller::tcp(live.rpc());
    for seed in 1..=STREAMS {
        let mut stream = Caller::tcp(live.rpc()).stream;
        // The node may hang up meanwhile.
        drop(stream.write_all(&fuzzed(seed, &calls)));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answers = Vec::new();
        match stream.read_to_end(&mut answers) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{seed}"),
        }
        if seed % 50 == 0 {
            bystander.lives();
            assert_eq!(beside.call("broadcast.Publish", &request(&["other"], b"x")), None);
        }
    }
    drop(beside);
    expect_gone(&live);
    assert!(live.metric("roomcast_rpc_connections_ended_total") > Some(50.0));
    assert_eq!(live.get("/livez").0, 200);
}

#[test]
fn what_is_no_frame_ends_the_connection_behind_the_answers_that_are_owed() {
    let live = node(TCP);
    let mut back = Caller::tcp(live.rpc());
    let mut bytes: Vec<u8> =
        (1..=3).flat_map(|seq| call(seq, "broadcast.Publish", &request(&["demo"], b"x"))).collect();
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    bytes.resize(64 << 10, b'x');
    back.send(&bytes);
    for seq in 1..=3 {
        assert_eq!(back.answer().map(|it| it.seq), Some(seq));
    }
    assert_eq!(back.answer(), None);
    expect_ended(&live, "version", 1.0);
}

#[test]
fn the_last_connection_that_fits_is_served_and_one_more_is_turned_away() {
    let live = node("[rpc]\nlisten = [\"tcp://127.0.0.1:0\"]\nconnections_max = 2\n");
    let body = request(&["demo"], b"x");
    let mut held: Vec<_> = (0..2).map(|_| Caller::tcp(live.rpc())).collect();
    for back in &mut held {
        assert_eq!(back.call("broadcast.Publish", &body), None);
    }
    let mut more = Caller::tcp(live.rpc());
    assert_eq!(more.answer(), None);
    expect_ended(&live, "full", 1.0);
    drop(held);
    expect_gone(&live);
    assert_eq!(Caller::tcp(live.rpc()).call("broadcast.Publish", &body), None);
}

#[test]
fn a_frame_that_is_not_finished_ends_its_connection_and_silence_does_not() {
    let live = node(TCP);
    let mut silent = Caller::tcp(live.rpc());
    let mut half = Caller::tcp(live.rpc());
    let frame = call(1, "broadcast.Publish", &request(&["demo"], b"x"));
    half.send(&frame[..30]);
    let began = Instant::now();
    assert_eq!(half.answer(), None);
    let took = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(30)).contains(&took), "{took:?}");
    expect_ended(&live, "half_frame", 1.0);
    assert_eq!(silent.call("broadcast.Publish", &request(&["demo"], b"x")), None);
}

#[test]
fn who_does_not_take_answers_is_ended_and_others_are_served_meanwhile() {
    let live = node(TCP);
    let mut bystander = Bystander::join(&live);
    let mut stream = Caller::tcp(live.rpc()).stream;
    stream.set_write_timeout(Some(Duration::from_secs(40))).unwrap();
    let flooding = std::thread::spawn(move || {
        let calls: Vec<u8> =
            (0..1_000).flat_map(|seq| call(seq, "nosuch.Publish", &[b'x'; 100])).collect();
        // 140 MB, far more than kernels keep for a stream.
        (0..1_000).take_while(|_| stream.write_all(&calls).is_ok()).count()
    });
    let mut beside = Caller::tcp(live.rpc());
    let deadline = Instant::now() + Duration::from_secs(60);
    let label = "cause=\"not_taken\"";
    while live.metric_with("roomcast_rpc_connections_ended_total", label) != Some(1.0) {
        assert!(Instant::now() < deadline, "it is still served");
        bystander.lives();
        assert_eq!(beside.call("broadcast.Publish", &request(&["other"], b"x")), None);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(flooding.join().unwrap() < 1_000);
}
