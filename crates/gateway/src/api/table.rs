//! What the internal port serves: one row for each method and path. Requests are routed by it, and the OpenAPI document is
//! made of it, so that none knows a path which the other does not.

use hyper::Method;

use super::route::Route;
use crate::metrics::Endpoint;

/// A method of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Reads; `HEAD` does as well.
    Get,
    /// Acts.
    Post,
    /// Makes it so, however often.
    Put,
    /// Undoes that, however often.
    Delete,
}

impl Verb {
    /// Whether a request's method is this one.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => matches!(*method, Method::GET | Method::HEAD),
            Self::Post => *method == Method::POST,
            Self::Put => *method == Method::PUT,
            Self::Delete => *method == Method::DELETE,
        }
    }

    /// What `Allow` says where the path takes no other.
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            // They come together.
            Self::Put | Self::Delete => "PUT, DELETE",
        }
    }

    /// The method.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A parameter of the query.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// JSON.
    pub(super) schema: &'static str,
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) endpoint: Endpoint,
    pub(super) verb: Verb,
    /// One segment may be a name in braces, or two.
    pub(super) path: &'static str,
    /// Makes the route of the names; of those that are not there it makes nothing.
    pub(super) route: fn(String, String) -> Route,
    /// Unique among rows.
    pub(super) id: &'static str,
    /// As docs/API.md says it.
    pub(super) summary: &'static str,
    pub(super) query: &'static [Param],
    /// Takes `Idempotency-Key`.
    pub(super) keyed: bool,
    /// The schema of its body.
    pub(super) body: Option<&'static str>,
    /// It may come without.
    pub(super) bare: bool,
    /// The schema of its answer; `None`: text.
    pub(super) answer: Option<&'static str>,
    /// Statuses of problems beside those that every row below `/api` has.
    pub(super) problems: &'static [u16],
}

/// What most rows have.
const READS: Row = Row {
    endpoint: Endpoint::Other,
    verb: Verb::Get,
    path: "",
    route: |_, _| Route::Livez,
    id: "",
    summary: "",
    query: &[],
    keyed: false,
    body: None,
    bare: false,
    answer: None,
    problems: &[],
};

/// What publications have.
const PUBLISHES: Row = Row {
    verb: Verb::Post,
    keyed: true,
    answer: Some("Results"),
    problems: &[400, 408, 413, 415],
    ..READS
};

/// What questions to all nodes have.
const SURVEYS: Row = Row { query: &[SURVEYED, AFTER, WITHIN], problems: &[400, 503], ..READS };

/// What orders to all nodes have.
const ORDERS: Row = Row {
    verb: Verb::Post,
    query: &[WITHIN],
    answer: Some("Disconnected"),
    problems: &[400, 408, 413, 415, 503, 504],
    ..READS
};

const fn param(name: &'static str, about: &'static str, schema: &'static str) -> Param {
    Param { name, about, schema }
}

const PAGE: &str = r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#;
const OFFSET: &str = r#"{"type":"integer","minimum":0,"maximum":9007199254740991}"#;
const TIME: &str = r#"{"type":"string","pattern":"^[0-9]+(ms|s|m|h)$"}"#;
const TEXT: &str = r#"{"type":"string"}"#;

const AFTER: Param = param("after", "the `next` of the page before", TEXT);
const WITHIN: Param = param("timeout", "how long nodes have to answer, 100ms to 30s", TIME);
const SURVEYED: Param = param(
    "limit",
    "how many at most",
    r#"{"type":"integer","minimum":1,"maximum":100,"default":100}"#,
);
const LIMIT: Param = param("limit", "how many at most", PAGE);
const PAGED: Param = param(
    "limit",
    "how many at most",
    r#"{"type":"integer","minimum":1,"maximum":256,"default":100}"#,
);

