//! The RPC protocol under any input: nothing panics, pieces of a stream mean what the whole means, and what is written
//! is read again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_dialects::goridge::{
    Answers, BadFrame, Call, Codec, Frame, Message, Reader, Reply, Services, flags,
};

use crate::common::{ALL, FILES, cases, each_frame, served};
use crate::running::run;

/// A frame of its own bytes.
type Owned = (u8, u32, Vec<u8>, Vec<u8>);

fn frames() -> impl Strategy<Value = Vec<Owned>> {
    let method = prop::sample::select(vec![
        &b"broadcast.Publish"[..],
        b"websockets.PublishAsync",
        b"broadcast.Nope",
        b"",
        b"\xff",
    ]);
    let body = prop_oneof![
        vec(any::<u8>(), 0..40),
        Just(b"\x0a\x11\x12\x03foo\x1a\x0ahello, PHP".to_vec()),
        Just(br#"{"messages":[{"topics":["foo"],"payload":"aGk="}]}"#.to_vec()),
    ];
    let frame = (any::<u8>(), any::<u32>(), method, body);
    vec(frame.prop_map(|(flags, seq, method, body)| (flags, seq, method.to_vec(), body)), 0..6)
}

fn written(frames: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    for (flags, seq, method, body) in frames {
        Frame { flags: *flags, seq: *seq, method, body }.write(&mut out);
    }
    out
}

fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<Owned>, Option<BadFrame>) {
    let mut found = Vec::new();
    let bad = each_frame(pieces, |frame| {
        let Frame { flags, seq, method, body } = *frame;
        found.push((flags, seq, method.to_vec(), body.to_vec()));
    });
    (found, bad)
}

/// Cuts a stream at these places, modulo its length.
fn cut<'b>(bytes: &'b [u8], places: &[usize]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn what_is_written_is_read_again_however_it_is_cut() {
    let strategy = (frames(), vec(any::<usize>(), 0..12));
    run(1_000, &strategy, |(frames, places)| {
        let bytes = written(&frames);
        let expected = (frames, None);
        assert_eq!(read([&*bytes]), expected);
        assert_eq!(read(cut(&bytes, &places)), expected);
        assert_eq!(read(bytes.chunks(1)), expected);
    });
}

#[test]
fn a_stream_with_a_wrong_byte_gives_the_same_however_it_is_cut() {
    let strategy = (frames(), any::<usize>(), any::<u8>(), vec(any::<usize>(), 0..12));
    run(2_000, &strategy, |(frames, at, byte, places)| {
        let mut bytes = written(&frames);
        bytes.extend_from_slice(b"\x15\x80");
        let at = at % bytes.len();
        bytes[at] = byte;
        let whole = read([&*bytes]);
        assert_eq!(read(cut(&bytes, &places)), whole);
        assert_eq!(read(bytes.chunks(1)), whole);
    });
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    run(2_000, &vec(any::<u8>(), 0..200), |bytes| {
        let whole = served(&bytes, ALL);
        assert_eq!(whole, served(&bytes, ALL));
        // Behind a sound header too, for otherwise most end at their first byte.
        for flags in [flags::PROTO, flags::JSON, flags::PROTO | flags::JSON, 0] {
            for method in ["broadcast.Publish", "websockets.PublishAsync"] {
                let mut frame = Vec::new();
                let method = method.as_bytes();
                Frame { flags, seq: 1, method, body: &bytes }.write(&mut frame);
                assert!(served(&frame, ALL).unwrap().len() > 20);
            }
        }
        for services in [ALL, Services { websockets: false }] {
            let mut frame = Vec::new();
            Frame { flags: 0x80, seq: 1, method: &bytes, body: b"" }.write(&mut frame);
            assert!(served(&frame, services).unwrap().len() > 20);
        }
    });
}

#[test]
fn any_change_of_a_captured_stream_is_read_without_a_panic() {
    let captured: Vec<u8> =
        FILES.into_iter().flat_map(cases).take(9).flat_map(|it| it.request()).collect();
    let changes = vec((any::<usize>(), any::<u8>()), 1..4);
    run(2_000, &changes, |changes| {
        let mut bytes = captured.clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        // What follows a bad frame is not looked at: from any frame on.
        let mut reader = Reader::new();
        reader.push(&bytes);
        while let Ok(Some(frame)) = reader.frame() {
            let call = Call::read(&frame, ALL);
            assert_eq!(call, Call::read(&frame, ALL));
        }
        assert!(reader.held_bytes() <= bytes.len());
    });
}

/// Protobuf as a client writes it: lengths as varints, empty fields left out.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
}

