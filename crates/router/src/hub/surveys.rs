//! Surveys (which rooms, which sessions): this hub asks its own lanes and, by an ephemeral publication in the room of all
//! hubs, the others; pages become one, and who does not answer in time is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::ids::{LaneId, NodeId};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::answers::room_of;
use super::{Hub, RETRY_MS, bit_of};
use crate::messages::{HubEffect, LaneMessage, QueryId};
use crate::surveys::{Survey, SurveyPage, answer_of, answer_text, survey_of, survey_text};

/// The room that all hubs hear, and nobody else.
pub(super) const TO_ALL: &str = "$nodes";

/// Types of what is said.
const SURVEY: &str = "survey";
pub(super) const ANSWER: &str = "answer";

/// Surveys that lanes of a node have under way, those of other nodes included.
pub const SURVEYS_MAX: usize = 64;

/// What nodes answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Their rows.
    pub page: SurveyPage,
    /// Nodes that have not answered in time, and those that were lost before.
    pub unanswered: Vec<NodeId>,
}

/// A survey on its way through this node's lanes.
#[derive(Debug)]
struct Asking {
    asker: NodeId,
    query: u64,
    count_max: u32,
    /// Lanes that have not answered; one bit each.
    left: u64,
    pages: Vec<SurveyPage>,
}

/// A survey of this node.
#[derive(Debug)]
struct Awaited {
    due_ms: u64,
    count_max: u32,
    missing: BTreeSet<NodeId>,
    /// Nodes whose lease had ended by then without a farewell: they are not waited for, but named.
    lost: BTreeSet<NodeId>,
    pages: Vec<SurveyPage>,
}

/// Surveys under way. Bounds: [`SURVEYS_MAX`] each.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    serial: u64,
    asking: BTreeMap<u64, Asking>,
    awaited: BTreeMap<u64, Awaited>,
}

impl Surveys {
    /// When one is answered without all nodes. Units: monotonic milliseconds.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.awaited.values().map(|awaited| awaited.due_ms).min()
    }

    /// Nothing is under way.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        self.asking.is_empty() && self.awaited.is_empty()
    }
}

impl Hub {
    /// A back-end asks all nodes.
    pub(super) fn survey(
        &mut self,
        now: Now,
        (query, timeout_ms): (QueryId, u64),
        survey: Survey,
        out: &mut Vec<HubEffect>,
    ) {
        if self.surveys.awaited.len() >= SURVEYS_MAX || self.surveys.asking.len() >= SURVEYS_MAX {
            self.counters.surveys_refused += 1;
            let text = "Enough such questions are under way: ask again";
            let refused = Refused::unavailable(text.into(), RETRY_MS);
            return out.push(HubEffect::Surveyed(query, Err(refused)));
        }
        let own = self.config.id;
        let (missing, lost) = (self.all_nodes(), self.lost_nodes());
        let others = missing.len() > 1;
        let due_ms = now.mono_ms.saturating_add(timeout_ms);
        let count_max = survey.count_max;
        let awaited = Awaited { due_ms, count_max, missing, lost, pages: Vec::new() };
        self.surveys.awaited.insert(query.0, awaited);
        if others && let Ok(room) = RoomName::system(TO_ALL) {
            let text = survey_text(own, query.0, &survey);
            self.say_to_nodes(now, room, SURVEY, text, out);
        }
        self.ask_lanes((own, query.0), survey, out);
    }

    /// Somebody asks all nodes.
    pub(super) fn hear_survey(&mut self, kind: &str, text: &str, out: &mut Vec<HubEffect>) {
        let asked = survey_of(text).filter(|_| kind == SURVEY);
        let Some((asker, query, survey)) = asked else { return };
        if asker == self.config.id {
            return; // its lanes were asked at once
        }
        if self.surveys.asking.len() >= SURVEYS_MAX {
            self.counters.surveys_refused += 1;
            return;
        }
        self.ask_lanes((asker, query), survey, out);
    }

    fn ask_lanes(
        &mut self,
        (asker, query): (NodeId, u64),
        survey: Survey,
        out: &mut Vec<HubEffect>,
    ) {
        let left = self.all_lanes();
        self.surveys.serial += 1;
        let ticket = self.surveys.serial;
        let count_max = survey.count_max;
        let asking = Asking { asker, query, count_max, left, pages: Vec::new() };
        self.surveys.asking.insert(ticket, asking);
        let survey = Arc::new(survey);
        self.tell_lanes(|| LaneMessage::Survey { ticket, survey: Arc::clone(&survey) }, out);
    }

    /// A lane has answered.
    pub(super) fn lane_surveyed(
        &mut self,
        now: Now,
        lane: LaneId,
        ticket: u64,
        page: SurveyPage,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(asking) = self.surveys.asking.get_mut(&ticket) else { return };
        asking.left &= !bit_of(lane).unwrap_or(0);
        asking.pages.push(page);
        if asking.left != 0 {
            return;
        }
        let Some(asked) = self.surveys.asking.remove(&ticket) else { return };
        let Asking { asker, query, count_max, pages, .. } = asked;
        let own = self.config.id;
        let mut page = SurveyPage::merged(pages, count_max);
        for row in page.rows.values_mut() {
            row.nodes = vec![own];
        }
        if asker == own {
            return self.node_surveyed(own, query, page, out);
        }
        let Some(room) = room_of(asker) else { return };
        let text = answer_text((query, own), page, self.config.answer_bytes_max);
        self.say_to_nodes(now, room, ANSWER, text, out);
    }

    /// Another node has answered.
    pub(super) fn hear_answer(&mut self, text: &str, out: &mut Vec<HubEffect>) {
        if let Some((query, node, page)) = answer_of(text) {
            self.node_surveyed(node, query, page, out);
        }
    }

    fn node_surveyed(
        &mut self,
        node: NodeId,
        query: u64,
        page: SurveyPage,
        out: &mut Vec<HubEffect>,
    ) {
        let Some(awaited) = self.surveys.awaited.get_mut(&query) else { return };
        // The first of each node counts.
        if awaited.missing.remove(&node) || awaited.lost.remove(&node) {
            awaited.pages.push(page);
        }
        if awaited.missing.is_empty() {
            self.end_survey(query, out);
        }
    }

    /// A node has ended: surveys go on without it.
    pub(super) fn survey_without(&mut self, node: NodeId, out: &mut Vec<HubEffect>) {
        let mut ended = Vec::new();
        for (query, awaited) in &mut self.surveys.awaited {
            awaited.lost.remove(&node);
            if awaited.missing.remove(&node) && awaited.missing.is_empty() {
                ended.push(*query);
            }
        }
        for query in ended {
            self.end_survey(query, out);
        }
    }

    /// Answers surveys whose time is over.
    pub(super) fn end_late_surveys(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        let late = |(query, it): (&u64, &Awaited)| (it.due_ms <= now.mono_ms).then_some(*query);
        let late: Vec<u64> = self.surveys.awaited.iter().filter_map(late).collect();
        for query in late {
            self.end_survey(query, out);
        }
    }

    fn end_survey(&mut self, query: u64, out: &mut Vec<HubEffect>) {
        let Some(awaited) = self.surveys.awaited.remove(&query) else { return };
        let Awaited { count_max, missing, lost, pages, .. } = awaited;
        let page = SurveyPage::merged(pages, count_max);
        let unanswered = missing.union(&lost).copied().collect();
        let surveyed = Surveyed { page, unanswered };
        out.push(HubEffect::Surveyed(QueryId(query), Ok(surveyed)));
    }
}