/// All of them, in the order of docs/API.md.
pub(super) static ROWS: &[Row] = &[
    Row {
        endpoint: Endpoint::Metrics,
        path: "/metrics",
        route: |_, _| Route::Metrics,
        id: "metrics",
        summary: "figures in Prometheus' text format: METRICS.md",
        problems: &[500],
        ..READS
    },
    Row {
        endpoint: Endpoint::Livez,
        path: "/livez",
        route: |_, _| Route::Livez,
        id: "livez",
        summary: "do all threads turn?",
        answer: Some("Live"),
        ..READS
    },
    Row {
        endpoint: Endpoint::Readyz,
        path: "/readyz",
        route: |_, _| Route::Readyz,
        id: "readyz",
        summary: "may traffic come?",
        answer: Some("Ready"),
        ..READS
    },
    Row {
        endpoint: Endpoint::OpenApi,
        path: "/api/v1/openapi.json",
        route: |_, _| Route::OpenApi,
        id: "openapi",
        summary: "this page as an OpenAPI 3.1 document",
        answer: Some("OpenApi"),
        problems: &[500],
        ..READS
    },
    Row {
        endpoint: Endpoint::Publish,
        path: "/api/v1/publish",
        route: |_, _| Route::Publish,
        id: "publish",
        summary: "publish into a room",
        query: &[
            param(
                "wait",
                "answer once it is so",
                r#"{"type":"string","enum":["stored","delivered","acked"]}"#,
            ),
            param(
                "quorum",
                "for so many users",
                r#"{"type":"integer","minimum":1,"maximum":10000,"default":1}"#,
            ),
            param("timeout", "and for so long at most, 100ms to 30s, 5s if absent", TIME),
        ],
        body: Some("Envelope"),
        answer: Some("Published"),
        problems: &[400, 408, 409, 413, 415, 503, 504, 507],
        ..PUBLISHES
    },
    Row {
        endpoint: Endpoint::Batch,
        path: "/api/v1/batch",
        route: |_, _| Route::Batch,
        id: "batch",
        summary: "publish several",
        body: Some("Batch"),
        ..PUBLISHES
    },
    Row {
        endpoint: Endpoint::Broadcast,
        path: "/api/v1/broadcast",
        route: |_, _| Route::Broadcast,
        id: "broadcast",
        summary: "publish one into several rooms",
        body: Some("Broadcast"),
        ..PUBLISHES
    },
    Row {
        endpoint: Endpoint::History,
        path: "/api/v1/rooms/{room}/history",
        route: |name, _| Route::History(name),
        id: "history",
        summary: "what a room keeps",
        query: &[
            param("from", "those behind this offset", OFFSET),
            param(
                "direction",
                "newest first, or oldest first",
                r#"{"type":"string","enum":["backward","forward"],"default":"backward"}"#,
            ),
            PAGED,
        ],
        answer: Some("History"),
        problems: &[400, 503],
        ..READS
    },
    Row {
        endpoint: Endpoint::Members,
        path: "/api/v1/rooms/{room}/members",
        route: |name, _| Route::Members(name),
        id: "members",
        summary: "who is in a room of this node",
        query: &[LIMIT, param("cursor", "the `next` of the page before", TEXT)],
        answer: Some("Members"),
        problems: &[400, 503],
        ..READS
    },
    Row {
        endpoint: Endpoint::Presence,
        path: "/api/v1/rooms/{room}/presence",
        route: |name, _| Route::Presence(name),
        id: "presence",
        summary: "who is in a room, on all nodes",
        query: &[LIMIT, AFTER],
        answer: Some("Presence"),
        problems: &[400, 503],
        ..READS
    },
    Row {
        endpoint: Endpoint::Receipts,
        path: "/api/v1/rooms/{room}/receipts",
        route: |name, _| Route::Receipts(name),
        id: "receipts",
        summary: "how far users have got and read a room",
        query: &[LIMIT, AFTER, param("of", "who has this publication alone", OFFSET)],
        answer: Some("Receipts"),
        problems: &[400, 503],
        ..READS
    },
    Row {
        endpoint: Endpoint::Rooms,
        path: "/api/v1/rooms",
        route: |_, _| Route::Rooms,
        id: "rooms",
        summary: "rooms that have members, on all nodes",
        query: &[SURVEYED, AFTER, WITHIN, param("prefix", "names that begin so", TEXT)],
        answer: Some("Rooms"),
        ..SURVEYS
    },
    Row {
        endpoint: Endpoint::Connections,
        path: "/api/v1/connections",
        route: |_, _| Route::Connections,
        id: "connections",
        summary: "sessions with a connection, on all nodes",
        answer: Some("Connections"),
        ..SURVEYS
    },
    Row {
        endpoint: Endpoint::Sessions,
        path: "/api/v1/users/{id}/sessions",
        route: |name, _| Route::Sessions(name),
        id: "sessions",
        summary: "the same of one user",
        answer: Some("Sessions"),
        ..SURVEYS
    },
    Row {
        endpoint: Endpoint::Disconnect,
        path: "/api/v1/users/{id}/disconnect",
        route: |name, _| Route::Disconnect(name),
        id: "disconnect",
        summary: "end a user's sessions on all nodes",
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Disconnect,
        path: "/api/v1/sessions/{id}/disconnect",
        route: |name, _| Route::EndSession(name),
        id: "end_session",
        summary: "end one session, wherever it is connected",
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Revoke,
        path: "/api/v1/users/{id}/revoke",
        route: |name, _| Route::RevokeUser(name),
        id: "revoke_user",
        summary: "refuse a user's tokens, and end the sessions that hold one",
        body: Some("RevokeUser"),
        bare: true,
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Revoke,
        path: "/api/v1/revoke",
        route: |_, _| Route::Revoke,
        id: "revoke",
        summary: "the same for one token",
        body: Some("RevokeToken"),
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Subscribe,
        path: "/api/v1/rooms/{room}/subscribe",
        route: |name, _| Route::Subscribe(name),
        id: "subscribe",
        summary: "put a user's sessions, or one, into a room",
        body: Some("Whom"),
        answer: Some("Subscribed"),
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Unsubscribe,
        path: "/api/v1/rooms/{room}/unsubscribe",
        route: |name, _| Route::Unsubscribe(name),
        id: "unsubscribe",
        summary: "take them out",
        body: Some("Whom"),
        answer: Some("Unsubscribed"),
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Groups,
        verb: Verb::Put,
        path: "/api/v1/groups/{id}/members/{user}",
        route: |id, user| Route::SetMember(id, user),
        id: "set_member",
        summary: "a user is a member of a group, or its owner",
        body: Some("Role"),
        answer: Some("Member"),
        problems: &[400, 408, 413, 415, 422, 429, 503, 504],
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Groups,
        verb: Verb::Delete,
        path: "/api/v1/groups/{id}/members/{user}",
        route: |id, user| Route::RemoveMember(id, user),
        id: "remove_member",
        summary: "it is none any more",
        answer: Some("Member"),
        problems: &[400, 408, 413, 503, 504],
        ..ORDERS
    },
    Row {
        endpoint: Endpoint::Webhooks,
        path: "/api/v1/webhooks/dead",
        route: |_, _| Route::DeadLetters,
        id: "dead_letters",
        summary: "what the application could not be told",
        query: &[
            PAGED,
            param("after", "those behind this id: the `next` of the page before", OFFSET),
        ],
        answer: Some("DeadLetters"),
        problems: &[400, 503],
        ..READS
    },
    Row {
        endpoint: Endpoint::Webhooks,
        verb: Verb::Post,
        path: "/api/v1/webhooks/dead/replay",
        route: |_, _| Route::Replay,
        id: "replay",
        summary: "tell it again",
        body: Some("Replay"),
        bare: true,
        answer: Some("Replayed"),
        problems: &[400, 408, 413, 415, 503],
        ..READS
    },
];

/// The rows of a path, one for each method, and the names in it as they came.
pub(super) fn rows(path: &str) -> impl Iterator<Item = (&'static Row, [&str; 2])> {
    ROWS.iter().filter_map(move |row| Some((row, named(row.path, path)?)))
}

/// The names that stand in a path in the places of the braces; empty where there are none.
fn named<'p>(template: &str, path: &'p str) -> Option<[&'p str; 2]> {
    let mut segments = path.split('/');
    let (mut names, mut found) = (["", ""], 0);
    for wanted in template.split('/') {
        let segment = segments.next()?;
        if !wanted.starts_with('{') {
            if segment != wanted {
                return None;
            }
            continue;
        }
        if segment.is_empty() {
            return None;
        }
        *names.get_mut(found)? = segment;
        found += 1;
    }
    segments.next().is_none().then_some(names)
}
