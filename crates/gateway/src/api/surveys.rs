//! Rooms and sessions of all nodes, a page at a time.

use hyper::StatusCode;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::Surveyed;
use roomcast_router::surveys::{SURVEY_ROWS_MAX, Survey, SurveyRow, What};
use serde::Serialize;

use super::route::{decode, timeout_ms};
use super::{Answer, Api, answer};
use crate::config::Scope;

/// How long nodes have where nobody says how long. Units: milliseconds.
const TIMEOUT_DEFAULT_MS: u64 = 2_000;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    prefix: Option<Box<str>>,
    after: Box<str>,
    limit: Option<u32>,
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<Room>,
    #[serde(flatten)]
    end: End,
}

#[derive(Serialize)]
struct Room {
    room: Box<str>,
    /// Sessions in it, on all nodes that have answered.
    members: u64,
    nodes: Vec<String>,
}

#[derive(Serialize)]
struct Connections {
    connections: Vec<Connection>,
    #[serde(flatten)]
    end: End,
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Connection>,
    #[serde(flatten)]
    end: End,
}

#[derive(Serialize)]
struct Connection {
    session: Box<str>,
    user: Box<str>,
    node: String,
    dialect: Box<str>,
    /// How many it is in.
    rooms: u64,
}

/// How a page ends.
#[derive(Serialize)]
struct End {
    /// What the next page is asked for with, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
    /// Nodes that have not answered in time.
    unanswered: Vec<String>,
}

impl End {
    fn of(surveyed: &Surveyed) -> Self {
        let last = surveyed.page.rows.last_key_value().map(|(key, _)| key.clone());
        Self {
            next: last.filter(|_| surveyed.page.cut),
            unanswered: surveyed.unanswered.iter().map(ToString::to_string).collect(),
        }
    }
}

fn wrong(text: String) -> Refused {
    Refused::because(Refusal::Schema, text.into())
}

/// Reads `?prefix=&after=&limit=&timeout=`, the first where it makes sense.
///
/// # Errors
/// 102 names the parameter that is wrong, and what it takes.
fn asked(query: &str, has_prefix: bool) -> Result<Asked, Refused> {
    let mut asked = Asked::default();
    let text = |name: &str, value: &str| {
        // They are written among words.
        let text = decode(value).filter(|it| it.is_empty() || RoomName::parse(it).is_ok());
        text.map(Box::from).ok_or_else(|| wrong(format!("`{name}` is no name, percent-encoded")))
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("prefix", value)) if has_prefix => asked.prefix = Some(text("prefix", value)?),
            Some(("after", value)) => asked.after = text("after", value)?,
            Some(("timeout", value)) => asked.timeout_ms = Some(timeout_ms(value)?),
            Some(("limit", value)) => {
                let limit = value.parse().ok().filter(|it| (1..=SURVEY_ROWS_MAX).contains(it));
                let text = || wrong(format!("`limit` is a number from 1 to {SURVEY_ROWS_MAX}"));
                asked.limit = Some(limit.ok_or_else(text)?);
            }
            Some(_) | None => {
                let prefix = if has_prefix { "`prefix`, " } else { "" };
                let text = format!("The parameters are {prefix}`after`, `limit` and `timeout`");
                return Err(wrong(text));
            }
        }
    }
    Ok(asked)
}

fn connection((session, row): (Box<str>, SurveyRow)) -> Connection {
    let (user, dialect) = row.session.unwrap_or_default();
    let node = row.nodes.first().map(ToString::to_string).unwrap_or_default();
    Connection { session, user, node, dialect, rooms: row.count }
}

impl Api {
    /// Rooms that have members, on all nodes, as far as a key reaches.
    pub(super) async fn rooms(&self, scope: &Scope, query: &str) -> Answer {
        let mut asked = asked(query, true)?;
        let what = What::Rooms(asked.prefix.take().unwrap_or_default());
        let surveyed = self.surveyed(what, asked).await?;
        let end = End::of(&surveyed);
        let reached = |room: &str| RoomName::parse(room).is_ok_and(|room| scope.reaches(&room));
        let shown = surveyed.page.rows.into_iter().filter(|(room, _)| reached(room));
        let rooms = shown.map(|(room, row)| Room {
            room,
            members: row.count,
            nodes: row.nodes.iter().map(ToString::to_string).collect(),
        });
        Ok(answer::json(StatusCode::OK, &Rooms { rooms: rooms.collect(), end }))
    }

    /// Sessions with a connection, on all nodes: of a user, or all.
    pub(super) async fn connections(&self, user: Option<String>, query: &str) -> Answer {
        let asked = asked(query, false)?;
        if user.as_ref().is_some_and(|user| RoomName::parse(user).is_err()) {
            return Err(wrong("This can be no user's name".to_owned()).into());
        }
        let of_user = user.is_some();
        let what = What::Sessions(user.map(Into::into));
        let surveyed = self.surveyed(what, asked).await?;
        let end = End::of(&surveyed);
        let rows = surveyed.page.rows.into_iter().map(connection).collect();
        Ok(if of_user {
            answer::json(StatusCode::OK, &Sessions { sessions: rows, end })
        } else {
            answer::json(StatusCode::OK, &Connections { connections: rows, end })
        })
    }

    async fn surveyed(&self, what: What, asked: Asked) -> Result<Surveyed, Refused> {
        let count_max = asked.limit.unwrap_or(SURVEY_ROWS_MAX);
        let survey = Survey { what, after: asked.after, count_max };
        self.parts.core.survey(survey, asked.timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS)).await
    }
}
