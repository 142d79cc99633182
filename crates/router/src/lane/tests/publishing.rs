//! Publishing: rights, what the node sets, answers, limits.

use super::{World, check};

#[track_caller]
fn ready(token: &str, script: &str, expected: &str) {
    let welcome = token.split(['+', '@', '!', '^']).next().unwrap();
    let agent =
        token.split_once('@').map_or(String::new(), |(_, id)| format!("hub agent {id} up\n"));
    check(
        &format!("1 opens as {token}\n{script}"),
        &format!("1: welcome {welcome} 1\n{agent}{expected}"),
    );
}

#[test]
fn a_publication_goes_to_the_hub() {
    ready("ann", "1 publishes news hi", "hub publish news hi by ann");
    ready(
        "ann",
        "1 publishes news hi kind=shout corr=c class=low requires=b,a",
        "hub publish news hi by ann kind=shout class=low corr=c requires=a,b",
    );
}

#[test]
fn permissions_required_twice_are_required_once() {
    ready("ann", "1 publishes news hi requires=b,a,b,b", "hub publish news hi by ann requires=a,b");
}

#[test]
fn the_right_to_publish_is_evaluated_anew_after_a_refresh() {
    ready(
        "ann+secret",
        "1 publishes secrets one
         1 token ann
         1 publishes secrets two
         1 token ann+secret
         1 publishes secrets three",
        "hub publish secrets one by ann
         1: refreshed until 1125899906842624
         1: refused secrets: Permission denied
         1: refreshed until 1125899906842624
         hub publish secrets three by ann",
    );
}

#[test]
fn an_agent_publishes_only_what_names_itself() {
    ready(
        "ann@7",
        "1 publishes agents on agent=7
         1 publishes agents on agent=8
         1 publishes agents on",
        "hub publish agents on by ann
         1: refused agents: Permission denied
         1: refused agents: Permission denied",
    );
    ready("ann", "1 publishes agents on", "1: refused agents: Permission denied");
}

#[test]
fn a_room_with_types_takes_only_those() {
    ready(
        "ann",
        "1 publishes typed hi kind=a
         1 publishes typed hi kind=b
         1 publishes typed hi kind=c #1",
        "hub publish typed hi by ann kind=a
         hub publish typed hi by ann kind=b
         1: refused typed #1: This room takes only the types a, b",
    );
}

#[test]
fn users_speak_for_themselves_and_back_ends_for_whom_they_say() {
    ready("ann", "1 publishes news hi sender=root", "hub publish news hi by ann");
    ready("ann^guests", "1 publishes news hi sender=root", "hub publish news hi by guests:ann");
    ready("app!", "1 publishes news hi sender=root", "hub publish news hi by root");
    ready("app!", "1 publishes news hi", "hub publish news hi by app");
}

#[test]
fn a_publication_expires_by_its_ttl() {
    ready("ann", "at 500\n1 publishes news hi ttl=3", "hub publish news hi by ann until=3500");
    ready(
        "ann",
        "at 500\n1 publishes news hi ttl=4294967295",
        "hub publish news hi by ann until=4294967295500",
    );
}

#[test]
fn the_senders_timestamp_is_kept_and_else_the_nodes_is_set() {
    ready(
        "ann",
        "1 publishes news hi at=2024-01-15T10:30:00Z",
        "hub publish news hi by ann at=2024-01-15T10:30:00Z",
    );
    ready(
        "ann",
        "at 12345\n1 publishes news hi",
        "hub publish news hi by ann at=1970-01-01T00:00:12.345Z",
    );
}

#[test]
fn an_ack_names_the_id() {
    ready(
        "ann",
        "1 publishes news hi id=x ack
         hub accepts
         1 publishes news hi id=y ack
         hub accepts short
         1 publishes news hi id=z
         hub accepts",
        "hub publish news hi by ann id=x dedup
         1: accepted x
         hub publish news hi by ann id=y dedup
         1: accepted y short
         hub publish news hi by ann id=z",
    );
}

