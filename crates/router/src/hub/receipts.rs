//! Receipts as others see them (G17): what the feed brings is gathered and told to the room's members, and questions how
//! far users are go to the broker, a few at once. It keeps no receipts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::position::Epoch;
use roomcast_protocol::receipts::{
    RECEIPTS_PAGE_MAX, RECEIPTS_TOLD_MAX, Receipt, ReceiptDiff, ReceiptsPage,
};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::marks::{Marks, has_none};
use super::roster_asks::Asker;
use super::{Hub, each_lane};
use crate::messages::{HubEffect, LaneMessage, ReceiptsAsk};
use crate::talks::Heard;

/// How long what rose is gathered until members are told. Units: milliseconds.
pub(super) const TELL_RECEIPTS_MS: u64 = 250;

/// Questions how far users are that are under way to the broker at once.
pub(super) const RECEIPT_ASKS_MAX: usize = 16;

/// Questions that may wait for those; beyond it they are refused.
pub(super) const RECEIPT_ASKS_WAITING_MAX: usize = 256;

/// When to ask again how far users are, where that is not known at the moment. Units: milliseconds.
pub(super) const RECEIPTS_RETRY_MS: u64 = 1_000;

/// What a room's members are to be told.
#[derive(Debug)]
struct Told {
    epoch: Epoch,
    version: u64,
    /// The newest of each user. Bounds: as many users as have receipts in a room.
    receipts: BTreeMap<Box<str>, Receipt>,
}

/// What is to be told, and what is asked.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    pub(super) marks: Marks,
    told: BTreeMap<RoomName, Told>,
    tells: BTreeSet<(u64, RoomName)>,
    requests: u64,
    /// Those of conversations, by the numbers of their questions.
    for_talks: BTreeMap<u64, u64>,
    /// Bounds: [`RECEIPT_ASKS_MAX`].
    under_way: BTreeMap<u64, (Asker, RoomName)>,
    /// Bounds: [`RECEIPT_ASKS_WAITING_MAX`].
    waiting: VecDeque<(Asker, ReceiptsAsk)>,
}

impl Receipts {
    /// A question that a conversation asks by itself.
    pub(super) fn ask_for_talk(&mut self, asked: u64) -> u64 {
        self.requests += 1;
        self.for_talks.insert(self.requests, asked);
        self.requests
    }

    /// Nothing is marked, told or asked.
    #[cfg(test)]
    pub(super) fn are_idle(&self) -> bool {
        let tells = self.told.is_empty() && self.tells.is_empty();
        let asks = self.under_way.is_empty() && self.waiting.is_empty();
        tells && asks && self.marks.are_idle()
    }
}

impl Hub {
    /// The feed says that users are further.
    pub(super) fn hear_receipts(&mut self, now: Now, diff: &Arc<ReceiptDiff>) {
        let ReceiptDiff { room, epoch, version, receipts } = &**diff;
        if self.rooms.get(room).is_none_or(|room| room.lanes == 0) {
            return;
        }
        let at_ms = now.mono_ms.saturating_add(TELL_RECEIPTS_MS);
        let told = self.receipts.told.entry(room.clone()).or_insert_with(|| {
            self.receipts.tells.insert((at_ms, room.clone()));
            Told { epoch: *epoch, version: 0, receipts: BTreeMap::new() }
        });
        (told.epoch, told.version) = (*epoch, *version);
        let newest = receipts.iter().map(|receipt| (receipt.user.clone(), receipt.clone()));
        told.receipts.extend(newest);
    }

    /// Tells members what has been gathered. While orders may be missing nobody is told.
    pub(super) fn tell_receipts(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        while !self.control.is_open()
            && self.receipts.tells.first().is_some_and(|(at, _)| *at <= now.mono_ms)
        {
            let Some((_, room)) = self.receipts.tells.pop_first() else { break };
            let Some(told) = self.receipts.told.remove(&room) else { continue };
            let Told { epoch, version, receipts } = told;
            let receipts: Vec<Receipt> = receipts.into_values().collect();
            let lanes = self.rooms.get(&room).map_or(0, |room| room.lanes);
            for receipts in receipts.chunks(RECEIPTS_TOLD_MAX) {
                let (room, receipts) = (room.clone(), receipts.to_vec());
                let diff = Arc::new(ReceiptDiff { room, epoch, version, receipts });
                for lane in each_lane(lanes) {
                    let diff = Arc::clone(&diff);
                    out.push(HubEffect::Lane(lane, LaneMessage::Receipts(diff)));
                }
            }
        }
    }

