use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event that owns what it says.
type Owned = Event<'static>;

fn owned(event: Event<'_>) -> Owned {
    match event {
        Event::NeedMore => Event::NeedMore,
        Event::Message { text, payload } => {
            Event::Message { text, payload: Cow::Owned(payload.into_owned()) }
        }
        Event::Ping(payload) => Event::Ping(Cow::Owned(payload.into_owned())),
        Event::Pong(payload) => Event::Pong(Cow::Owned(payload.into_owned())),
        Event::Close { code, reason } => {
            Event::Close { code, reason: Cow::Owned(reason.into_owned()) }
        }
        Event::Fail(violation) => Event::Fail(violation),
    }
}

fn text(payload: &str) -> Owned {
    Event::Message { text: true, payload: Cow::Owned(payload.into()) }
}

fn binary(payload: &[u8]) -> Owned {
    Event::Message { text: false, payload: Cow::Owned(payload.to_vec()) }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..65_536 => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(0xff);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

fn frames(all: &[(u8, &[u8])]) -> Vec<u8> {
    all.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
}

/// Feeds `pieces` one after the other to one reader, up to the end or the first event that ends a connection.
fn feed<'p>(
    limits: &FrameLimits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Owned>, Reader) {
    let mut reader = Reader::new();
    let mut events = Vec::new();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut at = 0;
        loop {
            let (used, event) = reader.next(limits, 0, &mut bytes[at..]);
            at += used;
            match owned(event) {
                Event::NeedMore => break,
                last @ (Event::Close { .. } | Event::Fail(_)) => {
                    events.push(last);
                    return (events, reader);
                }
                event @ (Event::Message { .. } | Event::Ping(_) | Event::Pong(_)) => {
                    events.push(event);
                }
            }
        }
        assert_eq!(at, bytes.len(), "NeedMore left bytes behind");
    }
    (events, reader)
}

/// The events must be these however the bytes arrive: at once, cut in two anywhere, and one by one.
#[track_caller]
fn check_with(limits: &FrameLimits, bytes: &[u8], expected: &[Owned]) {
    assert_eq!(feed(limits, [bytes]).0, expected, "in one piece");
    assert_eq!(feed(limits, bytes.chunks(1)).0, expected, "byte by byte");
    for cut in 0..bytes.len() {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(feed(limits, [left, right]).0, expected, "cut at {cut}");
    }
}

#[track_caller]
fn check(all: &[(u8, &[u8])], expected: &[Owned]) {
    check_with(&FrameLimits::default(), &frames(all), expected);
}

#[track_caller]
fn check_fails(all: &[(u8, &[u8])], violation: Violation) {
    check(all, &[Event::Fail(violation)]);
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Reader>() <= 40, "{} bytes", size_of::<Reader>());
}

#[test]
fn whole_frames_are_borrowed_and_leave_nothing_behind() {
    let mut bytes = frames(&[(0x81, "grüß".as_bytes()), (0x89, b"?"), (0x82, &[1; 300])]);
    let mut reader = Reader::new();
    let limits = FrameLimits::default();
    let mut at = 0;
    for _ in 0..3 {
        let (used, event) = reader.next(&limits, 0, &mut bytes[at..]);
        at += used;
        let (Event::Message { payload, .. } | Event::Ping(payload)) = event else {
            panic!("{event:?}")
        };
        assert!(matches!(payload, Cow::Borrowed(_)));
        assert!(!reader.is_mid_message());
    }
    assert_eq!(reader.next(&limits, 0, &mut bytes[at..]), (0, Event::NeedMore));
    assert!(!reader.is_mid_message());
}

#[test]
fn split_messages_are_joined_and_forgotten() {
    let bytes = frames(&[(0x01, b"one "), (0x00, b""), (0x80, b"two")]);
    let (events, reader) = feed(&FrameLimits::default(), bytes.chunks(5));
    assert_eq!(events, [text("one two")]);
    assert!(!reader.is_mid_message());
}

