//! Who a node is to Redis, and what it must be allowed: TLS, and an ACL user with no more than it needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::kept::{attach, part, save};
use common::{KEEP, Real, Topology, offsets, options, room, subscribed};
use roomcast_broker::redis::{RedisOptions, Servers, Tls};
use roomcast_protocol::directory::{Entries, EntrySet, SetEntry};
use roomcast_protocol::envelope::Level;
use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::{Direction, Keep, Span};
use roomcast_protocol::publication::Priority;
use roomcast_protocol::receipts::{Mark, MarksSet};
use roomcast_protocol::relay::RelayMode;
use roomcast_protocol::session::{ResumeToken, SaveSession, Secret, SessionState, Wish};
use xtask::servers::Redis;

const ONE: NodeId = NodeId(1);

/// What docs/DEPLOYING.md names, word for word.
const RULES: &str = "~rc:* resetchannels &room:* &rc:* -@all +info +function|load +fcall +publish +spublish \
                     +psubscribe +subscribe +unsubscribe +ssubscribe +sunsubscribe +time +get +mget +set +del \
                     +exists +incr +hget +hmget +hgetall +hkeys +hset +hsetnx +hdel +hlen +sadd +scard +smembers \
                     +srem +zadd +zcard +zscore +zrange +zrangebylex +zrangebyscore +zrevrangebyscore +zrem \
                     +zremrangebyrank +zremrangebyscore +xadd +xdel +xgroup|create +xlen +xrange +xrevrange +xtrim \
                     +rename +persist +pexpire +pttl +pexpireat +wait";

/// A node with these options can do all that nodes do.
fn serves(options: RedisOptions) {
    let has_replica = matches!(options.servers, Servers::Sentinel { .. });
    let mut broker = Real::new(options);
    broker.attach_node(ONE);
    subscribed(&mut broker, ONE, "news", 1);
    assert!(broker.beat(ONE).is_some());
    for (ticket, dedup) in [(1, false), (2, true), (2, true), (3, true)] {
        broker.publish(ONE, ticket, "news", &format!("{ticket}"), dedup);
        let outcome = broker.outcome(ONE, ticket);
        assert!(outcome.is_ok(), "{ticket}: {outcome:?}");
    }
    let heard = broker.heard_until(ONE, "news message ann 3");
    assert_eq!(heard, ["1", "2", "3"].map(|it| format!("news message ann {it}")));
    // More than once what a room keeps, so that all is done that ever is.
    let keep = Keep { size: 4, ..KEEP };
    let first = broker.stored(ONE, 1, "kept", keep);
    for id in 2..=300 {
        broker.stored(ONE, id, "kept", keep);
    }
    assert_eq!(broker.heads(ONE, &["kept"], keep), Some(vec![first.at(300)]));
    assert_eq!(offsets(&broker.kept(ONE, "kept", keep)), [297, 298, 299, 300]);
    let span = Span { direction: Direction::Backward, from: 299, ..Span::above(0) };
    assert_eq!(offsets(&broker.page(ONE, "kept", keep, span).unwrap()), [297, 298]);
    let partition = broker.moved(ONE, &[])[0].count;
    broker.stored(ONE, 301, "kept", keep);
    let moved = broker.moved(ONE, &[partition]);
    assert_eq!(moved[0].rooms, Some(vec![(room("kept"), first.at(301))]));
    broker.publish_kept(ONE, 9, 302, "kept", Keep { replicated: true, ..keep });
    // Not declined: it waits for replicas, which are only some of the servers'.
    assert!(broker.outcome(ONE, 9).is_ok_and(|it| it.level == Level::Replicated) == has_replica);
    broker.leave(ONE, "news");
    assert!(broker.beat(ONE).is_some());
    keeps_state(&mut broker);
}

