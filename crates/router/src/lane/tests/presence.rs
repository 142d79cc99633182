//! Who is present, as a lane tells the hub and its members.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, PresenceRequest, ReplyTo};
use roomcast_protocol::presence::{
    AGENTS, PresenceChange, PresenceDiff, ROSTER_PAGE_MAX, RosterPage,
};
use roomcast_protocol::room::RoomName;

use super::{World, check, options, position, room, short};
use crate::messages::LaneMessage;

pub(super) fn told_of(room: &RoomName, change: &PresenceChange) -> String {
    let PresenceChange { session, user, present, .. } = change;
    if room.as_str() == AGENTS {
        return format!("hub agent {user} {}", if *present { "up" } else { "down" });
    }
    let way = if *present { '+' } else { '-' };
    short(&format!("hub {room} {way}{user}/{session}"))
}

/// `looks crowd [after=ann] [limit=2] [#id]`
pub(super) fn looks(name: &str, rest: &str) -> Command {
    let option = |name| options(rest).find(|(held, _)| *held == name).map(|(_, value)| value);
    let id = rest.split(' ').find_map(|word| word.strip_prefix('#')).map(Into::into);
    Command::Presence(PresenceRequest {
        reply: ReplyTo { id, room: Some(name.into()), part: false },
        room: name.into(),
        after: option("after").map(Into::into),
        limit: option("limit").map(|limit| limit.parse().unwrap()),
    })
}

impl World {
    /// `hub presence crowd at 5 count=3 +ann -bob`; `hub roster ann,bob at 5 [count=3] [more]` answers the oldest question,
    /// `hub roster none` does not know; `hub presents 500` since then.
    pub(super) fn hub_tells(&mut self, verb: &str, rest: &str) -> LaneMessage {
        let words: Vec<_> = rest.split(' ').collect();
        let at = words.iter().position(|word| *word == "at").map(|at| position(words[at + 1]));
        let count = options(rest).find(|it| it.0 == "count").map(|it| it.1.parse().unwrap());
        let named = |way: char| words.iter().filter_map(move |word| word.strip_prefix(way));
        match verb {
            "presents" => LaneMessage::Presents { since_ms: rest.parse().unwrap() },
            "presence" => LaneMessage::Presence(
                PresenceDiff {
                    room: room(words[0]),
                    version: at.unwrap(),
                    count: count.unwrap(),
                    joined: named('+').map(Into::into).collect(),
                    left: named('-').map(Into::into).collect(),
                }
                .into(),
            ),
            _ => {
                let (session, reply, room) = self.rosters.pop_front().expect("somebody asked");
                let users: Vec<Box<str>> = words[0].split(',').map(Into::into).collect();
                let users = if words[0] == "-" { Vec::new() } else { users };
                let page = at.map(|version| RosterPage {
                    version,
                    count: count.unwrap_or(users.len() as u64),
                    users,
                    more: words.contains(&"more"),
                });
                let outcome = page.ok_or(Refused::new(Refusal::Unavailable));
                LaneMessage::Roster { session, reply, room, outcome }
            }
        }
    }
}

#[test]
fn whoever_joins_a_room_with_presence_or_leaves_it_is_told_of_once() {
    check(
        "1 opens as ann
         2 opens as bob
         1 joins crowd
         2 joins crowd
         1 joins crowd
         1 joins news
         1 leaves news
         1 leaves crowd
         1 leaves crowd
         2 gone",
        "1: welcome ann 1
         2: welcome bob 2
         hub crowd +ann/1
         1: joined crowd
         hub crowd +bob/2
         2: joined crowd
         1: joined crowd
         1: joined news
         1: left news
         hub crowd -ann/1
         1: left crowd
         1: left crowd
         hub crowd -bob/2",
    );
}

#[test]
fn a_join_that_waits_for_its_room_is_present_only_once_the_room_is_live() {
    check(
        "manual
         1 opens as ann
         2 opens as bob
         1 joins crowd
         2 joins crowd
         2 leaves crowd
         hub joined crowd
         1 gone",
        "1: welcome ann 1
         1 ready
         2: welcome bob 2
         2 ready
         hub join crowd
         2: joined crowd
         2: left crowd
         hub crowd +ann/1
         1: joined crowd
         hub crowd -ann/1
         hub leave crowd",
    );
}

#[test]
fn own_rooms_have_presence_too_from_the_welcome_on() {
    check(
        "shown
         1 opens own as ann
         1 gone",
        "1: welcome ann 1
         hub user-ann +ann/1
         hub user-ann -ann/1",
    );
}

#[test]
fn who_catches_up_is_present_and_told_what_changes() {
    check(
        "shown
         manual
         1 opens as ann
         1 joins tape
         hub joined tape at 9
         2 opens as bob
         2 joins tape since=4
         hub presence tape at 3 count=2 +bob
         serve
         2 leaves tape
         1 joins tape since=4
         hub presence tape at 4 count=1 -bob",
        "1: welcome ann 1
         1 ready
         hub join tape
         hub tape +ann/1
         1: joined tape at 9
         2: welcome bob 2
         2 ready
         hub tape +bob/2
         hub read 1 tape above 4
         2: presence tape 3 2 +bob
         1: presence tape 3 2 +bob
         hub tape -bob/2
         2: joined tape at 9 unavailable
         2: left tape
         1: presence tape 4 1 -bob",
    );
}