#[test]
fn messages_of_every_kind_and_length_are_read() {
    check(&[(0x81, b"")], &[text("")]);
    check(&[(0x82, b"")], &[binary(b"")]);
    check(&[(0x81, "κόσμε".as_bytes()), (0x82, &[0, 255])], &[text("κόσμε"), binary(&[0, 255])]);
    for length in [125, 126, 127, 200] {
        check(&[(0x82, &vec![7; length])], &[binary(&vec![7; length])]);
    }
    for length in [65_535, 65_536] {
        let bytes = frame(0x82, &vec![9; length]);
        for size in [1, 13, 4_096, 100_000] {
            let pieces = bytes.chunks(size);
            assert_eq!(feed(&FrameLimits::default(), pieces).0, [binary(&vec![9; length])]);
        }
    }
}

#[test]
fn control_frames_pass_between_fragments() {
    check(
        &[(0x01, b"a"), (0x89, b"ping"), (0x00, b"b"), (0x8a, b""), (0x80, b"c")],
        &[Event::Ping(Cow::Borrowed(b"ping")), Event::Pong(Cow::Borrowed(b"")), text("abc")],
    );
    check(
        &[(0x02, b"a"), (0x88, &[0x03, 0xe8])],
        &[Event::Close { code: Some(1000), reason: Cow::Borrowed("") }],
    );
}

#[test]
fn frames_are_held_to_their_rules() {
    check_fails(&[(0xc1, b"x")], Violation::ReservedBits);
    check_fails(&[(0xa1, b"x")], Violation::ReservedBits);
    check_fails(&[(0x91, b"x")], Violation::ReservedBits);
    check_fails(&[(0x83, b"x")], Violation::UnknownOpcode);
    check_fails(&[(0x8b, b"x")], Violation::UnknownOpcode);
    check_fails(&[(0x09, b"x")], Violation::FragmentedControl);
    check_fails(&[(0x89, &[0; 126])], Violation::LongControl);
    check_fails(&[(0x80, b"x")], Violation::StrayContinuation);
    check_fails(&[(0x00, b"x")], Violation::StrayContinuation);
    check_fails(&[(0x01, b"x"), (0x81, b"y")], Violation::InterruptedMessage);
    check_fails(&[(0x01, b"x"), (0x02, b"y")], Violation::InterruptedMessage);
    check(&[(0x81, b"x"), (0x80, b"y")], &[text("x"), Event::Fail(Violation::StrayContinuation)]);
}

#[test]
fn an_unmasked_frame_fails() {
    let limits = FrameLimits::default();
    check_with(&limits, &[0x81, 0x01, b'x'], &[Event::Fail(Violation::Unmasked)]);
    check_with(&limits, &[0x89, 0x00], &[Event::Fail(Violation::Unmasked)]);
}

#[test]
fn lengths_are_shortest_and_below_2_to_63() {
    let limits = FrameLimits::default();
    let long = [0x82, 0xfe, 0, 125, 0, 0, 0, 0];
    check_with(&limits, &long, &[Event::Fail(Violation::LengthNotShortest)]);
    let overflow = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check_with(&limits, &overflow, &[Event::Fail(Violation::LengthOverflow)]);
    let huge = [0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0];
    check_with(&limits, &huge, &[Event::Fail(Violation::FrameTooLarge)]);
}

#[test]
fn a_frame_of_the_limit_passes_and_one_byte_more_fails() {
    let limits = FrameLimits { frame_bytes_max: 10, ..FrameLimits::default() };
    check_with(&limits, &frame(0x82, &[1; 10]), &[binary(&[1; 10])]);
    check_with(&limits, &frame(0x82, &[1; 11]), &[Event::Fail(Violation::FrameTooLarge)]);
    let whole = FrameLimits { message_bytes_max: 10, ..FrameLimits::default() };
    check_with(&whole, &frame(0x82, &[1; 11]), &[Event::Fail(Violation::MessageTooLarge)]);
}

#[test]
fn fragments_of_the_limit_pass_and_one_byte_more_fails() {
    let limits = FrameLimits { message_bytes_max: 6, ..FrameLimits::default() };
    let fits = frames(&[(0x02, &[1; 3]), (0x80, &[1; 3])]);
    check_with(&limits, &fits, &[binary(&[1; 6])]);
    let over = frames(&[(0x02, &[1; 3]), (0x80, &[1; 4])]);
    check_with(&limits, &over, &[Event::Fail(Violation::MessageTooLarge)]);
}

