//! Tokens: becoming ready, staying so, and what a session may do before.

use super::super::commands::WITH_FIRST_TOKEN;
use super::super::early::TOKEN_FIRST;
use super::check;

#[test]
fn a_token_is_answered_by_a_welcome() {
    check("1 opens\n1 token ann", "1: welcome ann 1");
    check("1 opens as ann", "1: welcome ann 1");
}

#[test]
fn a_bad_token_closes_4001_and_a_failed_check_4000() {
    check("1 opens\n1 token bad", "1 closed 4001");
    check("1 opens\n1 token broken", "1 closed 4000");
    check("1 opens as bad", "1 not admitted: the token is bad");
    check("1 opens as broken", "1 not admitted: the token could not be checked: no key at hand");
    check(
        "1 opens\n1 token bad; token ann; pings\nsizes",
        "1 closed 4001\n0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn commands_before_a_token_are_refused_and_a_token_is_still_taken() {
    let commands = [
        "joins news #q",
        "leaves news #q",
        "publishes news hi #q",
        "asks news #q",
        "queries news #q",
    ];
    for command in commands {
        let said = format!("1 opens\n1 {command}; token ann");
        check(&said, &format!("1: refused news #q: {TOKEN_FIRST}\n1: welcome ann 1"));
    }
    let said = "1 opens\n1 acks x; token ann";
    check(said, &format!("1: refused: {TOKEN_FIRST}\n1: welcome ann 1"));
}

#[test]
fn what_cannot_be_read_before_a_token_is_told_so_and_that_a_token_comes_first() {
    let unread = "1: refused #q: The message cannot be read";
    check(
        "1 opens\n1 garbles #q; token ann",
        &format!("{unread}. {TOKEN_FIRST}\n1: welcome ann 1"),
    );
    // It was to bring one.
    check("1 opens\n1 garbles-token #q; token ann", &format!("{unread}\n1: welcome ann 1"));
}

#[test]
fn who_was_refused_before_a_token_is_not_told_to_get_another_one() {
    let refused = format!("1: refused: The message cannot be read. {TOKEN_FIRST}");
    check("1 opens\n1 garbles\nat 5000", &format!("{refused}\n1 closed 1002"));
    check("1 opens\n1 garbles; token bad", &format!("{refused}\n1 closed 4001"));
}

#[test]
fn keep_alives_are_answered_before_a_token() {
    check(
        "1 opens
         1 pings 5
         at 70
         1 pings
         1 token ann",
        "1: pong 5
         1: pong at 70
         1: welcome ann 1",
    );
}

#[test]
fn a_flood_before_a_token_closes_1008() {
    let unread = format!("refused: The message cannot be read. {TOKEN_FIRST}");
    for (verb, answer) in [("pings x", "pong x"), ("garbles", &*unread)] {
        let said = |count| format!("1 opens\n{}", format!("1 {verb}\n").repeat(count));
        let answers = format!("1: {answer}\n").repeat(16);
        check(&format!("{}1 token ann", said(16)), &format!("{answers}1: welcome ann 1"));
        check(&format!("{}1 token ann", said(17)), &format!("{answers}1 closed 1008"));
    }
}

#[test]
fn the_welcome_waits_until_all_own_rooms_are_live() {
    check(
        "manual
         1 opens own as ann%red
         hub joined session-1
         hub joined user-ann
         hub joined role-red",
        "hub join user-ann
         hub join session-1
         hub join role-red
         1: welcome ann 1
         1 ready",
    );
}

#[test]
fn nothing_is_heard_before_the_welcome() {
    check(
        "manual
         1 opens own as ann
         hub joined user-ann
         hub joined session-1
         2 opens own as ann
         hub user-ann early
         serve
         hub joined session-2
         hub user-ann late
         serve",
        "hub join user-ann
         hub join session-1
         1: welcome ann 1
         1 ready
         hub join session-2
         1: user-ann early
         2: welcome ann 2
         2 ready
         1: user-ann late
         2: user-ann late",
    );
}

#[test]
fn a_room_lives_on_while_somebody_is_about_to_enter_it() {
    check(
        "manual
         1 opens own as ann
         hub joined user-ann
         hub joined session-1
         2 opens own as ann
         1 gone
         hub joined session-2
         hub user-ann hi
         serve
         2 gone
         sizes",
        "hub join user-ann
         hub join session-1
         1: welcome ann 1
         1 ready
         hub join session-2
         hub leave session-1
         2: welcome ann 2
         2 ready
         2: user-ann hi
         hub leave user-ann
         hub leave session-2
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_session_that_ends_before_its_welcome_leaves_nothing() {
    check(
        "manual
         1 opens own as ann
         hub joined user-ann
         1 gone
         hub joined session-1
         sizes",
        "hub join user-ann
         hub join session-1
         hub leave user-ann
         hub leave session-1
         0 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn a_dialect_without_own_rooms_joins_none() {
    check("manual\n1 opens as ann%red", "1: welcome ann 1\n1 ready");
}

#[test]
fn own_rooms_are_joined_once_each_and_never_by_a_bad_name() {
    check(
        "manual
         1 opens own as ann%red%blue%red%a\u{200b}b%red~x~x",
        "hub join user-ann
         hub join session-1
         hub join role-red
         hub join role-blue
         hub join team-x",
    );
}

#[test]
fn own_rooms_end_at_the_room_limit() {
    check(
        "limits rooms=3
         manual
         1 opens own as ann%red%blue
         hub joined user-ann
         hub joined session-1
         hub joined role-red
         1 joins news",
        "hub join user-ann
         hub join session-1
         hub join role-red
         1: welcome ann 1
         1 ready
         1: refused news: The limit rooms_per_session is 3",
    );
}

#[test]
fn commands_that_came_with_the_token_run_after_the_welcome_in_order() {
    check(
        "manual
         1 opens own
         1 token ann; joins news #1; publishes news hi id=x; garbles #2; pings 5
         hub joined user-ann
         hub joined session-1
         hub joined news",
        "hub join user-ann
         hub join session-1
         1: pong 5
         1: welcome ann 1
         1 ready
         hub join news
         hub publish news hi by ann id=x
         1: refused #2: The message cannot be read
         1: joined news #1",
    );
    check(
        "1 opens
         1 token ann; joins news; leaves news",
        "1: welcome ann 1
         1: joined news
         1: left news",
    );
}

#[test]
fn too_many_commands_before_the_welcome_close_1008() {
    let early = |count| {
        let joins = "; leaves news".repeat(count);
        format!("manual\n1 opens own\n1 token ann{joins}")
    };
    check(&early(256), "hub join user-ann\nhub join session-1");
    check(&early(257), "hub join user-ann\nhub join session-1\n1 closed 1008");
}

#[test]
fn a_second_token_refreshes() {
    check(
        "1 opens as ann<60
         1 token ann<90 #7
         1 token ann^
         1 token ann<80; joins news",
        "1: welcome ann 1
         1: refreshed #7 until 90000
         1: refreshed until 1125899906842624
         1: refreshed until 80000
         1: joined news",
    );
}

#[test]
fn how_a_session_goes_on_is_said_with_its_first_token_only() {
    check(
        "1 opens as ann
         1 token ann resume=9.9 #q
         1 token ann",
        &format!(
            "1: welcome ann 1
             1: refused #q: {WITH_FIRST_TOKEN}
             1: refreshed until 1125899906842624"
        ),
    );
}

#[test]
fn a_second_token_of_another_subject_realm_or_agent_closes_4001() {
    for token in ["bob", "ann^guests", "ann@7", "bad", "ann<0"] {
        check(&format!("1 opens as ann\n1 token {token}"), "1: welcome ann 1\n1 closed 4001");
    }
    check("1 opens as ann\n1 token broken", "1: welcome ann 1\n1 closed 4000");
}

#[test]
fn a_refresh_with_fewer_permissions_leaves_rooms() {
    check(
        "1 opens own as ann+secret%red
         1 joins news
         1 joins secrets
         1 token ann%red #1
         hub secrets hi
         hub news hi
         hub role-red hi
         serve
         1 token ann
         hub role-red hi
         hub user-ann hi
         serve",
        "1: welcome ann 1
         1: joined news
         1: joined secrets
         1: refused secrets: Permission denied
         1: refreshed #1 until 1125899906842624
         1: news hi
         1: role-red hi
         1: refused role-red: Permission denied
         1: refreshed until 1125899906842624
         1: user-ann hi",
    );
}

#[test]
fn a_refresh_takes_back_joins_that_still_wait() {
    check(
        "manual
         1 opens as ann+secret
         1 joins secrets #1
         1 joins secrets #2
         1 token ann
         hub joined secrets
         hub secrets hi
         serve
         sizes",
        "1: welcome ann 1
         1 ready
         hub join secrets
         1: refused secrets #1: Permission denied
         1: refused secrets #2: Permission denied
         1: refreshed until 1125899906842624
         hub leave secrets
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn what_was_accepted_before_a_right_was_lost_is_still_heard() {
    check(
        "1 opens as ann+secret
         1 joins secrets
         hub secrets one
         1 token ann
         hub secrets two
         serve",
        "1: welcome ann 1
         1: joined secrets
         1: secrets one
         1: refused secrets: Permission denied
         1: refreshed until 1125899906842624",
    );
}

#[test]
fn the_last_connection_of_a_user_passes_and_one_more_is_refused() {
    check(
        "limits connections=2
         1 opens as ann
         2 opens
         2 token ann
         3 opens as ann
         4 opens
         4 token ann
         5 opens as bob
         6 opens as ann^guests
         1 gone
         7 opens as ann",
        "1: welcome ann 1
         2: welcome ann 2
         3 not admitted: full
         4 closed 4201
         5: welcome bob 5
         6: welcome ann 6
         7: welcome ann 7",
    );
}

#[test]
fn an_agent_is_up_while_its_connection_is() {
    check(
        "1 opens as ann@7
         1 token ann@7
         1 gone",
        "1: welcome ann 1
         hub agent 7 up
         1: refreshed until 1125899906842624
         hub agent 7 down",
    );
    check("1 opens\n1 gone\n2 opens\n2 token bad", "2 closed 4001");
}

#[test]
fn a_client_that_can_inflate_gets_its_rooms_deflated() {
    check(
        "1 opens as ann
         2 opens own msgpack
         2 token bob compressed
         1 joins news
         1 joins news-2
         2 joins news
         hub news one
         1 token ann compressed
         hub news two
         hub news-2 three
         serve
         1 leaves news",
        "1: welcome ann 1
         2: mz welcome bob 2
         1: joined news
         1: joined news-2
         2: mz joined news
         1: news one
         1: z refreshed until 1125899906842624
         2: mz news one
         1: z news-2 three
         2: mz news two
         1: z news two
         1: z left news",
    );
}

#[test]
fn a_place_is_reused_but_an_old_key_reaches_nobody() {
    check(
        "1 opens as ann
         1 publishes news hi id=x ack
         1 gone
         2 opens as bob
         hub accepts
         1 joins news
         1 overflows
         1 gone
         sizes",
        "1: welcome ann 1
         hub publish news hi by ann id=x dedup
         2: welcome bob 2
         1 sessions, 0 rooms, 0 places",
    );
}
