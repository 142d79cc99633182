//! What a method and a path ask for. Names in paths are percent-decoded here and checked by whoever uses them.

use hyper::Method;
use roomcast_protocol::codes::{Refusal, Refused};

use super::problem::Problem;
use super::table;
use crate::config::{Action, millis};
use crate::metrics::Endpoint;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The figures.
    Metrics,
    /// Do all threads turn?
    Livez,
    /// May traffic come?
    Readyz,
    /// What is all this?
    OpenApi,
    /// Publish.
    Publish,
    /// Publish several.
    Batch,
    /// Publish one into several rooms.
    Broadcast,
    /// What does this room keep?
    History(String),
    /// Who is in this room, on this node?
    Members(String),
    /// Who is in this room, on all nodes?
    Presence(String),
    /// How far are users in this room?
    Receipts(String),
    /// Which rooms are there, on all nodes?
    Rooms,
    /// Which sessions are there, on all nodes?
    Connections,
    /// Which sessions has this user?
    Sessions(String),
    /// End all sessions of this user.
    Disconnect(String),
    /// End this session.
    EndSession(String),
    /// Revoke the tokens of this user.
    RevokeUser(String),
    /// Revoke one token.
    Revoke,
    /// Put sessions into this room.
    Subscribe(String),
    /// Take sessions out of this room.
    Unsubscribe(String),
    /// This user is to be something in this group.
    SetMember(String, String),
    /// This user is to be nothing in this group.
    RemoveMember(String, String),
    /// What could the application not be told?
    DeadLetters,
    /// Tell it again.
    Replay,
}

impl Route {
    /// What a key must be good for: the action, and the room that the path names; `None`: any is, where one is needed.
    pub(super) fn needs(&self) -> Option<(Action, Option<&str>)> {
        match self {
            Self::Metrics | Self::Livez | Self::Readyz | Self::OpenApi => None,
            Self::Publish | Self::Batch | Self::Broadcast => Some((Action::Publish, None)),
            Self::History(room) => Some((Action::History, Some(room))),
            Self::Members(room) => Some((Action::Members, Some(room))),
            Self::Presence(room) | Self::Receipts(room) => Some((Action::Presence, Some(room))),
            Self::Rooms => Some((Action::Rooms, None)),
            Self::Connections | Self::Sessions(_) => Some((Action::Connections, None)),
            Self::Disconnect(_) | Self::EndSession(_) => Some((Action::Disconnect, None)),
            Self::RevokeUser(_) | Self::Revoke => Some((Action::Revoke, None)),
            Self::Subscribe(room) | Self::Unsubscribe(room) => {
                Some((Action::Subscribe, Some(room)))
            }
            Self::SetMember(..) | Self::RemoveMember(..) => Some((Action::Groups, None)),
            Self::DeadLetters | Self::Replay => Some((Action::Webhooks, None)),
        }
    }
}

/// Whether a path belongs to the server API, and so needs the right to use it.
pub(super) fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Finds what is asked for: which endpoint it is, and the route or why there is none.
pub(super) fn find(method: &Method, path: &str) -> (Endpoint, Result<Route, Problem>) {
    let mut rows = table::rows(path).peekable();
    let Some((first, _)) = rows.peek().copied() else {
        return (Endpoint::Other, Err(Problem::not_found()));
    };
    let Some((row, names)) = rows.find(|(row, _)| row.verb.takes(method)) else {
        return (first.endpoint, Err(Problem::method(first.verb.allow())));
    };
    let [one, other] = names.map(decode);
    let route = one.zip(other).map(|(one, other)| (row.route)(one, other));
    (row.endpoint, route.ok_or_else(bad_escape))
}

fn bad_escape() -> Problem {
    let detail = "The name in the path is not UTF-8 with %-escapes of two hexadecimal digits";
    Problem::new(hyper::StatusCode::BAD_REQUEST, detail.into())
}

/// Reads `after` of a query: the last user of the page before; empty is behind nobody, as on a socket.
///
/// # Errors
/// 102 says what it takes.
pub(super) fn after(value: &str) -> Result<Option<Box<str>>, Refused> {
    let wrong = "`after` is the `next` of the page before, percent-encoded";
    let user = decode(value).ok_or_else(|| Refused::because(Refusal::Schema, wrong.into()))?;
    Ok((!user.is_empty()).then(|| user.into()))
}

/// How long a request may take that waits for others. Units: milliseconds.
const TIMEOUT_MIN_MS: u64 = 100;
const TIMEOUT_MAX_MS: u64 = 30_000;

/// The same where nobody says how long.
pub(super) const TIMEOUT_DEFAULT_MS: u64 = 5_000;

/// Reads `timeout` of a query. Units: milliseconds.
///
/// # Errors
/// 102 says what it takes.
pub(super) fn timeout_ms(value: &str) -> Result<u64, Refused> {
    let wrong = "`timeout` is a time from 100ms to 30s with its unit, as 5s";
    let fits = millis(value).filter(|ms| (TIMEOUT_MIN_MS..=TIMEOUT_MAX_MS).contains(ms));
    fits.ok_or_else(|| Refused::because(Refusal::Schema, wrong.into()))
}