#[test]
fn as_many_fragments_as_the_limit_pass_and_one_more_fails() {
    let limits = FrameLimits { fragments_max: 3, ..FrameLimits::default() };
    let fits = frames(&[(0x02, b""), (0x00, b""), (0x80, b"")]);
    check_with(&limits, &fits, &[binary(b"")]);
    let over = frames(&[(0x02, b""), (0x00, b""), (0x00, b""), (0x80, b"")]);
    check_with(&limits, &over, &[Event::Fail(Violation::TooManyFragments)]);
}

#[test]
fn a_million_empty_fragments_fail_at_the_limit_without_growth() {
    let mut bytes = frame(0x01, b"");
    for _ in 0..1_000_000 {
        bytes.extend(frame(0x00, b""));
    }
    let mut reader = Reader::new();
    let (used, event) = reader.next(&FrameLimits::default(), 0, &mut bytes);
    assert_eq!(event, Event::Fail(Violation::TooManyFragments));
    assert_eq!(used, 6 * 65);
    assert!(!reader.is_mid_message());
}

#[test]
fn an_announced_length_allocates_nothing() {
    let limits = FrameLimits {
        frame_bytes_max: 1 << 30,
        message_bytes_max: 1 << 30,
        ..FrameLimits::default()
    };
    let mut reader = Reader::new();
    let mut bytes = vec![0x82, 0xff, 0, 0, 0, 0, 0x30, 0, 0, 0, 1, 2, 3, 4, 5];
    assert_eq!(reader.next(&limits, 0, &mut bytes), (15, Event::NeedMore));
    let held = reader.partial.unwrap().message.unwrap().payload.capacity();
    assert!(held <= 64, "{held} bytes for one received");
}

#[test]
fn bad_text_fails_at_the_byte_that_shows_it() {
    let limits = FrameLimits::default();
    for (bad, shows_at) in [
        (&b"\xff"[..], 0),
        (b"abc\x80", 3),
        (b"\xc0\xaf", 0),
        (b"\xed\xa0\x80", 1),
        (b"\xf4\x90\x80\x80", 1),
        (b"\xe0\x80\x80", 1),
        (b"\xf8\x88\x80\x80\x80", 0),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", 12),
    ] {
        check(&[(0x81, bad)], &[Event::Fail(Violation::BadUtf8)]);
        check(&[(0x01, bad), (0x80, b"")], &[Event::Fail(Violation::BadUtf8)]);
        // Behind it comes more, so a reader that waits for the whole frame would wait here.
        let mut bytes = frame(0x81, &[bad, b"and more"].concat());
        bytes.truncate(6 + shows_at + 1);
        assert_eq!(feed(&limits, [&bytes[..]]).0, [Event::Fail(Violation::BadUtf8)], "{bad:x?}");
        bytes.pop();
        assert_eq!(feed(&limits, [&bytes[..]]).0, [], "{bad:x?}");
    }
    check(&[(0x82, b"\xff\xfe")], &[binary(b"\xff\xfe")]);
}

#[test]
fn a_character_may_be_split_over_fragments_but_not_over_messages() {
    let letters = "é€😀".as_bytes();
    for cut in 0..letters.len() {
        let (left, right) = letters.split_at(cut);
        check(
            &[(0x01, left), (0x89, b""), (0x80, right)],
            &[Event::Ping(Cow::Borrowed(b"")), text("é€😀")],
        );
    }
    check_fails(&[(0x81, &letters[..1]), (0x81, &letters[1..])], Violation::BadUtf8);
    check_fails(&[(0x01, b"a"), (0x80, &letters[..1])], Violation::BadUtf8);
}

#[test]
fn close_codes_and_reasons_are_held_to_the_rfc() {
    let close = |code: u16, reason: &'static str| {
        check(
            &[(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())],
            &[Event::Close { code: Some(code), reason: Cow::Borrowed(reason) }],
        );
    };
    check(&[(0x88, b"")], &[Event::Close { code: None, reason: Cow::Borrowed("") }]);
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
        close(code, "");
        close(code, "tschüß");
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check_fails(&[(0x88, &code.to_be_bytes())], Violation::CloseCode);
    }
    check_fails(&[(0x88, b"\x03")], Violation::CloseTruncated);
    check_fails(&[(0x88, b"\x03\xe8\xff")], Violation::BadUtf8);
}