/// What nodes keep of sessions, users, cursors and receipts.
fn keeps_state(broker: &mut Real) {
    for session in 1..=65 {
        assert!(broker.save(ONE, save("ann", session)).is_some());
    }
    let ended = SaveSession { state: SessionState::Ended, ..save("ann", 64) };
    assert!(broker.save(ONE, ended).is_some());
    let token = ResumeToken { session: SessionId(65), secret: Secret(65) };
    assert!(broker.take_over(ONE, attach("ann", Wish::Token(token), &[ONE])).is_ok());
    let news = "news";
    assert_eq!(
        broker.stepped((ONE, 1), 1, news, vec![part(1, "ann", true)], 0),
        "news 1 of 1 +ann -"
    );
    broker.stepped((ONE, 1), 2, news, vec![part(1, "ann", false)], 1);
    std::thread::sleep(Duration::from_millis(5));
    broker.beat_with(ONE, 6_400, 1, None);
    assert_eq!(broker.users(ONE, news), Vec::<String>::new());
    broker.stepped((ONE, 1), 3, news, vec![part(2, "bob", true)], 1);
    broker.beat_as(ONE, 2, Some(1));
    assert_eq!(broker.users(ONE, news), Vec::<String>::new());
    let keep = Keep { size: 2, inbox: Some(CursorOf::Device), ..KEEP };
    let low = Some(Priority::Low);
    for (id, class, key) in
        [(1, None, "a"), (2, low, "b"), (3, None, "a"), (4, None, "b"), (5, None, "a")]
    {
        broker.stored_as(ONE, id, "user-ann", keep, (class, Some(key)));
    }
    let first = broker.inbox(ONE, "user-ann", "a", keep).acked.watermark;
    let state = broker.ack(ONE, ("user-ann", "a"), keep, (first.at(5), &[]), 9);
    assert_eq!((state.acked.watermark.offset, state.untold()), (5, 0));
    for device in 0..20 {
        broker.inbox(ONE, "user-ann", &format!("{device}"), keep);
    }
    let changes = [("ann", Mark::Read, 3), ("bob", Mark::Delivered, 2)];
    let marked = broker.mark(ONE, "user-ann", keep, first.epoch, &changes);
    assert!(matches!(marked, Some(MarksSet::Done { .. })), "{marked:?}");
    assert_eq!(broker.receipts(ONE, "user-ann", keep, Some(3)).receipts.len(), 1);
    keeps_directories(broker);
}

/// What nodes keep of directories: set for ever and for a time, read, removed.
fn keeps_directories(broker: &mut Real) {
    let set = |value: Option<&'static str>, idle_ms| SetEntry {
        directory: room("group"),
        name: "ann".into(),
        value: value.map(Bytes::from),
        entries_max: 9,
        idle_ms,
    };
    let held = || Some(Bytes::from("v"));
    for (value, idle_ms, before, entries) in
        [(Some("v"), Some(60_000), None, 1), (Some("v"), None, held(), 1), (None, None, held(), 0)]
    {
        let outcome = broker.set_entry(ONE, set(value, idle_ms));
        assert_eq!(outcome, Some(EntrySet::Done { before, entries }));
        for asked in [Entries::One("ann".into()), Entries::Behind { after: None, count_max: 9 }] {
            assert_eq!(broker.directory(ONE, "group", asked).total, entries);
        }
    }
}

#[test]
fn a_user_that_may_no_more_than_the_page_says_serves_a_node_in_every_mode() {
    let rules: Vec<_> = RULES.split_whitespace().collect();
    let guide = include_str!("../../../docs/DEPLOYING.md");
    assert!(guide.contains(&rules.join(" ")), "the page names other rules");
    for (topology, more) in [
        (Topology::standalone(), &[][..]),
        (Topology::sentinel(), &["+role"]),
        (Topology::cluster(), &["+cluster|slots", "+cluster|info"]),
    ] {
        assert!(more.iter().all(|rule| guide.contains(&format!("`{rule}`"))), "{more:?}");
        let user = ["ACL", "SETUSER", "node", "on", ">open sesame"];
        topology.command(&[&user[..], &rules, more].concat());
        for mode in RelayMode::ALL {
            topology.flush();
            let mut options = options(&topology, mode);
            options.credentials.username = Some("node".to_owned());
            options.credentials.password = Some("open sesame".to_owned());
            // So that ids turn over as well.
            options.dedup_max = 1;
            serves(options);
        }
    }
}

#[test]
fn commands_and_feed_are_encrypted_and_only_with_whom_the_authority_names() {
    let redis = Redis::start_tls(&["--requirepass", "open sesame"]).unwrap();
    let ca_pem = std::fs::read(redis.tls_ca_file().unwrap()).unwrap();
    let port = redis.tls_port().unwrap();
    let topology = Topology::Standalone(std::cell::RefCell::new(redis));
    for mode in RelayMode::ALL {
        topology.flush();
        let mut options = options(&topology, mode);
        options.servers =
            roomcast_broker::redis::Servers::Standalone(("127.0.0.1".to_owned(), port));
        options.tls = Some(Tls { ca_pem: Some(ca_pem.clone()) });
        serves(options.clone());
        if mode == RelayMode::Pattern {
            // Nobody vouches for it: neither a beat nor a publication goes there.
            options.tls = Some(Tls { ca_pem: None });
            let mut broker = Real::new(options);
            broker.attach_without_feed(ONE);
            assert!(broker.beat(ONE).is_none());
            broker.publish(ONE, 1, "news", "x", true);
            assert!(!broker.outcome(ONE, 1).unwrap_err().unknown);
        }
    }
}
