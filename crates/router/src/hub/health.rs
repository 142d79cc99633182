//! What the hub shows of itself.

use roomcast_protocol::time::Now;

use super::Hub;
use super::watch::{RelayState, WatchCounters};

/// What happened since the hub began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Publications handed to the broker.
    pub published: u64,
    /// Envelopes the feed brought.
    pub received: u64,
    /// Envelopes that no lane hears.
    pub unwanted: u64,
    /// Publications that only this node's own members got.
    pub isolated: u64,
    /// Time spent isolated. Units: milliseconds.
    pub isolated_ms: u64,
    /// Publications refused because enough waited for the broker.
    pub refused_waiting: u64,
    /// Links connected anew because they brought nothing.
    pub reconnects_silent: u64,
    /// Links connected anew because beats came too late.
    pub reconnects_lagging: u64,
    /// Links connected anew because another master sent than answered.
    pub reconnects_master: u64,
    /// Times that the feed went down.
    pub losses: u64,
    /// Publications accepted while a node of the cluster was missing.
    pub partial: u64,
    /// Publications that a room's lanes had been given before.
    pub repeated: u64,
    /// Times that something was missing in a room that keeps it.
    pub gaps_found: u64,
    /// Of these, those that were made up for, in whole or in part.
    pub repaired: u64,
    /// Pages read from history for rooms and for lanes that were behind.
    pub repair_reads: u64,
    /// Questions for newest positions.
    pub heads_reads: u64,
    /// Losses told to the members of one room.
    pub gaps_told: u64,
    /// Publications that a lane's queue had no place for.
    pub lane_drops: u64,
    /// Cursors of inboxes that moved while the broker was away, and found no place to wait.
    pub cursors_dropped: u64,
    /// Things asked of conversations.
    pub talks: u64,
    /// Of these, refused because the broker was away or too many were under way.
    pub talks_refused: u64,
    /// Of these, not completed in their time.
    pub talks_given_up: u64,
    /// Messages that reached users, and were not marked because too many waited.
    pub reached_dropped: u64,
    /// Lists of their conversations that users were told because their groups had changed.
    pub lists_told: u64,
    /// The same that were not told, because too many waited or the broker did not answer.
    pub lists_lost: u64,
    /// Times that orders to end sessions may have been missed.
    pub control_gaps: u64,
    /// Times that orders were lost, so that every session had to prove itself anew.
    pub revalidations: u64,
    /// Nodes that had not confirmed an order of this one when it was answered.
    pub orders_unanswered: u64,
    /// Orders that were obeyed and not confirmed, because too many were under way.
    pub orders_unconfirmed: u64,
    /// Questions of back-ends to all nodes that were not asked, or not answered, because too many were under way.
    pub surveys_refused: u64,
    /// Wishes of sessions to get an older one back that went to the broker.
    pub attaches: u64,
    /// Orders to other nodes to end connections whose session was taken over.
    pub fences: u64,
    /// Steps in which the broker was told who is present, without their repetitions.
    pub presence_steps: u64,
    /// Changes of who is in a room that the feed brought.
    pub presence_diffs: u64,
    /// Times that such changes did not follow each other, so that the roster was read anew.
    pub presence_gaps: u64,
    /// Rosters read from the broker.
    pub rosters_read: u64,
    /// Times that the node's lease began another life.
    pub lives: u64,
    /// Notices of agents that were given up.
    pub notices_lost: u64,
    /// Comings and goings of users that their contacts were not told, because too many waited or the broker did not answer.
    pub people_lost: u64,
    /// What had told of users whether they are online, and was not given again because it is not true any more.
    pub statuses_dropped: u64,
    /// Rooms that became occupied or vacated of which no node could tell, because too many waited.
    pub occupancies_lost: u64,
    /// Marks of what users got and read that the broker took, repeated ones included.
    pub marks_set: u64,
    /// Marks refused because too many users of the room have receipts.
    pub marks_refused_full: u64,
    /// Marks of what arrived that found no place to wait.
    pub marks_dropped: u64,
}