#[test]
fn a_member_that_is_parked_is_told_all_the_same_what_changed() {
    check(
        "manual
         1 opens as ann
         1 joins tape
         hub joined tape at 4
         hub tape five pos=5
         hub presence tape at 3 count=2 +bob
         hub tape six pos=6
         1 fills
         1 sheds tape@4
         hub presence tape at 4 count=1 -bob
         serve
         1 drains 1000
         hub page 1 head=6 whole 5:five 6:six
         counted gaps",
        "1: welcome ann 1
         1 ready
         hub join tape
         1: joined tape at 4
         1: presence tape 3 2 +bob
         1 waits for space
         1: presence tape 4 1 -bob
         hub read 1 tape above 4
         1: tape five @5 + tape six @6
         0 gaps",
    );
}

#[test]
fn members_are_told_through_the_rooms_queue_and_once_per_format() {
    check(
        "1 opens as ann
         2 opens as bob msgpack
         1 joins crowd
         2 joins crowd
         hub crowd hi
         hub presence crowd at 2 count=2 +ann +bob
         hub presence tally at 2 count=2
         serve
         1 joins tally
         hub presence tally at 3 count=1
         hub presence crowd at 9 count=1000
         serve
         counted encodings",
        "1: welcome ann 1
         2: m welcome bob 2
         hub crowd +ann/1
         1: joined crowd
         hub crowd +bob/2
         2: m joined crowd
         1: crowd hi
         2: m crowd hi
         1: presence crowd 2 2 +ann +bob
         2: m presence crowd 2 2 +ann +bob
         hub tally +ann/1
         1: joined tally
         1: presence tally 3 1 counted
         1: presence crowd 9 1000 counted
         2: m presence crowd 9 1000 counted
         2 encodings",
    );
}

#[test]
fn who_is_in_a_room_is_asked_of_the_hub_by_whoever_may_join_it() {
    let max = ROSTER_PAGE_MAX;
    check(
        &format!(
            "1 opens as ann
             1 looks crowd after=bob limit=2 #a
             1 looks tally limit={max}
             1 looks crowd limit={}
             1 looks crowd limit=0
             1 looks news
             1 looks secret
             1 looks a\u{200b}b
             hub roster cid,dan at 7 count=9 more
             hub roster - at 7 count=3
             hub roster none
             hub roster - at 8",
            max + 1
        ),
        &format!(
            "1: welcome ann 1
             hub roster crowd behind bob limit 2
             hub roster tally limit {max}
             hub roster crowd limit {max}
             hub roster crowd limit 1
             1: refused news: This room does not tell who is in it: its rule has no `presence`
             1: refused secret: Permission denied
             1: refused a\u{200b}b: a room's name has a space, control, format or unassigned character
             1: roster crowd 7 9 cid,dan more #a
             1: roster tally 7 3 - counted
             1: refused crowd: Not possible at the moment
             1: roster crowd 8 0 -"
        ),
    );
}

#[test]
fn a_right_that_is_lost_is_a_member_that_leaves_and_an_answer_that_is_refused() {
    check(
        "1 opens as ann%crew
         1 joins crowd
         1 looks crowd
         1 leaves crowd
         hub hold
         hub roster ann at 1
         hub resume",
        "1: welcome ann 1
         hub crowd +ann/1
         1: joined crowd
         hub roster crowd limit 1000 for ann
         hub crowd -ann/1
         1: left crowd
         1: refused crowd: The node catches up wait 1000",
    );
}

#[test]
fn after_a_stop_only_who_is_heard_from_is_told_of_again() {
    check(
        "1 opens as ann@7
         2 opens as bob
         3 opens as cid
         4 opens
         1 joins crowd
         2 joins crowd
         wait 400
         1 heard
         hub presents 300
         wait 100
         wait 24900
         2 pongs 0
         wait 100
         wait 10000",
        "1: welcome ann 1
         hub agent 7 up
         2: welcome bob 2
         3: welcome cid 3
         hub crowd +ann/1
         1: joined crowd
         hub crowd +bob/2
         2: joined crowd
         hub crowd +ann/1
         hub agent 7 up
         4 closed 4001
         2: ping
         3: ping
         hub crowd +bob/2
         1: ping
         3 closed 4200
         hub crowd -ann/1
         hub agent 7 down
         1 closed 4200",
    );
}

#[test]
fn whoever_is_in_doubt_is_pinged_at_once_and_its_bytes_are_enough() {
    check(
        "limits rooms=9
         1 opens as ann
         2 opens as bob
         1 joins crowd
         2 joins crowd
         at 26000
         1 heard
         2 pongs 0
         at 29000
         hub presents 29000
         wait 300
         1 heard
         wait 600
         wait 10000",
        "1: welcome ann 1
         2: welcome bob 2
         hub crowd +ann/1
         1: joined crowd
         hub crowd +bob/2
         2: joined crowd
         1: ping
         2: ping
         1: ping
         2: ping
         hub crowd +ann/1
         hub crowd -bob/2
         2 closed 4200",
    );
}
