//! Who is in a room of this node, a page at a time.

use std::fmt;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::ids::SessionId;
use roomcast_router::messages::MemberInfo;
use serde::{Serialize, Serializer};

/// Members in one answer where nobody says how many.
const PAGE_DEFAULT: usize = 100;

/// Members in one answer at most.
const PAGE_MAX: usize = 1_000;

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    limit: usize,
    /// The last session of the page before.
    after: Option<SessionId>,
}

impl Page {
    /// Reads `?limit=&cursor=`.
    ///
    /// # Errors
    /// 102 names the parameter that is wrong, and what it takes.
    pub(super) fn parse(query: &str) -> Result<Self, Refused> {
        let wrong = |text| Err(Refused::because(Refusal::Schema, text));
        let mut page = Self { limit: PAGE_DEFAULT, after: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("limit", value)) => match value.parse() {
                    Ok(limit) if (1..=PAGE_MAX).contains(&limit) => page.limit = limit,
                    Ok(_) | Err(_) => {
                        return wrong(format!("`limit` is a number from 1 to {PAGE_MAX}").into());
                    }
                },
                Some(("cursor", value)) => match parse_session(value) {
                    Some(session) => page.after = Some(session),
                    None => {
                        return wrong(
                            "`cursor` is the `next` of the page before, as it came".into(),
                        );
                    }
                },
                Some(_) | None => {
                    return wrong("The parameters are `limit` and `cursor`".into());
                }
            }
        }
        Ok(page)
    }

    /// Cuts the page out of all members. Sessions order the pages, so that who comes and goes meanwhile shifts nobody
    /// else from one page to another.
    pub(super) fn of(self, mut members: Vec<MemberInfo>) -> Members {
        members.sort_unstable_by_key(|member| member.session);
        let begin = members.partition_point(|member| Some(member.session) <= self.after);
        members.drain(..begin);
        let more = members.len() > self.limit;
        members.truncate(self.limit);
        let next = members.last().filter(|_| more).map(|member| Hex(member.session));
        let members =
            members.into_iter().map(|it| Member { user: it.user, session: Hex(it.session) });
        Members { members: members.collect(), next }
    }
}

/// 32 hexadecimal digits, as [`SessionId`] writes itself.
fn parse_session(text: &str) -> Option<SessionId> {
    let sound = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
    sound.then(|| u128::from_str_radix(text, 16).ok().map(SessionId)).flatten()
}

/// A page of members.
#[derive(Debug, Serialize)]
pub(super) struct Members {
    members: Vec<Member>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Hex>,
}

#[derive(Debug, Serialize)]
struct Member {
    user: Box<str>,
    session: Hex,
}

#[derive(Debug)]
struct Hex(SessionId);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn members(count: u128) -> Vec<MemberInfo> {
        let member =
            |index| MemberInfo { user: format!("u{index}").into(), session: SessionId(index) };
        // The lanes answer in no order.
        (1..=count).rev().map(member).collect()
    }

    fn page(query: &str, count: u128) -> Value {
        serde_json::to_value(Page::parse(query).unwrap().of(members(count))).unwrap()
    }

    #[test]
    fn members_are_users_with_their_sessions() {
        let session = format!("{:032x}", 1);
        assert_eq!(page("", 1), json!({"members": [{"user": "u1", "session": session}]}));
        assert_eq!(page("limit=1", 0), json!({"members": []}));
    }

    #[test]
    fn pages_follow_each_other_without_hole_or_repeat() {
        let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
        for _ in 0..4 {
            let page = page(&query, 10);
            let members = page["members"].as_array().unwrap();
            seen.extend(members.iter().map(|member| member["user"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => query = format!("limit=3&cursor={next}"),
                None => break,
            }
        }
        let expected: Vec<_> = (1..=10).map(|index| format!("u{index}")).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_page_that_holds_the_last_member_has_no_next() {
        assert_eq!(page("limit=10", 10)["next"], Value::Null);
        assert!(page("limit=9", 10)["next"].is_string());
        assert_eq!(page("", 100)["next"], Value::Null);
        assert!(page("", 101)["next"].is_string());
    }

    #[test]
    fn the_largest_page_is_taken_and_one_more_refused() {
        assert_eq!(Page::parse("limit=1000").unwrap().limit, 1_000);
        for query in [
            "limit=1001",
            "limit=0",
            "limit=-1",
            "limit=",
            "limit",
            "cursor=7",
            "cursor=",
            "page=2",
        ] {
            assert_eq!(Page::parse(query).unwrap_err().refusal, Refusal::Schema, "{query}");
        }
        let signed = format!("cursor=+{}", "0".repeat(31));
        assert!(Page::parse(&signed).is_err());
    }
}