/// How the relay is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubHealth {
    /// Its state.
    pub relay: RelayState,
    /// Since when. Units: monotonic milliseconds.
    pub since_ms: u64,
    /// It was whole once.
    pub reached: bool,
    /// Lanes know which tokens are revoked, and take others.
    pub takes_tokens: bool,
    /// The feed brings things, but its beats come too late.
    pub lagging: bool,
    /// How long ago the quietest link of the feed brought something. Units: milliseconds.
    pub feed_age_ms: u64,
    /// How long ago the most tardy link of the feed brought a beat. Units: milliseconds.
    pub beat_age_ms: u64,
    /// Publications that wait for the broker or for other nodes.
    pub waiting: usize,
    /// What they weigh. Units: bytes.
    pub waiting_bytes: usize,
    /// What came early and is held until what is missing has been read. Units: bytes.
    pub held_bytes: usize,
    /// What waits until no order can be missing. Units: bytes.
    pub paused_bytes: usize,
    /// Pairs of lane and room in which the lane has yet to be given what its queue had no place for.
    pub behind: usize,
    /// Other nodes that hold a lease.
    pub peers: usize,
    /// Of these, those whose feed does not hear.
    pub peers_deaf: usize,
    /// Of these, those that relay rooms in other modes.
    pub peers_disagreeing: usize,
}

/// How much of presence the hub keeps now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceSizes {
    /// Sessions of this node that are present, counted in each of their rooms.
    pub present: usize,
    /// Rooms whose roster is kept.
    pub rosters: usize,
    /// What their users weigh. Bounds: [`super::ROSTERS_BYTES_MAX`]. Units: bytes.
    pub rosters_bytes: usize,
    /// Events of occupied and vacated rooms that this node has yet to tell. Bounds: [`super::UNTOLD_MAX`].
    pub untold: usize,
    /// Things asked of conversations that are under way. Bounds: [`super::TALKS_MAX`].
    pub talks: usize,
    /// What they hold. Bounds: [`super::TALKS_BYTES_MAX`]. Units: bytes.
    pub talks_bytes: usize,
    /// Comings and goings of users that this node has yet to tell their contacts. Bounds: [`super::PEOPLE_MAX`].
    pub people: usize,
    /// Users whom this node has yet to tell that their groups have changed. Bounds: [`super::LISTS_MAX`].
    pub lists: usize,
}

impl Hub {
    /// How much of presence it keeps now.
    #[must_use]
    pub fn presence_sizes(&self) -> PresenceSizes {
        PresenceSizes {
            present: self.presence.present(),
            rosters: self.rosters.len(),
            rosters_bytes: self.rosters.bytes(),
            untold: self.occupancies.untold(),
            talks: self.talks.len(),
            talks_bytes: self.talks.bytes(),
            people: self.people.len(),
            lists: self.lists.len(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> HubCounters {
        let Some(watch) = &self.watch else { return self.counters };
        let WatchCounters { losses, silent, lagging, master, isolated_ms } = watch.counters;
        HubCounters {
            isolated_ms,
            reconnects_silent: silent,
            reconnects_lagging: lagging,
            reconnects_master: master,
            losses,
            ..self.counters
        }
    }

    /// How the relay is now.
    #[must_use]
    pub fn health(&self, now: Now) -> HubHealth {
        let watch = self.watch.as_ref();
        let (feed_age_ms, beat_age_ms) = watch.map_or((0, 0), |it| it.ages_ms(now.mono_ms));
        let [peers, peers_deaf, peers_disagreeing] =
            watch.map_or([0; 3], |watch| watch.peers.count());
        HubHealth {
            relay: self.state(),
            since_ms: watch.map_or(0, |watch| watch.since_ms()),
            reached: watch.is_none_or(|watch| watch.was_whole()),
            takes_tokens: self.knows_revoked(),
            lagging: watch.is_some_and(|watch| watch.is_lagging(now.mono_ms)),
            feed_age_ms,
            beat_age_ms,
            waiting: self.waiting.len(),
            waiting_bytes: self.waiting.bytes(),
            held_bytes: self.asks.held_bytes(),
            paused_bytes: self.control.paused_bytes(),
            behind: self.behind.len(),
            peers,
            peers_deaf,
            peers_disagreeing,
        }
    }
}
