//! The watch over a node's feed and commands (G9): sends beats, finds silence, lag and other masters, and says in which
//! state the relay is. Never touches a publication; what the state means for them is the hub's business.
//!
//! The watch has a clock of its own, which stands still while the node itself was stopped: what a node slept through is
//! no fault of the broker's.

use std::collections::{BTreeMap, VecDeque};

use roomcast_protocol::envelope::{BeatReport, BrokerCommand, Count, LinkId, MasterId, Moved};
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::position::Position;

use super::links::{Cause, Links};
use super::peers::Peers;
use crate::messages::HubEffect;

/// How often a beat is sent while the relay is whole. Units: milliseconds.
pub const BEAT_MS: u64 = 1_000;

/// How often a beat is sent while it is not. Units: milliseconds.
pub const BEAT_AWAY_MS: u64 = 250;

/// How often a beat is sent while others are waited for. Units: milliseconds.
pub const BEAT_RETURNING_MS: u64 = 100;

/// How long a beat may be under way while no other is answered, until commands count as unanswered. Units:
/// milliseconds.
pub const UNANSWERED_MS: u64 = 1_000;

/// How long there may be no answer, or no feed, until the node is on its own. Units: milliseconds.
pub const ISOLATED_MS: u64 = 2_000;

/// How long a feed that came up has to prove that it hears, where the node would be on its own by then. Units:
/// milliseconds.
const PROOF_MS: u64 = 500;

/// How long publications wait for other nodes on return. Units: milliseconds.
pub const RETURN_MS: u64 = 2_000;

/// How late a turn may come until the node counts as stopped meanwhile. Units: milliseconds.
const ASLEEP_MS: u64 = 500;

/// Beats remembered that were not answered yet.
const SENT_MAX: usize = 64;

/// How the relay between nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayState {
    /// Publications reach every node.
    Whole,
    /// The feed is down, or commands are unanswered; for a moment.
    Cut,
    /// The same for longer: this node's own members get what is published here, marked as isolated.
    Isolated,
    /// Feed and commands are back; the other nodes are waited for.
    Returning,
}

impl RelayState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Cut, Self::Isolated, Self::Returning];

    /// Its name, for metrics and people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cut => "cut",
            Self::Isolated => "isolated",
            Self::Returning => "returning",
        }
    }
}

/// What the watch counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WatchCounters {
    /// Times that the feed went down.
    pub(super) losses: u64,
    /// Links that were connected anew, by cause.
    pub(super) silent: u64,
    pub(super) lagging: u64,
    pub(super) master: u64,
    /// Time spent isolated. Units: milliseconds.
    pub(super) isolated_ms: u64,
}

/// The watch. All its times but `since_ms` and `seen_ms` are those of its own clock.
#[derive(Debug)]
pub(super) struct Watch {
    state: RelayState,
    /// Since when it is in that state. Units: monotonic milliseconds.
    since_ms: u64,
    reached: bool,
    begun: bool,
    /// How much its clock is behind.
    slept_ms: u64,
    /// When it was called last. Units: monotonic milliseconds.
    seen_ms: u64,
    /// Since when the feed is up.
    up_ms: Option<u64>,
    was_up: bool,
    /// When the feed went down first since the relay was whole.
    lost_ms: Option<u64>,
    /// When a command was answered last.
    answered_ms: u64,
    /// Commands count as unanswered.
    unanswered: bool,
    /// Beats under way: number and when they were sent.
    sent: VecDeque<(u64, u64)>,
    seq: u64,
    /// When the next beat is due at the latest, as if sent an interval before; `None`: now.
    beat_ms: Option<u64>,
    /// It was isolated since it was whole.
    isolated: bool,
    /// Until when other nodes are waited for.
    return_by_ms: Option<u64>,
    links: Links,
    /// How far each partition was followed by beats of this feed.
    taken: BTreeMap<u16, u64>,
    pub(super) peers: Peers,
    pub(super) counters: WatchCounters,
    /// Which life of the node's lease beats renew, and which one they end.
    life: u32,
    retired: Option<u32>,
    /// How far agents were told of, for the next beat to say.
    told: Option<Position>,
    reads: bool,
}

