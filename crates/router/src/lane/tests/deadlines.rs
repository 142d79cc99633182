//! Deadlines: first message, silence, expiry.

use super::check;

#[test]
fn a_session_without_a_token_is_closed_after_five_seconds() {
    check(
        "1 opens\nat 4999\nsizes\nat 5000\nsizes",
        "1 sessions, 0 rooms, 0 places\n1 closed 4001\n0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn keep_alives_do_not_put_off_the_deadline_for_a_token() {
    check("1 opens\nat 4000\n1 heard\n1 pings x\nat 5250", "1: pong x\n1 closed 4001");
}

#[test]
fn a_token_in_time_keeps_the_session() {
    check(
        "1 opens\nat 4999\n1 token ann\nat 24000\nsizes",
        "1: welcome ann 1\n1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn silence_is_pinged_after_25_s_and_closed_10_s_later() {
    check(
        "1 opens as ann
         at 24999
         at 25000
         at 34999
         sizes
         at 35000
         at 99000",
        "1: welcome ann 1
         1: ping
         1 sessions, 0 rooms, 0 places
         1 closed 4200",
    );
}

#[test]
fn whoever_is_heard_is_pinged_later() {
    check(
        "1 opens as ann
         at 20000
         1 heard
         at 44999
         at 45000
         at 45100
         1 heard
         at 70099
         at 70250
         at 70300
         1 heard
         at 95000
         at 95500",
        "1: welcome ann 1
         1: ping
         1: ping
         1: ping",
    );
}

#[test]
fn an_expiring_token_is_told_once_and_closes_4001_after_the_leeway() {
    check(
        "1 opens as ann<80
         at 19999
         at 20250
         at 22000
         1 heard
         at 45000
         1 heard
         at 65000
         1 heard
         at 84999
         at 85000",
        "1: welcome ann 1
         1: expiring at 80000
         1 closed 4001",
    );
}

#[test]
fn a_refreshed_token_puts_expiry_off() {
    check(
        "1 opens as ann<80
         at 21000
         1 heard
         1 token ann<95
         at 34999
         at 35250
         1 heard
         1 token ann<300
         at 60000
         1 heard
         at 85000
         1 heard
         at 101000
         sizes",
        "1: welcome ann 1
         1: expiring at 80000
         1: refreshed until 95000
         1: expiring at 95000
         1: refreshed until 300000
         1: ping
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_token_that_expires_soon_is_told_at_once() {
    check(
        "1 opens as ann<10\nat 250\nat 15000",
        "1: welcome ann 1\n1: expiring at 10000\n1 closed 4001",
    );
}

#[test]
fn a_token_expires_while_own_rooms_are_not_live_yet() {
    check(
        "manual
         1 opens own as ann<10
         at 14999
         at 15000",
        "hub join user-ann
         hub join session-1
         1 closed 4001",
    );
}

#[test]
fn a_session_whose_rooms_never_become_live_is_closed() {
    check(
        "manual
         1 opens own as ann
         at 25000
         at 35250
         hub joined user-ann
         hub joined session-1
         sizes",
        "hub join user-ann
         hub join session-1
         1: ping
         1 closed 4200
         hub leave user-ann
         hub leave session-1
         0 sessions, 0 rooms, 0 places",
    );
}

/// Refreshes ten times a second for a minute, then is heard for a while; answers with the most places taken in the
/// wheel, and with those taken at the end.
fn places_taken(expiries: [u64; 2]) -> (usize, usize) {
    let mut world = super::World::new("limits controls=100000");
    world.step("1 opens as ann<900");
    let mut most = 0;
    for round in 0..600 {
        world.step(&format!("1 token ann<{}", expiries[round % 2]));
        world.step("1 heard");
        world.step("wait 100");
        most = most.max(world.lane.wheel.len());
    }
    world.step("1 token ann<900");
    for _ in 0..20 {
        world.step("1 heard");
        world.step("wait 20000");
    }
    (most, world.lane.wheel.len())
}

#[test]
fn deadlines_that_change_often_take_few_places_and_leave_none() {
    assert_eq!(places_taken([900, 800]), (1, 1));
    let (most, end) = places_taken([900, 90]);
    assert!(most <= 250, "ten looks a second, each at most 25 s ahead: {most}");
    assert_eq!(end, 1);
}

#[test]
fn limits_of_any_size_do_not_overflow() {
    use roomcast_protocol::limits::SessionLimits;
    use roomcast_protocol::time::Now;

    let mut world = super::World::new("");
    world.lane.limits = SessionLimits {
        first_message_ms: u64::MAX,
        ping_ms: u64::MAX,
        pong_ms: u64::MAX,
        expiry_notice_ms: u64::MAX,
        leeway_ms: u64::MAX,
        ..SessionLimits::default()
    };
    world.now = Now { mono_ms: 9, unix_ms: u64::MAX - 9 };
    world.step("1 opens");
    world.step("1 heard");
    let mut out = Vec::new();
    world.lane.tick(world.now, &mut out);
    assert!(out.is_empty());
    assert!(world.lane.wheel.next_wake().is_none_or(|wake| wake > 1 << 60));
}
