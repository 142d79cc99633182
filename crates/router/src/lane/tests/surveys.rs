//! What a lane answers to surveys.

use super::check;
use crate::messages::LaneMessage;
use crate::surveys::{Survey, SurveyPage, What};

/// `hub survey rooms ne 2 [news]`: two rooms that begin with `ne`, behind `news`; `hub survey sessions ann 2`, or `*`.
pub(super) fn asked(text: &str) -> LaneMessage {
    let words: Vec<_> = text.split(' ').collect();
    let word = |at: usize| Box::<str>::from(*words.get(at).unwrap_or(&""));
    let what = match words[0] {
        "rooms" => What::Rooms(word(1).trim_matches('*').into()),
        _ => What::Sessions(Some(word(1)).filter(|user| &**user != "*")),
    };
    let survey = Survey { what, after: word(3), count_max: words[2].parse().unwrap() };
    LaneMessage::Survey { ticket: 1, survey: survey.into() }
}

/// How scripts show the answer.
pub(super) fn shown(page: &SurveyPage) -> String {
    let rows = page.rows.iter().map(|(key, row)| {
        let session = row.session.as_ref();
        let session = session.map_or(String::new(), |(user, dialect)| format!(" {user} {dialect}"));
        format!(" {}:{}{session}", key.trim_start_matches('0'), row.count)
    });
    let rows: String = rows.collect();
    format!("hub surveyed{rows}{}", if page.cut { ", cut" } else { "" })
}

#[test]
fn rooms_with_members_are_listed_by_prefix_behind_a_name_and_up_to_a_limit() {
    check(
        "1 opens as ann
         2 opens as bob
         1 joins news-2
         1 joins news-1
         2 joins news-1
         2 joins tape
         hub survey rooms * 9
         hub survey rooms news 1
         hub survey rooms news 9 news-1
         hub survey rooms x 9",
        "1: welcome ann 1
         2: welcome bob 2
         1: joined news-2
         1: joined news-1
         2: joined news-1
         2: joined tape at 0
         hub surveyed news-1:2 news-2:1 tape:1
         hub surveyed news-1:2, cut
         hub surveyed news-2:1
         hub surveyed",
    );
}

#[test]
fn sessions_are_listed_with_their_user_and_dialect_and_only_once_their_token_is_known() {
    check(
        "1 opens as ann
         2 opens as bob
         3 opens
         1 joins news-1
         hub survey sessions * 9
         hub survey sessions bob 9
         hub survey sessions * 1",
        "1: welcome ann 1
         2: welcome bob 2
         1: joined news-1
         hub surveyed 1:1 ann plain 2:0 bob plain
         hub surveyed 2:0 bob plain
         hub surveyed 1:1 ann plain, cut",
    );
}
