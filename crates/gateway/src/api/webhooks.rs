//! Dead letters of webhooks, as the broker keeps them for all nodes: listed a page at a time, and replayed.

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, StatusCode};
use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::position::{Kept, OFFSET_MAX, Page, Span};
use roomcast_protocol::room::RoomName;
use roomcast_router::hub::DEAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::history::limit;
use super::orders::parsed;
use super::problem::Problem;
use super::{Answer, Api, answer, body};
use crate::webhooks::{Replayed, Written};

/// Dead letters in one answer where nobody says how many.
const PAGE_DEFAULT: u32 = 100;

/// Dead letters that one request may name.
const IDS_MAX: usize = 1_000;

/// When to ask again where nobody knows at the moment. Units: milliseconds.
const RETRY_MS: u64 = 1_000;

/// A page of dead letters.
#[derive(Debug, Serialize)]
struct Dead {
    dead: Vec<Letter>,
    /// What the next page is asked for with as `after`, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// One of them.
#[derive(Debug, Serialize)]
struct Letter {
    /// Where it stands.
    id: u64,
    webhook: Box<str>,
    why: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    tries: u32,
    first_unix_ms: u64,
    last_unix_ms: u64,
    event: Box<RawValue>,
}

/// Which are to be tried again; `None`: all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    ids: Option<Vec<u64>>,
}

/// What became of that.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    /// Are tried again.
    queued: u64,
    /// Are not: under way already, not listed any more, without a webhook here, or without a place now.
    left: u64,
}

impl Outcome {
    /// Counts one; `true`: there is a place for more.
    const fn count(&mut self, replayed: Replayed) -> bool {
        match replayed {
            Replayed::Queued => self.queued += 1,
            Replayed::Left | Replayed::Full => self.left += 1,
        }
        !matches!(replayed, Replayed::Full)
    }
}

/// Reads `?limit=&after=`.
///
/// # Errors
/// 102 names the parameter that is wrong, and what it takes.
fn asked(query: &str) -> Result<Span, Refused> {
    let wrong = |text: String| Refused::because(Refusal::Schema, text.into());
    let mut span = Span { count_max: PAGE_DEFAULT, ..Span::above(0) };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("after", value)) => {
                let offset = value.parse().ok().filter(|it| *it <= OFFSET_MAX);
                let text = || wrong(format!("`after` is an id from 0 to {OFFSET_MAX}"));
                span.from = offset.ok_or_else(text)?;
            }
            Some(("limit", value)) => span.count_max = limit(value)?,
            Some(_) | None => {
                return Err(wrong("The parameters are `limit` and `after`".to_owned()));
            }
        }
    }
    Ok(span)
}

/// The dead letter that stands somewhere, if one does.
fn letter(kept: &Kept) -> Option<(u64, Written<'_>)> {
    match kept {
        Kept::Publication(it) => Some((it.position?.offset, Written::read(it)?)),
        Kept::Unreadable(_) | Kept::Removed(_) => None,
    }
}

fn listed(kept: &Kept) -> Option<Letter> {
    let (id, written) = letter(kept)?;
    let Written { webhook, why, status, tries, first_unix_ms, last_unix_ms, event } = written;
    let event = event.to_owned();
    Some(Letter { id, webhook, why, status, tries, first_unix_ms, last_unix_ms, event })
}

/// Where the page behind this one begins; `None`: there is none.
fn next(page: &Page) -> Option<u64> {
    let last = page.entries.last().and_then(Kept::position);
    last.filter(|_| !page.whole).map(|position| position.offset)
}

impl Api {
    /// `GET /api/v1/webhooks/dead`.
    pub(super) async fn dead_letters(&self, query: &str) -> Answer {
        let mut span = asked(query)?;
        // Notes that letters were delivered are passed over, so that a page is not empty while there are more.
        loop {
            let page = self.dead_page(span).await?;
            let dead: Vec<_> = page.entries.iter().filter_map(listed).collect();
            match next(&page) {
                Some(next) if dead.is_empty() => span.from = next,
                next => return Ok(answer::json(StatusCode::OK, &Dead { dead, next })),
            }
        }
    }

    /// `POST /api/v1/webhooks/dead/replay`.
    pub(super) async fn replay<B>(&self, name: &str, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let text = "The body is nothing, or `ids`: a list of at most 1000 numbers";
        let wish = if request.body().is_end_stream() {
            Wish::default()
        } else {
            parsed(&body::json(request, self.parts.config.batch_bytes_max).await?, text)?
        };
        let outcome = match wish.ids {
            None => self.replay_all().await?,
            Some(ids) if ids.len() <= IDS_MAX => self.replay_those(ids).await?,
            Some(_) => return Err(Refused::because(Refusal::Schema, text.into()).into()),
        };
        let Outcome { queued, left } = outcome;
        tracing::info!(key = name, queued, left, "dead letters are replayed");
        Ok(answer::json(StatusCode::OK, &outcome))
    }

    async fn replay_all(&self) -> Result<Outcome, Problem> {
        let mut outcome = Outcome::default();
        let mut from = Some(0);
        while let Some(offset) = from {
            let page = self.dead_page(Span::above(offset)).await?;
            for (_, written) in page.entries.iter().filter_map(letter) {
                if !outcome.count(self.parts.webhooks.replay(&written)) {
                    return Ok(outcome);
                }
            }
            from = next(&page);
        }
        Ok(outcome)
    }

    async fn replay_those(&self, mut ids: Vec<u64>) -> Result<Outcome, Problem> {
        ids.sort_unstable();
        ids.dedup();
        let mut outcome = Outcome::default();
        for id in ids {
            let from = id.min(OFFSET_MAX).saturating_sub(1);
            let page = self.dead_page(Span { count_max: 1, ..Span::above(from) }).await?;
            let found = page.entries.iter().filter_map(letter).find(|(offset, _)| *offset == id);
            let replayed = found.map(|(_, written)| self.parts.webhooks.replay(&written));
            outcome.count(replayed.unwrap_or(Replayed::Left));
        }
        Ok(outcome)
    }

    async fn dead_page(&self, span: Span) -> Result<Page, Refused> {
        let room = RoomName::system(DEAD)?;
        self.parts.core.history(room, span).await.ok_or_else(|| {
            let text = "The dead letters cannot be read at the moment";
            Refused::unavailable(text.into(), RETRY_MS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_page_and_id_are_taken_and_one_more_refused() {
        let whole = Span { count_max: 100, ..Span::above(0) };
        assert_eq!(asked(""), Ok(whole));
        let most = asked(&format!("after={OFFSET_MAX}&limit=256"));
        assert_eq!(most, Ok(Span { from: OFFSET_MAX, count_max: 256, ..whole }));
        let over = format!("after={}", OFFSET_MAX + 1);
        for query in [&over, "after=-1", "after", "limit=0", "limit=257", "from=7"] {
            assert_eq!(asked(query).unwrap_err().refusal, Refusal::Schema, "{query}");
        }
    }

    #[test]
    fn what_has_no_place_ends_a_replay() {
        let mut outcome = Outcome::default();
        assert!(outcome.count(Replayed::Queued) && outcome.count(Replayed::Left));
        assert!(!outcome.count(Replayed::Full));
        assert_eq!((outcome.queued, outcome.left), (1, 2));
    }
}
