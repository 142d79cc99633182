//! The frame reader and writer against another implementation, fastwebsockets: it reads what we write, we read what it
//! writes, and what both take for valid they read alike.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail where they stand")]

use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};
use roomcast_gateway::transport::websocket::reader::{Event, FrameLimits, Reader};
use roomcast_gateway::transport::websocket::writer::{self, Opcode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// More than any stream here has. Units: bytes.
const PIPE_BYTES: usize = 8 << 20;

/// What both sides can say: opcode and payload.
type Said = (u8, Vec<u8>);

fn run(cases: u32, property: impl Fn(&[Said], &[usize]) -> Result<(), TestCaseError>) {
    let mut runner = TestRunner::new(Config {
        cases,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(6_455),
        failure_persistence: None,
        ..Config::default()
    });
    let said = prop_oneof![
        ("\\PC{0,80}").prop_map(|text| (1, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (2, bytes)),
        prop::sample::select(vec![125, 126, 127, 65_535, 65_536])
            .prop_map(|length| (2, vec![7; length])),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|bytes| (9, bytes)),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|bytes| (10, bytes)),
    ];
    let cuts = prop::collection::vec(1..5_000_usize, 1..20);
    let input = (prop::collection::vec(said, 0..8), cuts);
    runner.run(&input, |(all, cuts)| property(&all, &cuts)).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What our reader makes of `bytes`, given to it in pieces of these lengths.
fn read_by_us(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Said>, u16> {
    let mut reader = Reader::new();
    let mut said = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at(rest.len().min(*cut));
        rest = later;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let limits = FrameLimits { frame_bytes_max: 1 << 20, ..FrameLimits::default() };
            let (used, event) = reader.next(&limits, 0, piece.get_mut(at..).unwrap_or_default());
            at += used;
            match event {
                Event::NeedMore => break,
                Event::Message { text, payload } => {
                    said.push((if text { 1 } else { 2 }, payload.into_owned()));
                }
                Event::Ping(payload) => said.push((9, payload.into_owned())),
                Event::Pong(payload) => said.push((10, payload.into_owned())),
                Event::Close { .. } => return Ok(said),
                Event::Fail(violation) => return Err(violation.code()),
            }
        }
    }
    Ok(said)
}

/// What fastwebsockets, in that role, makes of `bytes`, up to their end or what it does not take.
async fn read_by_them(bytes: &[u8], role: Role) -> Vec<Said> {
    let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    ours.write_all(bytes).await.unwrap();
    drop(ours);
    let mut socket = WebSocket::after_handshake(theirs, role);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    socket.set_max_message_size(1 << 20);
    let mut socket = FragmentCollector::<DuplexStream>::new(socket);
    let mut said = Vec::new();
    while let Ok(frame) = socket.read_frame().await {
        if frame.opcode == OpCode::Close {
            break;
        }
        said.push((frame.opcode as u8, frame.payload.to_vec()));
    }
    said
}

/// The frames of what is said, written by fastwebsockets as a client, data in fragments of these lengths.
async fn write_by_them(all: &[Said], cuts: &[usize]) -> Vec<u8> {
    let (mut ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let mut socket = WebSocket::after_handshake(theirs, Role::Client);
    let mut sizes = cuts.iter().cycle();
    for (opcode, payload) in all {
        let opcode = OpCode::try_from(*opcode).unwrap();
        if matches!(opcode, OpCode::Ping | OpCode::Pong) {
            write_frame(&mut socket, true, opcode, payload).await;
            continue;
        }
        let mut rest = &payload[..];
        let mut opcode = opcode;
        loop {
            // Large fragments, so that their number stays below its limit.
            let size = rest.len().min(sizes.next().unwrap() + payload.len() / 32);
            let (part, later) = rest.split_at(size);
            rest = later;
            write_frame(&mut socket, rest.is_empty(), opcode, part).await;
            opcode = OpCode::Continuation;
            if rest.is_empty() {
                break;
            }
        }
    }
    drop(socket);
    let mut bytes = Vec::new();
    ours.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn write_frame(
    socket: &mut WebSocket<DuplexStream>,
    last: bool,
    opcode: OpCode,
    payload: &[u8],
) {
    let payload = Payload::Owned(payload.to_vec());
    socket.write_frame(Frame::new(last, opcode, None, payload)).await.unwrap();
}

#[test]
fn we_read_what_fastwebsockets_writes() {
    run(300, |all, cuts| {
        let bytes = block_on(write_by_them(all, cuts));
        prop_assert_eq!(read_by_us(&bytes, cuts), Ok(all.to_vec()));
        Ok(())
    });
}

#[test]
fn fastwebsockets_reads_what_we_write() {
    run(300, |all, _| {
        let mut bytes = Vec::new();
        for (opcode, payload) in all {
            match opcode {
                9 => writer::write_ping(payload, &mut bytes),
                10 => writer::write_pong(payload, &mut bytes),
                data => writer::write_message(*data == 1, payload, &mut bytes),
            }
        }
        writer::write_close(1000, "done", &mut bytes);
        writer::write_header(Opcode::Text, 0, &mut bytes);
        prop_assert_eq!(block_on(read_by_them(&bytes, Role::Client)), all.to_vec());
        Ok(())
    });
}

#[test]
fn what_we_take_of_damaged_frames_fastwebsockets_reads_alike() {
    let taken = std::cell::Cell::new(0);
    run(1_000, |all, cuts| {
        let mut bytes = block_on(write_by_them(all, cuts));
        // Damage one byte, near the start of the stream where the heads are.
        let length = bytes.len().clamp(1, 64);
        let at = cuts.iter().sum::<usize>() % length;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= u8::try_from(cuts[0] % 256).unwrap();
        }
        if let Ok(ours) = read_by_us(&bytes, cuts) {
            taken.set(taken.get() + 1);
            let theirs = block_on(read_by_them(&bytes, Role::Server));
            prop_assert_eq!(ours, theirs);
        }
        Ok(())
    });
    assert!(taken.get() > 100, "too few streams survived their damage to compare: {taken:?}");
}
