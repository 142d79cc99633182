//! `roomcast rooms`, `connections`, `sessions`: what all nodes have, one JSON a page.

use clap::Args;
use serde_json::Value;

use super::{ApiArgs, segment};
use crate::failure::Failure;
use crate::output::{self, Reader};

/// What all lists have.
#[derive(Args, Debug)]
struct Common {
    #[command(flatten)]
    api: ApiArgs,
    /// Rows of one page
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Begin behind this row: the `next` of a page
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
}

/// `roomcast rooms`.
#[derive(Args, Debug)]
pub(crate) struct Rooms {
    #[command(flatten)]
    common: Common,
    /// Only rooms whose names begin so
    #[arg(long)]
    prefix: Option<String>,
}

/// `roomcast connections`.
#[derive(Args, Debug)]
pub(crate) struct Connections {
    #[command(flatten)]
    common: Common,
}

/// `roomcast sessions`.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    #[command(flatten)]
    common: Common,
    /// The user's name within the cluster: `sub`, or `realm:sub`
    user: String,
}

/// Runs `rooms`.
pub(crate) fn rooms(args: &Rooms) -> Result<(), Failure> {
    let prefix = args.prefix.as_ref().map(|prefix| format!("prefix={}", segment(prefix)));
    print(&args.common, "/api/v1/rooms", prefix.as_deref())
}

/// Runs `connections`.
pub(crate) fn connections(args: &Connections) -> Result<(), Failure> {
    print(&args.common, "/api/v1/connections", None)
}

/// Runs `sessions`.
pub(crate) fn sessions(args: &Sessions) -> Result<(), Failure> {
    print(&args.common, &format!("/api/v1/users/{}/sessions", segment(&args.user)), None)
}

/// Prints pages to the last, or until nobody reads them; nodes that have not answered are a timeout.
fn print(common: &Common, path: &str, more: Option<&str>) -> Result<(), Failure> {
    let mut api = common.api.connect()?;
    let (mut after, mut silent) = (common.after.clone(), 0);
    loop {
        let page = api.get(&query(path, more, common.limit, after.as_deref()))?;
        if output::json_line(&page)? == Reader::Gone {
            return Ok(());
        }
        silent = silent.max(page.get("unanswered").and_then(Value::as_array).map_or(0, Vec::len));
        // Names only rise, so it ends even if the node errs.
        match page.get("next").and_then(Value::as_str) {
            Some(next) if after.as_deref().is_none_or(|after| next > after) => {
                after = Some(next.to_owned());
            }
            Some(_) | None => break,
        }
    }
    if silent == 0 {
        return Ok(());
    }
    Err(Failure::Timeout(format!("{silent} nodes have not answered: what they have is not shown")))
}

fn query(path: &str, more: Option<&str>, limit: Option<u32>, after: Option<&str>) -> String {
    let limit = limit.map(|limit| format!("limit={limit}"));
    let after = after.map(|after| format!("after={}", segment(after)));
    let parts: Vec<_> = [more.map(str::to_owned), limit, after].into_iter().flatten().collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_with_what_was_given() {
        assert_eq!(query("/a", None, None, None), "/a");
        assert_eq!(query("/a", Some("prefix=b"), None, None), "/a?prefix=b");
        assert_eq!(query("/a", None, Some(7), Some("é b")), "/a?limit=7&after=%C3%A9%20b");
    }
}