impl Watch {
    /// `reads`: beats ask where events of occupied rooms wait.
    pub(super) fn new(reads: bool) -> Self {
        Self {
            state: RelayState::Cut,
            since_ms: 0,
            reached: false,
            begun: false,
            slept_ms: 0,
            seen_ms: 0,
            up_ms: None,
            was_up: false,
            lost_ms: Some(0),
            answered_ms: 0,
            unanswered: false,
            sent: VecDeque::new(),
            seq: 0,
            beat_ms: None,
            isolated: false,
            return_by_ms: None,
            links: Links::default(),
            taken: BTreeMap::new(),
            peers: Peers::default(),
            counters: WatchCounters::default(),
            life: 1,
            retired: None,
            told: None,
            reads,
        }
    }

    pub(super) const fn state(&self) -> RelayState {
        self.state
    }

    /// Since when it is in its state. Units: monotonic milliseconds.
    pub(super) const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The number of the next beat.
    pub(super) const fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    /// The next beat goes out at once.
    pub(super) const fn hurry(&mut self) {
        self.beat_ms = None;
    }

    /// Beats are for this life of the lease from now on.
    pub(super) const fn live(&mut self, life: u32, retired: Option<u32>) {
        self.life = life;
        self.retired = retired;
    }

    /// Agents were told of up to this version: the next beat says so.
    pub(super) const fn told(&mut self, version: Position) {
        self.told = Some(version);
    }

    /// Whether the relay was whole once.
    pub(super) const fn was_whole(&self) -> bool {
        self.reached
    }

    /// Whether only commands are unanswered, for a moment: the feed was up ever since the relay was whole.
    pub(super) fn feed_is_whole(&self) -> bool {
        self.state == RelayState::Cut && self.lost_ms.is_none()
    }

    /// Whether the feed is up and commands are answered, as far as is known.
    pub(super) fn answers(&self) -> bool {
        self.up_ms.is_some() && !self.unanswered && self.state != RelayState::Isolated
    }

    /// Whether commands are answered, as far as is known, whatever the feed does.
    pub(super) const fn commands_are_answered(&self) -> bool {
        !self.unanswered
    }

    /// Whether the feed brings things, but too late.
    pub(super) fn is_lagging(&self, mono_ms: u64) -> bool {
        self.links.is_lagging(self.at(mono_ms))
    }

    /// How long ago the quietest link brought something, and the most tardy one a beat; without a feed, since it was
    /// lost. Units: milliseconds.
    pub(super) fn ages_ms(&self, mono_ms: u64) -> (u64, u64) {
        let now_ms = self.at(mono_ms);
        let lost_ms = self.lost_ms.unwrap_or(now_ms);
        let (heard, beat) = self.links.heard_ms().unwrap_or((lost_ms, lost_ms));
        (now_ms.saturating_sub(heard), now_ms.saturating_sub(beat))
    }

    /// The feed is up; says whether it had been lost.
    pub(super) fn feed_up(
        &mut self,
        mono_ms: u64,
        links: &[LinkId],
        out: &mut Vec<HubEffect>,
    ) -> bool {
        let now_ms = self.turn(mono_ms);
        let lost = self.was_up && self.up_ms.is_none();
        self.was_up = true;
        self.up_ms = Some(now_ms);
        self.links.up(now_ms, links, self.seq + 1);
        self.taken.clear();
        self.beat_ms = None;
        self.judge(now_ms, out);
        lost
    }

    /// A link was lost.
    pub(super) fn feed_down(&mut self, mono_ms: u64, out: &mut Vec<HubEffect>) {
        let now_ms = self.turn(mono_ms);
        self.links.down();
        self.lose_feed(now_ms);
        self.judge(now_ms, out);
    }

    /// A link brought something.
    pub(super) fn alive(&mut self, mono_ms: u64, link: LinkId) {
        let now_ms = self.turn(mono_ms);
        self.links.bytes(now_ms, link);
    }

    /// A link brought a beat; says whether the one before came from another master.
    pub(super) fn beat(
        &mut self,
        mono_ms: u64,
        (link, seq, master): (LinkId, u64, MasterId),
        moved: &[Moved],
        out: &mut Vec<HubEffect>,
    ) -> bool {
        let now_ms = self.turn(mono_ms);
        let counts = moved.iter().map(|moved| (moved.count.partition, moved.count.count));
        self.taken.extend(counts);
        let renamed = self.links.beat(now_ms, link, seq, master);
        self.judge(now_ms, out);
        renamed
    }