/// Reads %-escapes; `None` where one is broken or the bytes are no UTF-8. Source: RFC 3986 2.1.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(method: &Method, path: &str, endpoint: Endpoint, route: Route) {
        assert_eq!(find(method, path), (endpoint, Ok(route)), "{method} {path}");
    }

    #[track_caller]
    fn refused(method: &Method, path: &str, status: u16) {
        let (_, problem) = find(method, path);
        assert_eq!(problem.unwrap_err().status().as_u16(), status, "{method} {path}");
    }

    #[test]
    fn every_route_is_found() {
        found(&Method::GET, "/metrics", Endpoint::Metrics, Route::Metrics);
        found(&Method::HEAD, "/livez", Endpoint::Livez, Route::Livez);
        found(&Method::GET, "/readyz", Endpoint::Readyz, Route::Readyz);
        found(&Method::POST, "/api/v1/publish", Endpoint::Publish, Route::Publish);
        let room = |name: &str| Route::Members(name.to_owned());
        found(&Method::GET, "/api/v1/rooms/agents/members", Endpoint::Members, room("agents"));
        let all = Route::Presence("agents".to_owned());
        found(&Method::GET, "/api/v1/rooms/agents/presence", Endpoint::Presence, all);
        let far = Route::Receipts("agents".to_owned());
        found(&Method::GET, "/api/v1/rooms/agents/receipts", Endpoint::Receipts, far);
        found(&Method::GET, "/api/v1/openapi.json", Endpoint::OpenApi, Route::OpenApi);
        found(&Method::POST, "/api/v1/batch", Endpoint::Batch, Route::Batch);
        found(&Method::POST, "/api/v1/broadcast", Endpoint::Broadcast, Route::Broadcast);
        let kept = Route::History("agents".to_owned());
        found(&Method::GET, "/api/v1/rooms/agents/history", Endpoint::History, kept);
        let coded = "/api/v1/rooms/a%2Fb%20%C3%A9/members";
        found(&Method::GET, coded, Endpoint::Members, room("a/b é"));
        let user = Route::Disconnect("realm:7".to_owned());
        found(&Method::POST, "/api/v1/users/realm:7/disconnect", Endpoint::Disconnect, user);
        let user = Route::RevokeUser("7".to_owned());
        found(&Method::POST, "/api/v1/users/7/revoke", Endpoint::Revoke, user);
        found(&Method::POST, "/api/v1/revoke", Endpoint::Revoke, Route::Revoke);
        found(&Method::GET, "/api/v1/rooms", Endpoint::Rooms, Route::Rooms);
        let all = Route::Connections;
        found(&Method::GET, "/api/v1/connections", Endpoint::Connections, all);
        let user = Route::Sessions("7".to_owned());
        found(&Method::GET, "/api/v1/users/7/sessions", Endpoint::Sessions, user);
        let session = Route::EndSession("7".to_owned());
        found(&Method::POST, "/api/v1/sessions/7/disconnect", Endpoint::Disconnect, session);
        let named = |route: fn(String) -> Route| route("a".to_owned());
        let (enter, leave) = (named(Route::Subscribe), named(Route::Unsubscribe));
        found(&Method::POST, "/api/v1/rooms/a/subscribe", Endpoint::Subscribe, enter);
        found(&Method::POST, "/api/v1/rooms/a/unsubscribe", Endpoint::Unsubscribe, leave);
        let named = |route: fn(String, String) -> Route| route("a/b".to_owned(), "7".to_owned());
        let (path, set) = ("/api/v1/groups/a%2Fb/members/7", named(Route::SetMember));
        found(&Method::PUT, path, Endpoint::Groups, set);
        found(&Method::DELETE, path, Endpoint::Groups, named(Route::RemoveMember));
        let dead = "/api/v1/webhooks/dead";
        found(&Method::GET, dead, Endpoint::Webhooks, Route::DeadLetters);
        let replay = "/api/v1/webhooks/dead/replay";
        found(&Method::POST, replay, Endpoint::Webhooks, Route::Replay);
    }

    #[test]
    fn other_methods_are_told_which_ones_there_are() {
        refused(&Method::POST, "/metrics", 405);
        refused(&Method::GET, "/api/v1/publish", 405);
        refused(&Method::OPTIONS, "/api/v1/publish", 405);
        refused(&Method::DELETE, "/api/v1/rooms/agents/members", 405);
        refused(&Method::GET, "/api/v1/users/7/disconnect", 405);
        refused(&Method::POST, "/api/v1/groups/a/members/7", 405);
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in [
            "/",
            "/Metrics",
            "/metrics/",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/api/v1/publish/",
            "/api/v1/rooms//members",
            "/api/v1/rooms/a/b/members",
            "/api/v1/rooms/a/members/",
            "/api/v1/rooms/a/else",
            "/api/v1/groups/a/members",
            "/api/v1/groups/a/members/",
            "/api/v1/groups//members/7",
            "/api/v2/publish",
            "//metrics",
        ] {
            refused(&Method::GET, path, 404);
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for name in ["%", "%4", "%zz", "%ff", "a%C3"] {
            refused(&Method::GET, &format!("/api/v1/rooms/{name}/members"), 400);
        }
    }

    #[test]
    fn only_paths_below_api_are_the_api() {
        for (path, api) in
            [("/api", true), ("/api/", true), ("/api/v1/publish", true), ("/apix", false)]
        {
            assert_eq!(is_api(path), api, "{path}");
        }
    }
}
