//! What a room keeps, a page at a time, as its members get it.

use hyper::StatusCode;
use roomcast_dialects::native::publication_to_json;
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::guard::Guard;
use roomcast_protocol::position::{Direction, Head, Kept, OFFSET_MAX, Page, Span};
use roomcast_protocol::room::RoomName;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, Api, answer};

/// Publications in one answer where nobody says how many.
const PAGE_DEFAULT: u32 = 100;

/// When to ask again where nobody knows at the moment. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// A page of what a room keeps.
#[derive(Debug, Serialize)]
struct History {
    /// The room's newest position.
    epoch: String,
    offset: u64,
    /// The offset of the oldest publication that is kept; one above `offset`: none is.
    first: u64,
    /// In the direction that was asked for.
    publications: Vec<Box<RawValue>>,
    /// What the next page is asked for with as `from`, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl Api {
    /// `GET /api/v1/rooms/{room}/history`.
    pub(super) async fn history(&self, room: &str, query: &str) -> Answer {
        let room = RoomName::parse(room).map_err(Refused::from)?;
        let span = asked(query)?;
        let guard = &self.parts.guard;
        let kept = guard.rule(&room).and_then(|rule| guard.policy(rule).history);
        if kept.is_none() {
            let text = "This room keeps no history";
            return Err(Refused::because(Refusal::Schema, text.into()).into());
        }
        let page = self.parts.core.history(room, span).await.ok_or_else(|| {
            let text = "The history cannot be read at the moment";
            Refused::unavailable(text.into(), RETRY_MS)
        })?;
        let now_unix_ms = self.parts.clock.now().unix_ms;
        Ok(answer::json(StatusCode::OK, &history(&page, span, now_unix_ms)))
    }
}

/// Reads `?limit=` of what a room keeps.
///
/// # Errors
/// 102 says what it takes.
pub(super) fn limit(value: &str) -> Result<u32, Refused> {
    let limit = value.parse().ok().filter(|it| (1..=Span::COUNT_MAX).contains(it));
    limit.ok_or_else(|| {
        let text = format!("`limit` is a number from 1 to {}", Span::COUNT_MAX);
        Refused::because(Refusal::Schema, text.into())
    })
}

/// Reads `?from=&direction=&limit=`.
///
/// # Errors
/// 102 names the parameter that is wrong, and what it takes.
fn asked(query: &str) -> Result<Span, Refused> {
    let wrong = |text: String| Err(Refused::because(Refusal::Schema, text.into()));
    let (mut direction, mut from, mut count_max) = (Direction::default(), None, PAGE_DEFAULT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("from", value)) => match value.parse() {
                Ok(offset) if offset <= OFFSET_MAX => from = Some(offset),
                Ok(_) | Err(_) => {
                    return wrong(format!("`from` is an offset from 0 to {OFFSET_MAX}"));
                }
            },
            Some(("direction", "forward")) => direction = Direction::Forward,
            Some(("direction", "backward")) => direction = Direction::Backward,
            Some(("direction", _)) => {
                return wrong("`direction` is `forward` or `backward`".to_owned());
            }
            Some(("limit", value)) => count_max = limit(value)?,
            Some(_) | None => {
                return wrong("The parameters are `from`, `direction` and `limit`".to_owned());
            }
        }
    }
    let end = match direction {
        Direction::Forward => 0,
        Direction::Backward => u64::MAX,
    };
    Ok(Span { direction, from: from.unwrap_or(end), count_max, ..Span::above(0) })
}

/// The answer; what has expired, or cannot be read, is left out.
fn history(page: &Page, span: Span, now_unix_ms: u64) -> History {
    let edge = match span.direction {
        Direction::Forward => page.entries.last(),
        Direction::Backward => page.entries.first(),
    };
    let edge = edge.and_then(Kept::position).map_or(span.from, |position| position.offset);
    let mut publications: Vec<_> =
        page.entries.iter().filter_map(|entry| shown(entry, now_unix_ms)).collect();
    if span.direction == Direction::Backward {
        publications.reverse();
    }
    let Head { position, first } = page.head;
    History {
        epoch: position.epoch.to_string(),
        offset: position.offset,
        first,
        publications,
        next: (!page.whole).then_some(edge),
    }
}

fn shown(entry: &Kept, now_unix_ms: u64) -> Option<Box<RawValue>> {
    match entry {
        Kept::Publication(it) if it.expires_unix_ms.is_none_or(|at| now_unix_ms < at) => {
            let mut json = Vec::new();
            publication_to_json(it, &mut json);
            RawValue::from_string(String::from_utf8(json).ok()?).ok()
        }
        Kept::Publication(_) | Kept::Unreadable(_) | Kept::Removed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roomcast_protocol::content::Content;
    use roomcast_protocol::position::{Epoch, Position};
    use roomcast_protocol::publication::Publication;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_page_and_offset_are_taken_and_one_more_refused() {
        let whole = Span { count_max: 100, ..Span::above(0) };
        let back = Span { direction: Direction::Backward, from: u64::MAX, ..whole };
        assert_eq!(asked(""), Ok(back));
        assert_eq!(asked("direction=forward"), Ok(whole));
        let most = asked(&format!("from={OFFSET_MAX}&limit=256&direction=backward"));
        assert_eq!(most, Ok(Span { from: OFFSET_MAX, count_max: 256, ..back }));
        let over = format!("from={}", OFFSET_MAX + 1);
        for query in [&over, "from=-1", "from", "limit=0", "limit=257", "direction=up", "to=7"] {
            assert_eq!(asked(query).unwrap_err().refusal, Refusal::Schema, "{query}");
        }
    }

    #[test]
    fn a_page_leaves_out_what_expired_and_says_where_the_next_begins() {
        let at = |offset| Position { epoch: Epoch(1), offset };
        let kept = |offset, expires_unix_ms| {
            let room = RoomName::parse("a").unwrap();
            let bare = Publication::bare(room, Content::Json("7".into()));
            let position = Some(at(offset));
            Kept::Publication(Arc::new(Publication { expires_unix_ms, position, ..bare }))
        };
        let entries = vec![
            kept(5, None),
            kept(6, Some(1_000)),
            Kept::Unreadable(at(7)),
            kept(8, Some(1_001)),
        ];
        let page = Page { head: Head { position: at(9), first: 2 }, entries, whole: false };
        let shown = |direction| {
            let span = Span { direction, ..Span::above(0) };
            let history = serde_json::to_value(history(&page, span, 1_000)).unwrap();
            let offsets = history["publications"].as_array().unwrap().iter();
            let offsets: Vec<_> = offsets.map(|it| it["metadata"]["offset"].clone()).collect();
            assert_eq!((&history["offset"], &history["first"]), (&json!(9), &json!(2)));
            (json!(offsets), history["next"].clone())
        };
        assert_eq!(shown(Direction::Forward), (json!([5, 8]), json!(8)));
        assert_eq!(shown(Direction::Backward), (json!([8, 5]), json!(5)));
    }
}