#[test]
fn a_flood_of_pings_fails_and_slow_ones_do_not() {
    let limits = FrameLimits { controls_per_second_max: 2, ..FrameLimits::default() };
    let mut reader = Reader::new();
    let mut send = |now_ms, first| {
        reader.next(&limits, now_ms, &mut frame(first, b"")).1
            == Event::Fail(Violation::ControlFlood)
    };
    assert!(!send(5_000, 0x89));
    assert!(!send(5_999, 0x8a));
    assert!(!send(6_000, 0x89));
    assert!(!send(6_500, 0x89));
    assert!(!send(6_999, 0x88), "a Close is the last frame in any case");
    assert!(send(6_999, 0x89));
}

#[test]
fn split_pings_count_as_well() {
    let limits = FrameLimits { controls_per_second_max: 2, ..FrameLimits::default() };
    let bytes = frames(&[(0x89, b"1"), (0x8a, b"2"), (0x89, b"3")]);
    check_with(
        &limits,
        &bytes,
        &[
            Event::Ping(Cow::Borrowed(b"1")),
            Event::Pong(Cow::Borrowed(b"2")),
            Event::Fail(Violation::ControlFlood),
        ],
    );
}

fn property(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(6_455),
        failure_persistence: None,
        ..Config::default()
    })
}

/// Frames near the rules: mostly right, some wrong.
fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x8a]),
        1 => prop::sample::select(vec![0x88, 0x09, 0xc1, 0x83, 0x8f]),
    ];
    let payload = prop_oneof![
        6 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..140),
        1 => Just(vec![0x03, 0xe8, b'o', b'k']),
    ];
    (first, payload, any::<[u8; 4]>()).prop_map(|(first, payload, _)| frame(first, &payload))
}

#[test]
fn how_bytes_arrive_changes_nothing() {
    let limits = FrameLimits {
        frame_bytes_max: 130,
        message_bytes_max: 200,
        fragments_max: 6,
        controls_per_second_max: 5,
    };
    let streams = prop::collection::vec(some_frame(), 0..14).prop_map(|frames| frames.concat());
    let cuts = prop::collection::vec(1..200_usize, 1..30);
    property(2_000)
        .run(&(streams, cuts), |(bytes, cuts)| {
            let at_once = feed(&limits, [&bytes[..]]).0;
            prop_assert_eq!(&feed(&limits, bytes.chunks(1)).0, &at_once);
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for size in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at(rest.len().min(*size));
                pieces.push(piece);
                rest = later;
            }
            prop_assert_eq!(&feed(&limits, pieces).0, &at_once);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_are_read_without_panic() {
    let limits = FrameLimits::default();
    property(5_000)
        .run(&prop::collection::vec(any::<u8>(), 0..300), |bytes| {
            let at_once = feed(&limits, [&bytes[..]]).0;
            prop_assert_eq!(&feed(&limits, bytes.chunks(3)).0, &at_once);
            Ok(())
        })
        .unwrap();
}

#[test]
fn messages_in_fragments_come_out_as_they_went_in() {
    let message = (any::<bool>(), "\\PC{0,60}", prop::collection::vec(0..60_usize, 0..5));
    property(2_000)
        .run(&prop::collection::vec(message, 1..6), |messages| {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (is_text, payload, mut cuts) in messages {
                let payload = payload.into_bytes();
                cuts.iter_mut().for_each(|cut| *cut = (*cut).min(payload.len()));
                cuts.sort_unstable();
                let mut from = 0;
                let opcode = if is_text { 1 } else { 2 };
                for (index, cut) in cuts.iter().enumerate() {
                    let first = if index == 0 { opcode } else { 0 };
                    bytes.extend(frame(first, &payload[from..*cut]));
                    from = *cut;
                }
                let first = if cuts.is_empty() { opcode } else { 0 };
                bytes.extend(frame(0x80 | first, &payload[from..]));
                expected.push(Event::Message { text: is_text, payload: Cow::Owned(payload) });
            }
            prop_assert_eq!(&feed(&FrameLimits::default(), [&bytes[..]]).0, &expected);
            prop_assert_eq!(&feed(&FrameLimits::default(), bytes.chunks(7)).0, &expected);
            Ok(())
        })
        .unwrap();
}
