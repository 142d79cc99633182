//! A node that drains hands its clients over: both connections are open for a while, nothing is lost, and what comes
//! twice has one position (G14). Clients that know nothing of it have their turn, one after the other.

use std::time::{Duration, Instant};

use roomcast_protocol::codes::Close;
use serde_json::json;

use crate::common::ws::{Heard, PONG, Ws};
use crate::stage::{
    Broker, Note, Stage, authenticate, dial, end, join, next_of, notes_until, on_both_brokers,
    publish, shown, token_of,
};

on_both_brokers!(
    a_client_that_hands_over_loses_nothing_and_repeats_nothing,
    clients_that_do_not_hand_over_go_one_after_the_other,
    only_the_seeds_client_ends_without_a_close_frame,
);

fn a_client_that_hands_over_loses_nothing_and_repeats_nothing(broker: Broker) {
    let stage = Stage::new(broker, "[drain]\nwindow = \"2s\"\ndeadline = \"10s\"\n");
    let Stage { first, second, redis: _held } = stage;
    let (mut old, welcome) = dial(&first, "ann", "&handover=1");
    join(&mut old, "kept-1");
    let mut heard: Vec<Note> = Vec::new();
    publish(&second, "kept-1", "n0");
    heard.extend(notes_until(&mut old, "kept-1", "n0"));
    let drain = std::thread::spawn(move || first.drain());
    let turn = next_of(&mut old, "drain");
    assert!(turn["data"]["turn_ms"].as_u64().unwrap() > 0, "{turn}");
    publish(&second, "kept-1", "n1");
    let resume = format!("&handover=1&resume={}", turn["data"]["resume_token"].as_str().unwrap());
    let (mut new, again) = dial(&second, "ann", &resume);
    assert_eq!(again["resumed"], true, "{again}");
    assert_eq!(again["session_id"], welcome["session_id"]);
    publish(&second, "kept-1", "n2");
    let of_new = notes_until(&mut new, "kept-1", "n2");
    // The first frame of the new connection ends the old one, behind all that waited for it.
    new.tell(&serde_json::json!({ "type": "ping", "timestamp": 1 }));
    let code = loop {
        match old.heard(Duration::from_secs(10)) {
            Some(Heard::Close(code, _)) => break code,
            Some(Heard::Text(text)) => {
                let message: serde_json::Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "note" {
                    let offset = message["metadata"]["offset"].as_u64();
                    let id = message["id"].as_str().unwrap().to_owned();
                    heard.push(Note { id, offset });
                }
            }
            Some(Heard::Ping(payload)) => old.send(PONG, &payload),
            other => panic!("the old connection: {other:?}"),
        }
    };
    assert_eq!(code, Some(Close::Moved.row().code));
    drop(old);
    heard.extend(of_new);
    publish(&second, "kept-1", "n3");
    heard.extend(notes_until(&mut new, "kept-1", "n3"));
    assert_eq!(shown(&heard), ["n0", "n1", "n2", "n3"], "{heard:?}");
    let drained = drain.join().unwrap();
    assert_eq!((drained.clients, drained.cut), (1, 0), "{drained:?}");
}

fn only_the_seeds_client_ends_without_a_close_frame(broker: Broker) {
    let stage = Stage::new(broker, "[drain]\nwindow = \"500ms\"\ndeadline = \"10s\"\n");
    let Stage { first, second, redis: _held } = stage;
    let (held, welcome) = dial(&second, "back", "");
    drop(held);
    let resume = token_of(&welcome);
    let said = [
        json!({ "handover": false }),
        json!({ "device": "phone" }),
        json!({ "covered": {} }),
        json!({ "resume_token": resume }),
    ];
    let mut told: Vec<Ws> = vec![dial(&first, "query", "&handover=0").0];
    told.extend(said.iter().map(|said| authenticate(&first, "back", said).0));
    let mut seed = authenticate(&first, "seed", &json!({})).0;
    let drain = std::thread::spawn(move || first.drain());
    let ends: Vec<_> = told.iter_mut().map(|ws| end(ws, Duration::from_secs(10))).collect();
    assert_eq!(ends, [Some(Close::Drain.row().code); 5]);
    assert_eq!(end(&mut seed, Duration::from_secs(10)), None);
    drain.join().unwrap();
}

fn clients_that_do_not_hand_over_go_one_after_the_other(broker: Broker) {
    const CLIENTS: usize = 50;
    const WINDOW: Duration = Duration::from_secs(3);
    let stage = Stage::new(broker, "[drain]\nwindow = \"3s\"\nrate = 1000\ndeadline = \"10s\"\n");
    let Stage { first, second, redis: _held } = stage;
    let clients: Vec<Ws> = (0..CLIENTS).map(|n| dial(&first, &format!("u{n}"), "").0).collect();
    let began = Instant::now();
    let drain = std::thread::spawn(move || first.drain());
    let waiting = clients.into_iter().map(|mut ws| {
        std::thread::spawn(move || (end(&mut ws, Duration::from_secs(15)), began.elapsed()))
    });
    let waiting: Vec<_> = waiting.collect();
    let mut ended: Vec<_> = waiting.into_iter().map(|it| it.join().unwrap()).collect();
    // Only a socket that ends without a Close frame makes the seed's client come back.
    assert!(ended.iter().all(|(code, _)| code.is_none()), "{ended:?}");
    ended.sort_by_key(|(_, after)| *after);
    let after = |share: usize| ended[(CLIENTS * share / 100).min(CLIENTS - 1)].1;
    assert!(after(100) >= WINDOW * 8 / 10, "the last one went after {:?}", after(100));
    assert!(after(100) <= WINDOW + Duration::from_secs(2), "{:?}", after(100));
    // Evenly: never more than a third of them in a fifth of the window.
    for (at, (_, from)) in ended.iter().enumerate() {
        let until = *from + WINDOW / 5;
        let together = ended[at..].iter().take_while(|(_, after)| *after < until).count();
        assert!(together <= CLIENTS / 3, "{together} within {:?} from {from:?}", WINDOW / 5);
    }
    let drained = drain.join().unwrap();
    assert_eq!((drained.clients, drained.cut), (CLIENTS as u64, 0), "{drained:?}");
    // And back they are.
    let (_back, welcome) = dial(&second, "u0", "");
    assert_eq!(welcome["type"], "welcome");
}
