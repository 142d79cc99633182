//! What a lane answers to a survey: its first rooms or sessions behind a key.

use super::Lane;
use super::orders::is_called;
use crate::messages::{Effect, HubMessage};
use crate::session::Session;
use crate::surveys::{Survey, SurveyPage, SurveyRow, What, key_of};

impl Lane {
    /// Answers a survey.
    pub(super) fn answer_survey(&self, ticket: u64, survey: &Survey, out: &mut Vec<Effect>) {
        let page = match &survey.what {
            What::Rooms(prefix) => self.rooms_behind(prefix, survey),
            What::Sessions(user) => self.sessions_behind(user.as_deref(), survey),
        };
        out.push(Effect::Hub(HubMessage::Surveyed { lane: self.id, ticket, page }));
    }

    fn rooms_behind(&self, prefix: &str, survey: &Survey) -> SurveyPage {
        let mut page = SurveyPage::default();
        for (_, room) in &self.rooms {
            let name = room.name.as_str();
            if !room.members.is_empty() && name.starts_with(prefix) && *name > *survey.after {
                let count = room.members.len() as u64;
                page.offer(name, survey.count_max, || SurveyRow { count, ..SurveyRow::default() });
            }
        }
        page
    }

    fn sessions_behind(&self, user: Option<&str>, survey: &Survey) -> SurveyPage {
        let mut page = SurveyPage::default();
        for (_, session) in &self.sessions {
            let Some(who) = session.who.as_deref() else { continue };
            if !user.is_none_or(|user| is_called(who, user)) {
                continue;
            }
            let key = key_of(session.id);
            if *key > *survey.after {
                page.offer(&key, survey.count_max, || self.row_of(session, who.user_key()));
            }
        }
        page
    }

    fn row_of(&self, session: &Session, user: String) -> SurveyRow {
        let format = self.formats.get(usize::from(session.format));
        let dialect = format.map_or("", |format| format.dialect.name());
        let session_of = Some((user.into(), dialect.into()));
        SurveyRow { count: session.rooms.len() as u64, nodes: Vec::new(), session: session_of }
    }
}