    /// Somebody wants to know how far users are.
    pub(super) fn ask_marks(&mut self, asker: Asker, ask: ReceiptsAsk, out: &mut Vec<HubEffect>) {
        let rule = self.guard.rule(&ask.room);
        if !rule.is_some_and(|rule| self.guard.policy(rule).receipts) {
            return answer(asker, ask.room, Err(has_none()), out);
        }
        if !self.may_ask() || self.receipts.waiting.len() >= RECEIPT_ASKS_WAITING_MAX {
            return answer(asker, ask.room, Err(not_now()), out);
        }
        self.receipts.waiting.push_back((asker, ask));
    }

    /// Asks what waits. While the broker is away, it is refused: whoever asked may do so again.
    pub(super) fn ask_waiting_receipts(&mut self, out: &mut Vec<HubEffect>) {
        let may_ask = self.may_ask();
        while (!may_ask || self.receipts.under_way.len() < RECEIPT_ASKS_MAX)
            && let Some((asker, ask)) = self.receipts.waiting.pop_front()
        {
            let ReceiptsAsk { room, of, after, count_max } = ask;
            let Some(keep) = self.keep_of(&room).filter(|_| may_ask) else {
                answer(asker, room, Err(not_now()), out);
                continue;
            };
            self.receipts.requests += 1;
            let request = self.receipts.requests;
            self.receipts.under_way.insert(request, (asker, room.clone()));
            let count_max = count_max.clamp(1, RECEIPTS_PAGE_MAX);
            let command = BrokerCommand::Receipts { request, room, keep, of, after, count_max };
            out.push(HubEffect::Broker(command));
        }
    }

    /// The broker answered, or did not. Somebody may have asked whose session is to end.
    pub(super) fn receipts_asked(
        &mut self,
        now: Now,
        request: u64,
        page: Option<ReceiptsPage>,
        out: &mut Vec<HubEffect>,
    ) {
        if let Some(asked) = self.receipts.for_talks.remove(&request) {
            return self.heard_talk(now, asked, Heard::Receipts(page), out);
        }
        let Some((asker, room)) = self.receipts.under_way.remove(&request) else { return };
        let page = page.filter(|_| !self.control.is_open());
        answer(asker, room, page.ok_or_else(not_now), out);
    }

    /// Does all that is due of receipts.
    pub(super) fn receipts_turn(&mut self, now: Now, out: &mut Vec<HubEffect>) {
        self.mark_steps(now, out);
        self.ask_waiting_receipts(out);
        self.tell_receipts(now, out);
    }

    /// When [`Hub::receipts_turn`] has something to do. Units: monotonic milliseconds.
    pub(super) fn next_receipts_ms(&self) -> Option<u64> {
        let tell = self.receipts.tells.first().filter(|_| !self.control.is_open());
        let tell = tell.map(|(at, _)| *at);
        [tell, self.next_marks_ms()].into_iter().flatten().min()
    }
}

/// Tells whoever asked.
fn answer(
    asker: Asker,
    room: RoomName,
    outcome: Result<ReceiptsPage, Refused>,
    out: &mut Vec<HubEffect>,
) {
    out.push(match asker {
        Asker::Lane(lane, session, reply) => {
            HubEffect::Lane(lane, LaneMessage::ReceiptsPage { session, reply, room, outcome })
        }
        Asker::Query(query) => HubEffect::Receipts(query, outcome),
    });
}

fn not_now() -> Refused {
    let text = "The room's receipts are not known at the moment";
    Refused::unavailable(text.into(), RECEIPTS_RETRY_MS)
}