fn as_proto(messages: &[Message], with_broker: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let [topics, payload] = if with_broker { [3, 4] } else { [2, 3] };
    for message in messages {
        let mut inner = Vec::new();
        if with_broker && !message.broker.is_empty() {
            field(&mut inner, 2, message.broker.as_bytes());
        }
        message.topics.iter().for_each(|topic| field(&mut inner, topics, topic.as_bytes()));
        if !message.payload.is_empty() {
            field(&mut inner, payload, &message.payload);
        }
        field(&mut out, 1, &inner);
    }
    out
}

fn as_json(messages: &[Message]) -> Vec<u8> {
    let messages: Vec<_> = messages
        .iter()
        .map(|it| {
            let topics: Vec<_> = it.topics.iter().map(|topic| &**topic).collect();
            serde_json::json!({
                "broker": &*it.broker, "topics": topics, "payload": STANDARD.encode(&it.payload),
            })
        })
        .collect();
    serde_json::json!({ "messages": messages }).to_string().into_bytes()
}

#[test]
fn both_codecs_and_both_schemas_say_the_same() {
    let message = (any::<String>(), vec(any::<String>(), 1..4), vec(any::<u8>(), 0..300));
    run(500, &vec(message, 0..4), |drawn| {
        let made = drawn.into_iter().map(|(broker, topics, payload)| Message {
            broker: broker.into(),
            topics: topics.into_iter().filter(|it| !it.is_empty()).map(Into::into).collect(),
            payload: payload.into(),
        });
        let messages: Vec<_> = made.filter(|message| !message.topics.is_empty()).collect();
        for with_broker in [true, false] {
            let method = if with_broker { "websockets.Publish" } else { "broadcast.Publish" };
            let mut expected = messages.clone();
            if !with_broker {
                expected.iter_mut().for_each(|message| message.broker = "".into());
            }
            for (flags, body) in [
                (flags::PROTO, as_proto(&messages, with_broker)),
                (flags::JSON, as_json(&messages)),
            ] {
                let frame = Frame { flags, seq: 1, method: method.as_bytes(), body: &body };
                let Call::Publish(publish) = Call::read(&frame, ALL) else {
                    panic!("{method} {flags:02x} is refused");
                };
                assert_eq!(publish.messages, expected, "{method} {flags:02x}");
            }
        }
    });
}

#[test]
fn a_hundred_thousand_pipelined_calls_are_answered_in_order() {
    const CALLS: u32 = 100_000;
    let body = b"\x0a\x11\x12\x03foo\x1a\x0ahello, PHP";
    let mut stream = Vec::new();
    for seq in 0..CALLS {
        Frame { flags: flags::PROTO, seq, method: b"broadcast.Publish", body }.write(&mut stream);
    }
    let (mut reader, mut answers, mut most) = (Reader::new(), Vec::new(), 0);
    let mut owed = Answers::new();
    for piece in stream.chunks(16_000) {
        reader.push(piece);
        most = most.max(reader.held_bytes());
        while let Some(frame) = reader.frame().unwrap() {
            let Call::Publish(publish) = Call::read(&frame, ALL) else { panic!("refused") };
            let ticket = owed.begin(publish.reply);
            assert!(!owed.is_full());
            owed.end(ticket, Ok(()));
        }
        answers.extend(owed.take());
    }
    assert!(most < 16_000 + 100, "{most} bytes were held");
    let mut next = 0;
    let bad = each_frame(answers.chunks(1 << 16), |frame| {
        assert_eq!((frame.seq, frame.body), (next, &b"\x08\x01"[..]));
        next += 1;
    });
    assert_eq!((bad, next), (None, CALLS));
    assert!(answers.starts_with(&cases(FILES[0])[0].response()), "the captured answer comes first");
}

#[test]
fn answers_leave_in_order_whichever_call_is_over_first() {
    let step = (any::<bool>(), any::<u8>());
    run(1_000, &vec(step, 0..60), |steps| {
        let (mut answers, mut open, mut heard, mut seq) =
            (Answers::new(), Vec::new(), Vec::new(), 0);
        for (begins, number) in steps {
            if begins || open.is_empty() {
                let reply = Reply { seq, codec: Codec::Proto, method: b"broadcast.Publish" };
                match number % 3 {
                    0 => answers.answer(&reply, Ok(())),
                    1 => answers.answer(&reply, Err(b"refused")),
                    _ => open.push(answers.begin(reply)),
                }
                seq += 1;
            } else {
                let ticket = open.swap_remove(usize::from(number) % open.len());
                answers.end(ticket, if number % 2 == 0 { Ok(()) } else { Err("failed") });
            }
            heard.extend(answers.take());
        }
        open.into_iter().for_each(|ticket| answers.end(ticket, Ok(())));
        heard.extend(answers.take());
        assert!(answers.is_empty());
        let mut next = 0;
        let bad = each_frame([&*heard], |frame| {
            assert_eq!(frame.seq, next);
            next += 1;
        });
        assert_eq!((bad, next), (None, seq));
    });
}
