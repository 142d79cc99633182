//! A room's roster, put together from its pages. Does no IO: whoever reads says how.

use crate::error::Error;
use crate::event::{Roster, RosterPage};

/// Reads all pages. Users who come or go meanwhile may be missing or stand there all the same: then there is no version.
pub(crate) async fn read(
    mut page: impl AsyncFnMut(Option<&str>) -> Result<RosterPage, Error>,
) -> Result<Roster, Error> {
    let first = page(None).await?;
    let mut next = first.next;
    let mut roster =
        Roster { room: first.room, count: first.count, users: first.users, version: first.version };
    while let (Some(after), Some(users)) = (&next, &mut roster.users) {
        let RosterPage { count, users: more, next: behind, version, .. } =
            page(Some(after)).await?;
        let Some(more) = more else {
            // There have come so many meanwhile that only their number is told.
            return Ok(Roster { count, users: None, version, ..roster });
        };
        // Names only rise, so the reading ends even if the node errs.
        if behind.as_ref().is_some_and(|behind| behind <= after) {
            let text = format!("the page of the roster behind {after:?} goes back");
            return Err(Error::Handshake(text));
        }
        users.extend(more);
        roster.count = count;
        if version != roster.version {
            roster.version = None;
        }
        next = behind;
    }
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    fn page(users: &[&str], next: Option<&str>, offset: u64) -> RosterPage {
        RosterPage {
            room: "news".into(),
            count: 3,
            users: Some(users.iter().map(|&user| user.to_owned()).collect()),
            next: next.map(Into::into),
            version: Some(Position { epoch: "e".into(), offset }),
        }
    }

    async fn roster(pages: Vec<RosterPage>) -> (Result<Roster, Error>, Vec<Option<String>>) {
        let (mut pages, mut asked) = (pages.into_iter(), Vec::new());
        let read = read(async |after: Option<&str>| {
            asked.push(after.map(str::to_owned));
            Ok(pages.next().unwrap())
        });
        (read.await, asked)
    }

    #[tokio::test]
    async fn pages_are_asked_for_one_behind_the_other() {
        let pages = vec![page(&["a", "b"], Some("b"), 4), page(&["c"], None, 4)];
        let (read, asked) = roster(pages).await;
        let read = read.unwrap();
        assert_eq!(asked, [None, Some("b".to_owned())]);
        assert_eq!(read.users.unwrap(), ["a", "b", "c"]);
        assert_eq!((read.count, read.version.unwrap().offset), (3, 4));
    }

    #[tokio::test]
    async fn pages_of_different_versions_have_none() {
        let pages = vec![page(&["a"], Some("a"), 4), page(&["c"], None, 5)];
        assert_eq!(roster(pages).await.0.unwrap().version, None);
    }

    #[tokio::test]
    async fn a_number_alone_is_one_page() {
        let alone = RosterPage { users: None, ..page(&[], None, 4) };
        let (read, asked) = roster(vec![alone]).await;
        assert_eq!((read.unwrap().users, asked.len()), (None, 1));
    }

    #[tokio::test]
    async fn a_page_that_is_a_number_alone_leaves_no_list() {
        let alone = RosterPage { users: None, count: 9, ..page(&[], None, 4) };
        let (read, asked) = roster(vec![page(&["a"], Some("a"), 4), alone]).await;
        let read = read.unwrap();
        assert_eq!((read.users, read.count, asked.len()), (None, 9, 2));
        assert_eq!(read.version.unwrap().offset, 4);
    }

    #[tokio::test]
    async fn a_node_that_pages_in_circles_is_left() {
        let pages = vec![page(&["b"], Some("b"), 4), page(&["a"], Some("a"), 4)];
        assert!(roster(pages).await.0.is_err());
    }
}
