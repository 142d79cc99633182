//! What the lane tells the application: each connection's begin and end, once and in turn; what was not acked; who tried
//! what it may not.

use std::collections::BTreeMap;

use super::check;
use crate::happenings::{Ended, Happening, HappeningKind, Offence};

/// `told 1: connected ann plain`
pub(super) fn shown(happening: &Happening) -> String {
    let Happening { user, party, session, kind, .. } = happening;
    let session = session.map_or(0, |session| session.0);
    let kind_of = party.map_or("", |party| party.name());
    assert_eq!(user.is_empty(), kind_of.is_empty());
    let user = if user.is_empty() { "nobody" } else { user };
    let what = match kind {
        HappeningKind::Connected { resumed, dialect, generation } => {
            let again = if *resumed { format!(" again {generation}") } else { String::new() };
            assert_eq!(*resumed, *generation > 1);
            format!("connected {user} {dialect}{again}")
        }
        HappeningKind::Disconnected { generation, ended, connected_ms, resumable } => {
            let how = match ended {
                Ended::Closed(close) => close.row().name,
                Ended::Goodbye => "goodbye",
                Ended::Gone => "gone",
            };
            let which = if *generation > 1 { format!(" {generation}") } else { String::new() };
            let resumable = if *resumable { " resumable" } else { "" };
            format!("disconnected {user}{which} {how} {connected_ms}{resumable}")
        }
        HappeningKind::DeliveryFailed { room, id, position, why } => {
            let at = position.map_or(String::new(), |at| format!(" @{}", at.offset));
            format!("failed {user} {id} in {room}{at} {}", why.name())
        }
        HappeningKind::Security { what, count } => {
            assert_eq!(*count, 1);
            let detail = match what {
                Offence::Authentication { why } => (*why).to_owned(),
                Offence::Permission { right, room } => format!("{} {room}", right.name()),
                Offence::Origin { origin } => origin.to_string(),
                Offence::Limit { limit } => limit.name().to_owned(),
                Offence::Malformed { what } => (*what).to_owned(),
            };
            format!("{} {user}: {detail}", what.name())
        }
    };
    format!("told {session:x}: {what}")
}

/// Watches that each session is told as connected and disconnected in turn.
#[derive(Default)]
pub(super) struct Turns {
    connected: BTreeMap<String, bool>,
    came: usize,
}

impl Turns {
    /// Says whether that was told to the application.
    pub(super) fn see(&mut self, seen: &str) -> bool {
        let Some((session, what)) = seen.strip_prefix("told ").and_then(|it| it.split_once(": "))
        else {
            return false;
        };
        let comes = what.starts_with("connected ");
        if !comes && !what.starts_with("disconnected ") {
            return true;
        }
        self.came += usize::from(comes);
        let before = self.connected.insert(session.into(), comes).unwrap_or(false);
        assert_ne!(before, comes, "out of turn: {seen}");
        true
    }

    /// Everybody has gone; says how many came.
    #[track_caller]
    pub(super) fn all_over(&self) -> usize {
        let left: Vec<_> = self.connected.iter().filter(|(_, connected)| **connected).collect();
        assert!(left.is_empty(), "told as connected, and not as disconnected: {left:?}");
        self.came
    }
}

#[test]
fn who_comes_and_goes_is_told_with_how_it_ended() {
    let ends = [
        ("1 goodbye", "goodbye"),
        ("1 gone", "gone"),
        ("1 overflows", "slow"),
        ("hub stop", "stopping"),
        ("hub revalidate", "gap_too_old"),
    ];
    for (step, name) in ends {
        let closed = match name {
            "slow" => "1 closed 4200",
            "stopping" => "1 closed 1001",
            "gap_too_old" => "1 closed 4300",
            _ => "",
        };
        check(
            &format!(
                "tells
                 1 opens as ann
                 wait 1200
                 {step}"
            ),
            &format!(
                "1: welcome ann 1
                 told 1: connected ann plain
                 told 1: disconnected ann {name} 1200
                 {closed}"
            ),
        );
    }
}

