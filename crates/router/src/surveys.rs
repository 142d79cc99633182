//! Surveys: a question to all nodes of which rooms or sessions they have, a page at a time. Ephemeral: what is lost on the
//! way is named by whoever asked. Pure; how they are written, and how pages become one.

use std::collections::BTreeMap;

use roomcast_protocol::ids::{NodeId, SessionId};
use roomcast_protocol::room::RoomName;

use crate::orders::{node_of, session_of};

/// Rows of one page.
pub const SURVEY_ROWS_MAX: u32 = 100;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Rooms with members whose names begin so.
    Rooms(Box<str>),
    /// Sessions with a connection: of a user, or all.
    Sessions(Option<Box<str>>),
}

/// A survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What is asked.
    pub what: What,
    /// Keys behind this one, in the order of their bytes; empty: from the first.
    pub after: Box<str>,
    /// How many at most. Bounds: [`SURVEY_ROWS_MAX`].
    pub count_max: u32,
}

/// One room, or one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurveyRow {
    /// A room: its members. A session: its rooms.
    pub count: u64,
    /// Nodes that have it.
    pub nodes: Vec<NodeId>,
    /// A session's user and dialect.
    pub session: Option<(Box<str>, Box<str>)>,
}

/// Rows by room, or by session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurveyPage {
    /// In the order of their keys' bytes.
    pub rows: BTreeMap<Box<str>, SurveyRow>,
    /// There are more behind the last.
    pub cut: bool,
}

impl SurveyPage {
    /// Takes a row in, if it is among the first.
    pub(crate) fn offer(&mut self, key: &str, count_max: u32, row: impl FnOnce() -> SurveyRow) {
        let full = self.rows.len() >= count_max as usize;
        if full {
            self.cut = true;
            if self.rows.last_key_value().is_none_or(|(last, _)| &**last <= key) {
                return;
            }
            self.rows.pop_last();
        }
        self.rows.insert(key.into(), row());
    }

    /// Several pages as one: behind the last row of a page that was cut nothing may be said, for it may have more there.
    pub(crate) fn merged(pages: impl IntoIterator<Item = Self>, count_max: u32) -> Self {
        let mut all = Self::default();
        let mut bound: Option<Box<str>> = None;
        for Self { rows, cut } in pages {
            if cut {
                let last = rows.last_key_value().map_or_else(Box::default, |(key, _)| key.clone());
                bound = Some(bound.map_or(last.clone(), |held| held.min(last)));
            }
            for (key, row) in rows {
                let held = all.rows.entry(key).or_default();
                held.count += row.count;
                held.nodes.extend(row.nodes);
                held.session = held.session.take().or(row.session);
            }
        }
        if let Some(bound) = bound {
            all.cut = true;
            all.rows.retain(|key, _| **key <= *bound);
        }
        while all.rows.len() > count_max as usize {
            all.rows.pop_last();
            all.cut = true;
        }
        all
    }

    /// Lets rows go from the end until the rest may be said in one publication.
    fn fit(&mut self, bytes_max: usize) {
        let weight = |key: &str, row: &SurveyRow| line(key, row).len() + 1;
        let mut bytes: usize = self.rows.iter().map(|(key, row)| weight(key, row)).sum();
        while bytes > bytes_max
            && self.rows.len() > 1
            && let Some((key, row)) = self.rows.pop_last()
        {
            bytes -= weight(&key, &row);
            self.cut = true;
        }
    }
}

/// A survey as it is written in the room of all nodes: `{node} {query} {count} ={after} rooms ={prefix}`, or `sessions
/// [={user}]`. Neither names of rooms nor of users have spaces.
pub(crate) fn survey_text(asker: NodeId, query: u64, survey: &Survey) -> String {
    let Survey { what, after, count_max } = survey;
    let what = match what {
        What::Rooms(prefix) => format!("rooms ={prefix}"),
        What::Sessions(Some(user)) => format!("sessions ={user}"),
        What::Sessions(None) => "sessions".to_owned(),
    };
    format!("{asker} {query} {count_max} ={after} {what}")
}

/// Reads a [`survey_text`].
pub(crate) fn survey_of(text: &str) -> Option<(NodeId, u64, Survey)> {
    let mut words = text.split(' ');
    let asker = node_of(words.next()?)?;
    let query = words.next()?.parse().ok()?;
    let count_max = words.next()?.parse().ok().filter(|it| (1..=SURVEY_ROWS_MAX).contains(it))?;
    let after = words.next()?.strip_prefix('=')?.into();
    let what = (words.next()?, words.next().and_then(|word| word.strip_prefix('=')));
    let what = match what {
        ("rooms", Some(prefix)) => What::Rooms(prefix.into()),
        ("sessions", user) => What::Sessions(user.map(Into::into)),
        _ => return None,
    };
    Some((asker, query, Survey { what, after, count_max }))
}

fn line(key: &str, row: &SurveyRow) -> String {
    let SurveyRow { count, session, .. } = row;
    session.as_ref().map_or_else(
        || format!("{key} {count}"),
        |(user, dialect)| format!("{key} {count} {user} {dialect}"),
    )
}

