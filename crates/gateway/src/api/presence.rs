//! Who is in a room on all nodes, a page at a time.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::presence::{ROSTER_PAGE_MAX, RosterPage};
use serde::Serialize;

use super::route::after;

/// Users in one answer where nobody says how many.
const PAGE_DEFAULT: u32 = 100;

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) limit: u32,
    /// The last user of the page before.
    pub(super) after: Option<Box<str>>,
}

impl Asked {
    /// Reads `?limit=&after=`.
    ///
    /// # Errors
    /// 102 names the parameter that is wrong, and what it takes.
    pub(super) fn parse(query: &str) -> Result<Self, Refused> {
        let wrong = |text| Err(Refused::because(Refusal::Schema, text));
        let mut asked = Self { limit: PAGE_DEFAULT, after: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("limit", value)) => match value.parse() {
                    Ok(limit) if (1..=ROSTER_PAGE_MAX).contains(&limit) => asked.limit = limit,
                    Ok(_) | Err(_) => {
                        let text = format!("`limit` is a number from 1 to {ROSTER_PAGE_MAX}");
                        return wrong(text.into());
                    }
                },
                Some(("after", value)) => asked.after = after(value)?,
                Some(_) | None => return wrong("The parameters are `limit` and `after`".into()),
            }
        }
        Ok(asked)
    }
}

/// A page of a roster.
#[derive(Debug, Serialize)]
pub(super) struct Roster {
    /// Users present, on all pages.
    count: u64,
    users: Vec<Box<str>>,
    /// Of the room's presence: pages of different versions may not fit together.
    version: Version,
    /// What the next page is asked for with, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
}

#[derive(Debug, Serialize)]
struct Version {
    epoch: String,
    offset: u64,
}

impl From<RosterPage> for Roster {
    fn from(page: RosterPage) -> Self {
        let RosterPage { version, count, users, more } = page;
        let next = users.last().filter(|_| more).cloned();
        let version = Version { epoch: version.epoch.to_string(), offset: version.offset };
        Self { count, users, version, next }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::position::{Epoch, Position};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_page_is_taken_and_one_more_refused() {
        for first in ["", "after="] {
            assert_eq!(Asked::parse(first).unwrap(), Asked { limit: 100, after: None }, "{first}");
        }
        assert_eq!(Asked::parse("limit=1000").unwrap().limit, ROSTER_PAGE_MAX);
        let after = Asked::parse("after=gs%3A7&limit=1").unwrap();
        assert_eq!(after, Asked { limit: 1, after: Some("gs:7".into()) });
        for query in ["limit=1001", "limit=0", "limit", "after=%zz", "cursor=7"] {
            assert_eq!(Asked::parse(query).unwrap_err().refusal, Refusal::Schema, "{query}");
        }
    }

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let version = Position { epoch: Epoch(1), offset: 7 };
        let users = vec!["ann".into(), "bob".into()];
        let page = RosterPage { version, count: 3, users, more: true };
        let shown = |page| serde_json::to_value(Roster::from(page)).unwrap();
        let version = json!({ "epoch": format!("{:032x}", 1), "offset": 7 });
        let mut expected = json!({ "count": 3, "users": ["ann", "bob"], "version": version });
        assert_eq!(shown(RosterPage { more: false, ..page.clone() }), expected);
        expected["next"] = "bob".into();
        assert_eq!(shown(page), expected);
    }
}