#[test]
fn who_is_disconnected_by_order_or_by_a_drain_is_told_so() {
    check(
        "tells
         1 opens as ann
         2 opens dropped as bob
         3 opens as cid
         hub disconnect ann
         hub drain 1000 500
         wait 1000",
        "1: welcome ann 1
         told 1: connected ann plain
         2: welcome bob 2
         told 2: connected bob dropped
         3: welcome cid 3
         told 3: connected cid plain
         told 1: disconnected ann disconnected 0
         1 closed 4101
         hub carried out for 1
         told 2: disconnected bob drain 0
         2 dropped 1012
         told 3: disconnected cid drain 500
         3 closed 1012",
    );
}

#[test]
fn who_cannot_act_yet_is_not_told() {
    check(
        "tells
         manual
         1 opens
         2 opens own as ann
         2 gone
         1 gone
         3 opens own as bob
         hub joined user-bob
         hub joined session-3
         3 gone",
        "hub join user-ann
         hub join session-2
         hub join user-bob
         hub join session-3
         3: welcome bob 3
         told 3: connected bob own
         3 ready
         told 3: disconnected bob gone 0
         hub leave user-bob
         hub leave session-3",
    );
}

#[test]
fn a_session_that_goes_on_is_told_once_its_client_has_proven_itself() {
    check(
        "tells
         silent
         1 opens lasting as ann resume=9.9
         hub attached 1 as=9 gen=4
         1 pings
         1 gone
         2 opens lasting as ann resume=9.1
         hub attached 2 as=9 gen=5
         2 gone",
        "hub attach 9.9 for ann with 1
         1: welcome ann 9 token 9.1 resumed
         hub save 9/4 attached with 1 unconfirmed [] own []
         1: ping 1
         hub save 9/4 attached with 1 [] own []
         told 9: connected ann lasting again 4
         1: pong at 0
         told 9: disconnected ann 4 gone 0 resumable
         hub save 9/4 detached with 1 [] own [], the last
         hub attach 9.1 for ann with 2
         2: welcome ann 9 token 9.2 resumed
         hub save 9/5 attached with 2 unconfirmed [] own []
         2: ping 1
         hub save 9/5 detached with 2 unconfirmed [] own [], the last",
    );
}

#[test]
fn a_session_that_another_connection_took_over_is_told_as_replaced_or_moved() {
    for (fence, name, code) in [("", "replaced", 4100), (" moved", "moved", 4202)] {
        check(
            &format!(
                "tells
                 silent
                 1 opens lasting as ann knowing
                 hub fence 1 2{fence}"
            ),
            &format!(
                "1: welcome ann 1 token 1.1
                 hub save 1/1 attached with 1 [] own []
                 told 1: connected ann lasting
                 told 1: disconnected ann {name} 0
                 1 closed {code}"
            ),
        );
    }
}

#[test]
fn deliveries_that_failed_are_told() {
    check(
        "limits unacked=1
         tells
         1 opens as ann
         1 joins news
         1 joins tape
         hub news a id=a ack
         serve
         hub news b id=b ack
         serve
         failures",
        "1: welcome ann 1
         told 1: connected ann plain
         1: joined news
         1: joined tape at 0
         1: news a
         1: news b
         told 1: failed ann a in news too_many_unacked
         failed a in news of 1",
    );
}