    /// Another node has ended as it should.
    pub(super) fn farewell(&mut self, mono_ms: u64, node: NodeId) {
        let now_ms = self.at(mono_ms);
        self.peers.farewell(now_ms, node);
    }

    /// A beat was answered, or was not in time.
    pub(super) fn beat_answered(
        &mut self,
        mono_ms: u64,
        seq: u64,
        report: Option<BeatReport>,
        out: &mut Vec<HubEffect>,
    ) {
        let now_ms = self.turn(mono_ms);
        let sent = self.sent.iter().find(|(sent, _)| *sent == seq).copied();
        match (report, sent) {
            (
                Some(BeatReport {
                    master,
                    masters: _,
                    links,
                    peers,
                    lease: _,
                    agents: _,
                    unread: _,
                }),
                Some(sent),
            ) => {
                // Answers to older ones that come later tell nothing more.
                self.sent.retain(|(sent, _)| *sent > seq);
                self.answered_ms = now_ms;
                self.unanswered = false;
                self.peers.report(now_ms, peers);
                self.links.answered(now_ms, sent, master, links);
            }
            (None, Some(_)) => {
                self.sent.retain(|(sent, _)| *sent != seq);
                self.miss_answers();
            }
            (None | Some(_), None) => {}
        }
        self.judge(now_ms, out);
    }

    /// Another command was answered.
    pub(super) fn answered(&mut self, mono_ms: u64) {
        self.answered_ms = self.turn(mono_ms);
    }

    /// Acts on deadlines that have come.
    pub(super) fn tick(&mut self, mono_ms: u64, out: &mut Vec<HubEffect>) {
        let now_ms = self.turn(mono_ms);
        self.judge(now_ms, out);
    }

    /// When [`Watch::tick`] wants to be called next. Units: monotonic milliseconds.
    pub(super) fn next_wake(&self) -> u64 {
        if !self.begun {
            return 0;
        }
        let on_its_own = (self.state == RelayState::Cut).then(|| self.isolate_at_ms());
        let back = self.return_by_ms.filter(|_| self.state == RelayState::Returning);
        let links = self.links.next_ms().filter(|_| !self.unanswered);
        let others = [self.unanswered_at_ms(), links, on_its_own, back, self.peers.next_ms()];
        let next_ms = others.into_iter().flatten().fold(self.beat_at_ms(), u64::min);
        next_ms.saturating_add(self.slept_ms)
    }

    const fn at(&self, mono_ms: u64) -> u64 {
        mono_ms.saturating_sub(self.slept_ms)
    }

    /// A turn begins: what time it is on the watch's own clock.
    fn turn(&mut self, mono_ms: u64) -> u64 {
        if !self.begun {
            self.begun = true;
            self.since_ms = mono_ms;
            self.seen_ms = mono_ms;
            self.answered_ms = mono_ms;
            self.lost_ms = Some(mono_ms);
        }
        let late_ms = mono_ms.saturating_sub(self.next_wake());
        if self.beat_ms.is_some() && late_ms > ASLEEP_MS {
            // Not only the time since: what came meanwhile has yet to be taken in.
            self.slept_ms += mono_ms.saturating_sub(self.seen_ms);
        }
        if self.state == RelayState::Isolated {
            self.counters.isolated_ms += mono_ms.saturating_sub(self.seen_ms);
        }
        self.seen_ms = mono_ms;
        self.at(mono_ms)
    }

    /// Does all that is due.
    fn judge(&mut self, now_ms: u64, out: &mut Vec<HubEffect>) {
        if self.unanswered_at_ms().is_some_and(|at| at <= now_ms) {
            self.miss_answers();
        }
        if !self.unanswered {
            self.reconnect_due(now_ms, out);
        }
        self.peers.tick(now_ms);
        while let Some(next) = self.next_state(now_ms) {
            self.enter(now_ms, next);
        }
        if self.beat_at_ms() <= now_ms {
            self.beat_ms = Some(now_ms);
            self.seq += 1;
            if self.sent.len() == SENT_MAX {
                self.sent.pop_front();
            }
            self.sent.push_back((self.seq, now_ms));
            let beat = BrokerCommand::Beat {
                seq: self.seq,
                hears: self.up_ms.is_some(),
                life: self.life,
                retired: self.retired,
                taken: self.taken(),
                told: self.told.take(),
                reads: self.reads,
            };
            out.push(HubEffect::Broker(beat));
        }
    }