/// A node's answer as it is written in the asker's room: `{query} {node} cut|whole`, then a line for each row, `{room}
/// {members}` or `{session} {rooms} {user} {dialect}`; these within so many bytes, but one at least.
pub(crate) fn answer_text(
    (query, node): (u64, NodeId),
    mut page: SurveyPage,
    bytes_max: usize,
) -> String {
    page.fit(bytes_max);
    let how = if page.cut { "cut" } else { "whole" };
    let mut text = format!("{query} {node} {how}");
    for (key, row) in &page.rows {
        text.push('\n');
        text.push_str(&line(key, row));
    }
    text
}

/// Reads an [`answer_text`]; words of later versions behind a row mean nothing here.
pub(crate) fn answer_of(text: &str) -> Option<(u64, NodeId, SurveyPage)> {
    let mut lines = text.split('\n');
    let mut words = lines.next()?.split(' ');
    let query = words.next()?.parse().ok()?;
    let node = node_of(words.next()?)?;
    let cut = words.next()? == "cut";
    let rows = lines.filter_map(|line| row_of(line, node)).take(SURVEY_ROWS_MAX as usize).collect();
    Some((query, node, SurveyPage { rows, cut }))
}

fn row_of(line: &str, node: NodeId) -> Option<(Box<str>, SurveyRow)> {
    let mut words = line.split(' ');
    let key =
        words.next().filter(|key| session_of(key).is_some() || RoomName::parse(key).is_ok())?;
    let count = words.next()?.parse().ok()?;
    let session = words.next().zip(words.next()).map(|(user, it)| (user.into(), it.into()));
    Some((key.into(), SurveyRow { count, nodes: vec![node], session }))
}

/// A session's key.
pub(crate) fn key_of(session: SessionId) -> String {
    session.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], cut: bool) -> SurveyPage {
        let row = || SurveyRow { count: 1, nodes: vec![NodeId(1)], session: None };
        SurveyPage { rows: keys.iter().map(|key| ((*key).into(), row())).collect(), cut }
    }

    #[track_caller]
    fn merges(pages: &[(&[&str], bool)], count_max: u32, expected: &[&str], cut: bool) {
        let pages = pages.iter().map(|(keys, cut)| page(keys, *cut));
        let merged = SurveyPage::merged(pages, count_max);
        let keys: Vec<_> = merged.rows.keys().map(|key| &**key).collect();
        assert_eq!((&keys[..], merged.cut), (expected, cut));
    }

    #[test]
    fn pages_become_one_up_to_where_a_cut_one_ends_and_up_to_the_limit() {
        merges(&[(&["a", "c"], false), (&["b"], false)], 3, &["a", "b", "c"], false);
        merges(&[(&["a", "c"], false), (&["b"], false)], 2, &["a", "b"], true);
        merges(&[(&["a", "d"], false), (&["b", "c"], true)], 9, &["a", "b", "c"], true);
        merges(&[(&["a", "d"], true), (&["b", "c"], true)], 9, &["a", "b", "c"], true);
        merges(&[(&["a"], false), (&[], true)], 9, &[], true);
        let twice = SurveyPage::merged([page(&["a"], false), page(&["a"], false)], 9);
        assert_eq!((twice.rows["a"].count, twice.rows["a"].nodes.len()), (2, 2));
    }

    #[test]
    fn a_page_takes_the_first_keys_whatever_their_order() {
        let mut page = SurveyPage::default();
        for key in ["d", "b"] {
            page.offer(key, 2, SurveyRow::default);
        }
        assert!(!page.cut);
        for key in ["c", "a", "e"] {
            page.offer(key, 2, SurveyRow::default);
        }
        assert_eq!(page.rows.keys().map(|key| &**key).collect::<Vec<_>>(), ["a", "b"]);
        assert!(page.cut);
    }

    #[test]
    fn surveys_and_answers_are_read_as_they_are_written() {
        for what in [
            What::Rooms("chat-".into()),
            What::Rooms("".into()),
            What::Sessions(None),
            What::Sessions(Some("guests:bob".into())),
        ] {
            let survey = Survey { what, after: "chat-7".into(), count_max: SURVEY_ROWS_MAX };
            let text = survey_text(NodeId(7), 3, &survey);
            assert_eq!(survey_of(&text), Some((NodeId(7), 3, survey)), "{text}");
        }
        let survey = Survey { what: What::Sessions(None), after: "".into(), count_max: 101 };
        assert_eq!(survey_of(&survey_text(NodeId(7), 3, &survey)), None, "over the bound");
        let mut answer = page(&["news", "tape"], true);
        let session = Some(("bob".into(), "native".into()));
        let row = SurveyRow { count: 2, nodes: vec![NodeId(1)], session };
        answer.rows.insert(key_of(SessionId(5)).into(), row);
        let text = answer_text((3, NodeId(1)), answer.clone(), 1 << 10);
        assert_eq!(answer_of(&text), Some((3, NodeId(1), answer.clone())));
        assert_eq!(answer_of(&format!("{text} later")).map(|it| it.2), Some(answer));
    }

    #[test]
    fn an_answer_is_cut_to_what_one_publication_may_weigh() {
        let keys: Vec<_> = (10..20).map(|number| format!("room-{number}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        // Each row is a line of 10 bytes.
        for (bytes_max, rows, cut) in [(100, 10, false), (99, 9, true), (10, 1, true), (1, 1, true)]
        {
            let text = answer_text((3, NodeId(1)), page(&keys, false), bytes_max);
            let (_, _, page) = answer_of(&text).unwrap();
            assert_eq!((page.rows.len(), page.cut), (rows, cut), "{bytes_max}");
        }
    }
}
