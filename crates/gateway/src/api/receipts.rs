//! How far users have got, and read, a room, a page at a time.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::position::OFFSET_MAX;
use roomcast_protocol::receipts::{Marked, RECEIPTS_PAGE_MAX, Receipt, ReceiptsPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::iso8601;
use roomcast_router::messages::ReceiptsAsk;
use serde::Serialize;

use super::route::after;

/// Users in one answer where nobody says how many.
const PAGE_DEFAULT: u32 = 100;

/// Reads `?of=&after=&limit=`.
///
/// # Errors
/// 102 names the parameter that is wrong, and what it takes.
pub(super) fn asked(room: RoomName, query: &str) -> Result<ReceiptsAsk, Refused> {
    let wrong = |text| Err(Refused::because(Refusal::Schema, text));
    let mut ask = ReceiptsAsk { room, of: None, after: None, count_max: PAGE_DEFAULT };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("of", value)) => match value.parse() {
                Ok(offset) if (1..=OFFSET_MAX).contains(&offset) => ask.of = Some(offset),
                Ok(_) | Err(_) => {
                    return wrong(format!("`of` is an offset from 1 to {OFFSET_MAX}").into());
                }
            },
            Some(("limit", value)) => match value.parse() {
                Ok(limit) if (1..=RECEIPTS_PAGE_MAX).contains(&limit) => ask.count_max = limit,
                Ok(_) | Err(_) => {
                    let text = format!("`limit` is a number from 1 to {RECEIPTS_PAGE_MAX}");
                    return wrong(text.into());
                }
            },
            Some(("after", value)) => ask.after = after(value)?,
            Some(_) | None => {
                return wrong("The parameters are `of`, `after` and `limit`".into());
            }
        }
    }
    Ok(ask)
}

/// A page of a room's receipts.
#[derive(Debug, Serialize)]
pub(super) struct Receipts {
    receipts: Vec<One>,
    /// The room's newest position.
    head: Head,
    /// Rises with each step that changed something.
    version: u64,
    /// What the next page is asked for with, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
}

#[derive(Debug, Serialize)]
struct One {
    user: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<At>,
}

#[derive(Debug, Serialize)]
struct At {
    offset: u64,
    at: String,
}

#[derive(Debug, Serialize)]
struct Head {
    epoch: String,
    offset: u64,
}

impl From<ReceiptsPage> for Receipts {
    fn from(page: ReceiptsPage) -> Self {
        let ReceiptsPage { head, version, receipts, next } = page;
        let at = |Marked { offset, at_unix_ms }| At { offset, at: iso8601(at_unix_ms) };
        let one = |Receipt { user, delivered, read }| One {
            user,
            delivered: delivered.map(at),
            read: read.map(at),
        };
        Self {
            receipts: receipts.into_iter().map(one).collect(),
            head: Head { epoch: head.epoch.to_string(), offset: head.offset },
            version,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_page_and_offset_are_taken_and_one_more_refused() {
        let room = || RoomName::parse("a").unwrap();
        let ask = |query: &str| asked(room(), query);
        let plain = ReceiptsAsk { room: room(), of: None, after: None, count_max: 100 };
        assert_eq!((ask("").unwrap(), ask("after=").unwrap()), (plain.clone(), plain));
        let most = ask(&format!("of={OFFSET_MAX}&limit=1000&after=gs%3A7")).unwrap();
        let (of, after) = (Some(OFFSET_MAX), Some("gs:7".into()));
        assert_eq!(most, ReceiptsAsk { room: room(), of, after, count_max: RECEIPTS_PAGE_MAX });
        let over = format!("of={}", OFFSET_MAX + 1);
        for query in [&over, "of=0", "of", "limit=1001", "limit=0", "after=%zz", "to=7"] {
            assert_eq!(ask(query).unwrap_err().refusal, Refusal::Schema, "{query}");
        }
    }
}