#[test]
fn what_the_broker_refuses_is_told_with_and_without_an_ack() {
    ready(
        "ann",
        "1 publishes news hi id=x ack #1
         hub refuses
         1 publishes news hi id=y #2
         hub refuses",
        "hub publish news hi by ann id=x dedup
         1: refused news #1: Not possible at the moment
         hub publish news hi by ann id=y
         1: refused news #2: Not possible at the moment",
    );
}

#[test]
fn made_ids_are_uuids_and_unique() {
    let mut world = World::new("");
    world.step("1 opens as app!");
    world.step("2 opens as app!");
    for _ in 0..2_000 {
        world.step("1 publishes news hi");
        world.step("2 publishes news hi ack");
    }
    let mut ids = world.made.clone();
    assert_eq!(ids.len(), 4_000);
    for id in &ids {
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(id.as_bytes()[14], b'8', "version 8: {id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "variant of RFC 9562: {id}");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4_000);
}

fn publishes(count: usize) -> String {
    "1 publishes news hi\n".repeat(count)
}

#[test]
fn the_hundredth_message_passes_and_the_next_is_refused() {
    let hundred = "hub publish news hi by ann\n".repeat(100);
    ready("ann", &publishes(100), &hundred);
    let refused = "1: refused news: The limit messages_per_minute is 100 wait 65000";
    ready("ann", &publishes(101), &format!("{hundred}{refused}"));
    ready("app!", &publishes(300), &"hub publish news hi by app\n".repeat(300));
}

#[test]
fn the_message_limit_is_the_users_and_counts_all_commands_but_controls() {
    check(
        "limits messages=5
         1 opens as ann
         2 opens as ann
         1 joins news
         2 publishes news hi
         1 leaves news
         1 garbles
         2 joins secrets
         1 pings x; acks x; token ann
         2 leaves news #2
         1 garbles
         3 opens as bob
         3 joins news
         2 gone
         3 gone
         wait 24000
         1 heard
         wait 24000
         1 heard
         wait 16999
         1 joins news
         wait 1
         1 joins news",
        "1: welcome ann 1
         2: welcome ann 2
         1: joined news
         hub publish news hi by ann
         1: left news
         1: refused: The message cannot be read
         2: refused secrets: Permission denied
         1: pong x
         1: refreshed until 1125899906842624
         2: refused news #2: The limit messages_per_minute is 5 wait 65000
         1: refused: The limit messages_per_minute is 5 wait 65000
         3: welcome bob 3
         3: joined news
         1: refused news: The limit messages_per_minute is 5 wait 1
         1: joined news",
    );
}

#[test]
fn acks_keep_alives_and_refreshes_have_a_limit_of_their_own() {
    check(
        "limits controls=3
         1 opens as ann
         1 pings x
         1 acks x
         1 token ann
         1 pings x
         1 acks x
         1 token ann #1
         1 joins news",
        "1: welcome ann 1
         1: pong x
         1: refreshed until 1125899906842624
         1: refused: The limit controls_per_minute is 3 wait 65000
         1: refused: The limit controls_per_minute is 3 wait 65000
         1: refused #1: The limit controls_per_minute is 3 wait 65000
         1: joined news",
    );
}

#[test]
fn what_cannot_be_read_is_answered_so() {
    ready("ann", "1 garbles #4", "1: refused #4: The message cannot be read");
}

#[test]
fn rights_kept_for_a_session_are_bounded() {
    let mut world = World::new("");
    world.step("1 opens as app!");
    for number in 0..600 {
        world.step(&format!("1 publishes news-{number} hi"));
    }
    let rights = world.lane.sessions[0].rights.as_ref().map_or(0, |rights| rights.len());
    assert!((1..=crate::session::RIGHTS_MAX).contains(&rights), "{rights}");
}