    fn taken(&self) -> Vec<Count> {
        let count =
            |(partition, count): (&u16, &u64)| Count { partition: *partition, count: *count };
        self.taken.iter().map(count).collect()
    }

    fn reconnect_due(&mut self, now_ms: u64, out: &mut Vec<HubEffect>) {
        let mut commands = true;
        for (link, cause) in self.links.take_due(now_ms) {
            let count = match cause {
                Cause::Silent => &mut self.counters.silent,
                Cause::Lagging => &mut self.counters.lagging,
                Cause::Master => &mut self.counters.master,
            };
            *count += 1;
            // One connection serves all commands: it is connected anew once for all links.
            let commands = cause == Cause::Master && std::mem::take(&mut commands);
            out.push(HubEffect::Broker(BrokerCommand::Reconnect { link, commands }));
            self.lose_feed(now_ms);
        }
    }

    fn lose_feed(&mut self, now_ms: u64) {
        if self.up_ms.take().is_some() {
            self.counters.losses += 1;
        }
        self.lost_ms.get_or_insert(now_ms);
    }

    fn miss_answers(&mut self) {
        self.unanswered = true;
        self.links.stand_down();
    }

    fn next_state(&self, now_ms: u64) -> Option<RelayState> {
        let trouble = self.up_ms.is_none() || self.unanswered;
        let waited = || self.return_by_ms.is_none_or(|at| at <= now_ms);
        match self.state {
            RelayState::Whole => trouble.then_some(RelayState::Cut),
            RelayState::Cut | RelayState::Isolated if !trouble && self.links.are_proven() => {
                Some(RelayState::Returning)
            }
            RelayState::Cut => (self.isolate_at_ms() <= now_ms).then_some(RelayState::Isolated),
            RelayState::Isolated => None,
            RelayState::Returning if trouble && self.isolated => Some(RelayState::Isolated),
            RelayState::Returning if trouble => Some(RelayState::Cut),
            RelayState::Returning => {
                (self.peers.all_hear() || waited()).then_some(RelayState::Whole)
            }
        }
    }

    fn enter(&mut self, now_ms: u64, next: RelayState) {
        match next {
            RelayState::Whole => {
                self.reached = true;
                self.isolated = false;
                self.lost_ms = None;
                self.return_by_ms = None;
                self.peers.settle(now_ms);
            }
            RelayState::Returning => {
                self.return_by_ms.get_or_insert(now_ms.saturating_add(RETURN_MS));
            }
            RelayState::Cut | RelayState::Isolated => {
                if self.state == RelayState::Whole {
                    self.peers.remember();
                }
                if self.state != RelayState::Cut {
                    self.links.prove_anew(self.seq + 1);
                }
                if next == RelayState::Isolated {
                    self.isolated = true;
                    self.return_by_ms = None;
                }
            }
        }
        self.state = next;
        self.since_ms = self.seen_ms;
    }

    /// When the node is on its own, if it is cut off until then.
    fn isolate_at_ms(&self) -> u64 {
        let unanswered = self.answered_ms.saturating_add(ISOLATED_MS);
        let Some(lost) = self.lost_ms else { return unanswered };
        let deaf = lost.saturating_add(ISOLATED_MS);
        deaf.max(self.up_ms.map_or(0, |up| up.saturating_add(PROOF_MS))).min(unanswered)
    }

    /// When commands count as unanswered, unless one is answered.
    fn unanswered_at_ms(&self) -> Option<u64> {
        let (_, sent) = self.sent.front().filter(|_| !self.unanswered)?;
        Some((*sent).max(self.answered_ms).saturating_add(UNANSWERED_MS))
    }

    fn beat_at_ms(&self) -> u64 {
        let interval = match self.state {
            RelayState::Whole => BEAT_MS,
            RelayState::Cut | RelayState::Isolated => BEAT_AWAY_MS,
            RelayState::Returning => BEAT_RETURNING_MS,
        };
        self.beat_ms.map_or(0, |sent| sent.saturating_add(interval))
    }
}
