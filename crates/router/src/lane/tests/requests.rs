//! Requests to the application: who may have how many, and what becomes of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::content::Content;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::request::{Request, Response};

use super::{check, content_text};
use crate::messages::LaneMessage;
use crate::requests::{Requested, Responded};

/// `1 requests report.daily #a with {}`.
pub(super) fn command(id: Option<Box<str>>, method: &str, rest: &str) -> Command {
    let params = rest.split_once(" with ").map_or("null", |(_, params)| params).to_owned();
    let reply = ReplyTo { id, ..ReplyTo::default() };
    Command::Request(Box::new(Request { reply, method: method.into(), params: params.into() }))
}

pub(super) fn shown(requested: &Requested) -> String {
    let Requested { id, user, kind, method, params, reply, .. } = requested;
    let to = reply.id.as_ref().map_or(String::new(), |id| format!(" #{id}"));
    let params = String::from_utf8_lossy(params);
    format!("request {method} {params} of {} {user} in {:x}{to}", kind.name(), { id.0 })
}

/// `hub responds 1 #a 200 {}` or `.. stale`, `hub responds 1 #a fails`.
pub(super) fn responded(keys: &BTreeMap<u32, SessionKey>, rest: &str) -> LaneMessage {
    let words: Vec<_> = rest.split(' ').collect();
    let id = words[1].strip_prefix('#').map(Into::into);
    let outcome = words[2].parse().map_err(|_| Refused::new(Refusal::UpstreamFailed));
    let outcome = outcome.map(|status| Response {
        status,
        body: Content::Json(Bytes::copy_from_slice(words[3].as_bytes())),
        stale: words.contains(&"stale"),
    });
    let reply = ReplyTo { id, ..ReplyTo::default() };
    let session = keys[&words[0].parse().unwrap()];
    LaneMessage::Responded(Box::new(Responded { session, reply, outcome }))
}

pub(super) fn answer(response: &Response) -> String {
    let stale = if response.stale { " stale" } else { "" };
    format!("{} {}{stale}", response.status, content_text(&response.body))
}

#[track_caller]
fn ready(script: &str, expected: &str) {
    check(script, &format!("1: welcome ann 1\n{expected}"));
}

#[test]
fn a_request_goes_out_with_who_asks_and_comes_back_to_its_question() {
    ready(
        "1 opens as ann
         1 requests report.daily #a with {\"day\":1}
         1 requests who
         hub responds 1 #a 200 [1]
         hub responds 1 - 404 {} stale
         1 requests report.daily #b
         hub responds 1 #b fails
         counted requests",
        "request report.daily {\"day\":1} of user ann in 1 #a
         request who null of user ann in 1
         1: response 200 [1] #a
         1: response 404 {} stale
         request report.daily null of user ann in 1 #b
         1: refused #b: The application gave no good answer
         3 requests",
    );
}

#[test]
fn requests_up_to_their_number_are_under_way_and_one_more_is_refused() {
    ready(
        "limits requests=2
         1 opens as ann
         1 requests who #a
         1 requests who #b
         1 requests who #c
         hub responds 1 #a 200 1
         1 requests who #d
         1 requests who #e
         hub responds 1 #b fails
         1 requests who #f",
        "request who null of user ann in 1 #a
         request who null of user ann in 1 #b
         1: refused #c: The limit requests_per_session is 2
         1: response 200 1 #a
         request who null of user ann in 1 #d
         1: refused #e: The limit requests_per_session is 2
         1: refused #b: The application gave no good answer
         request who null of user ann in 1 #f",
    );
}

#[test]
fn a_request_counts_as_a_message() {
    ready(
        "limits messages=1
         1 opens as ann
         1 requests who #a
         1 requests who #b",
        "request who null of user ann in 1 #a
         1: refused #b: The limit messages_per_minute is 1 wait 65000",
    );
}

#[test]
fn who_has_brought_no_token_is_not_asked_for() {
    check(
        "1 opens
         1 requests who #a",
        "1: refused #a: The first message must bring a token: {\"type\":\"auth\",\"token\":\"..\"}",
    );
}

#[test]
fn an_answer_to_a_connection_that_is_gone_goes_nowhere() {
    ready(
        "1 opens as ann
         1 requests who #a
         1 gone
         2 opens as bob
         hub responds 1 #a 200 1
         sizes",
        "request who null of user ann in 1 #a
         2: welcome bob 2
         1 sessions, 0 rooms, 0 places",
    );
}

#[test]
fn while_orders_may_be_missing_an_answer_is_told_as_unknown_and_its_place_is_free() {
    ready(
        "limits requests=1
         1 opens as ann
         1 requests who #a
         hub hold
         hub responds 1 #a 200 secret
         hub resume
         1 requests who #b",
        "request who null of user ann in 1 #a
         1: refused #a unknown: The node catches up
         request who null of user ann in 1 #b",
    );
}

#[test]
fn a_request_does_not_overtake_a_join_that_came_before_it() {
    check(
        "silent
         1 opens stock as ann!
         hub attached 1 not_one
         hub saved 1
         1 joins news #j; requests who #a
         hub saved 1",
        "hub attach any for ann with 1
         1: welcome ann 1 token 1.1
         hub save 1/1 attached with 1 [] own []
         hub save 1/1 attached with 1 [news] own []
         1: joined news #j
         request who null of backend ann in 1 #a",
    );
}