#[test]
fn bad_tokens_are_told_whenever_they_come() {
    check(
        "tells
         1 opens
         1 token bad
         2 opens
         2 token broken
         3 opens as ann
         3 token bob
         4 opens as cid
         4 token bad
         5 opens
         5 pings
         wait 5000
         6 opens as dan<10
         wait 10000
         7 opens as eve
         hub revoke eve before 5",
        "told 1: authentication_failed nobody: the token is bad
         1 closed 4001
         told 2: authentication_failed nobody: no key at hand
         2 closed 4000
         3: welcome ann 3
         told 3: connected ann plain
         told 3: authentication_failed ann: the token is another user's
         told 3: disconnected ann unauthorized 0
         3 closed 4001
         4: welcome cid 4
         told 4: connected cid plain
         told 4: authentication_failed cid: the token is bad
         told 4: disconnected cid unauthorized 0
         4 closed 4001
         5: pong at 0
         told 5: authentication_failed nobody: no token came
         5 closed 4001
         6: welcome dan 6
         told 6: connected dan plain
         6: expiring at 10000
         told 6: authentication_failed dan: the token is expired
         told 6: disconnected dan unauthorized 10000
         6 closed 4001
         7: welcome eve 7
         told 7: connected eve plain
         told 7: authentication_failed eve: the token is revoked
         told 7: disconnected eve unauthorized 0
         7 closed 4001
         hub carried out for 1",
    );
}

#[test]
fn what_was_not_allowed_is_told_with_right_and_room() {
    check(
        "tells
         1 opens as ann
         1 joins secret
         1 joins nowhere
         1 publishes secret x
         1 asks secret
         1 looks secret
         1 marks secret read=1
         1 queries secret
         1 all joins news,secret",
        "1: welcome ann 1
         told 1: connected ann plain
         told 1: permission_refused ann: join secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: join nowhere
         1: refused nowhere: Permission denied
         told 1: permission_refused ann: publish secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: history secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: presence secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: mark secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: receipts secret
         1: refused secret: Permission denied
         told 1: permission_refused ann: join secret
         1: none joined news,secret: Permission denied",
    );
}

#[test]
fn what_a_back_end_did_not_allow_is_told_by_its_first_room() {
    check(
        "tells
         1 opens asking as ann
         1 all joins news,tape
         hub denies 1
         1 all joins news
         hub denies 1 unavailable",
        "1: welcome ann 1
         told 1: connected ann asking
         1 asks for news,tape
         told 1: permission_refused ann: join news
         1: none joined news,tape: Permission denied
         1 asks for news
         1: none joined news: Not possible at the moment",
    );
}

#[test]
fn limits_and_what_cannot_be_read_are_told() {
    check(
        "limits rooms=1 messages=3 connections=1 requests=1 histories=1
         tells
         1 opens as ann
         1 joins news-1
         1 joins news-2
         1 garbles #a
         1 joins news-1
         2 opens
         2 token ann
         3 opens
         3 garbles #b",
        "1: welcome ann 1
         told 1: connected ann plain
         1: joined news-1
         told 1: limit_hit ann: rooms_per_session
         1: refused news-2: The limit rooms_per_session is 1
         told 1: malformed_frame ann: The message cannot be read
         1: refused #a: The message cannot be read
         told 1: limit_hit ann: messages_per_minute
         1: refused news-1: The limit messages_per_minute is 3 wait 65000
         told 2: limit_hit ann: connections_per_user
         2 closed 4201
         told 3: malformed_frame nobody: The message cannot be read
         3: refused #b: The message cannot be read. \
         The first message must bring a token: {\"type\":\"auth\",\"token\":\"..\"}",
    );
}

#[test]
fn nothing_is_told_where_nobody_wants_to_know() {
    check(
        "1 opens as ann
         1 joins secret
         2 opens
         2 token bad
         1 gone
         counted untold",
        "1: welcome ann 1
         1: refused secret: Permission denied
         2 closed 4001
         0 untold",
    );
}

#[test]
fn while_the_way_is_full_only_the_end_of_what_was_told_is_told() {
    check(
        "tells
         1 opens as ann
         hush on
         2 opens as bob
         2 joins secret
         1 gone
         2 gone
         counted untold
         hush off
         3 opens as cid
         3 gone",
        "1: welcome ann 1
         told 1: connected ann plain
         2: welcome bob 2
         2: refused secret: Permission denied
         told 1: disconnected ann gone 0
         2 untold
         3: welcome cid 3
         told 3: connected cid plain
         told 3: disconnected cid gone 0",
    );
}
