//! What runs counted, for the table at the end.

use std::collections::BTreeMap;

/// The counts of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Events that happened.
    pub events: u64,
    /// Publications of clients.
    pub publications: u64,
    /// Publications that a server carried out; repeats included.
    pub executed: u64,
    /// Acks that clients got.
    pub acked: u64,
    /// Of these, isolated ones.
    pub isolated: u64,
    /// Refusals with a known outcome.
    pub refused: u64,
    /// Outcomes that were told as unknown.
    pub unknown: u64,
    /// Publications that clients heard.
    pub deliveries: u64,
    /// Of these, those that a client had heard before.
    pub duplicates: u64,
    /// Gaps that clients were told of.
    pub gaps: u64,
    /// Skips that clients were told of.
    pub skips: u64,
    /// Joins that clients asked for with what they had.
    pub since: u64,
    /// Of these, those that were recovered.
    pub recovered: u64,
    /// History pages that clients got.
    pub pages: u64,
    /// Commands that servers carried out.
    pub commands: u64,
    /// Commands that were not answered in time.
    pub timeouts: u64,
    /// Feeds that were lost.
    pub feed_losses: u64,
    /// Links that hubs asked to connect anew.
    pub reconnects: u64,
    /// Links that servers cut because nobody read them.
    pub output_cuts: u64,
    /// Things that a silent link swallowed.
    pub swallowed: u64,
    /// Publications dropped for a lane whose queue was full.
    pub lane_drops: u64,
    /// Outboxes that ran over.
    pub outboxes_overrun: u64,
    /// Connections that nodes closed.
    pub closes: u64,
    /// Connections that clients made.
    pub connections: u64,
    /// Users that were kicked.
    pub kicks: u64,
    /// Nodes that confirmed a kick.
    pub confirmed: u64,
    /// Nodes that had not when it was answered.
    pub unanswered: u64,
    /// Publications that were handed to a client who had to ack one less than it may.
    pub inflight_full: u64,
    /// Rosters that clients were answered, page by page.
    pub rosters: u64,
    /// What clients were told of who comes and goes.
    pub presence_told: u64,
    /// What servers told of that.
    pub presence_diffs: u64,
    /// Notices of agents who came or went.
    pub agents_told: u64,
    /// Events of occupied and vacated rooms that the application was told.
    pub occupancies_told: u64,
    /// Of these, those that it had been told before.
    pub occupancies_again: u64,
    /// Publications that clients were given again because they did not ack them.
    pub redelivered: u64,
    /// Acks that clients sent.
    pub acks_sent: u64,
    /// Publications that clients were told to have lost in their inboxes.
    pub lost_told: u64,
    /// Publications that went unheard where no server lost anything.
    pub losses_checked: u64,
    /// Marks that clients said.
    pub marks_said: u64,
    /// Receipts that clients were told of others.
    pub receipts_told: u64,
    /// Marks that were looked at in the end.
    pub marks_checked: u64,
    /// Clients that stayed away when their node was killed.
    pub stayed_away: u64,
    /// Sessions that came back.
    pub resumed: u64,
    /// Wishes for a session that began a new one.
    pub unresumed: u64,
    /// Rooms that came back with a session.
    pub restored: u64,
    /// Rooms that a client joined itself because they had not.
    pub unrestored: u64,
    /// Turns that draining nodes gave.
    pub turns: u64,
    /// Connections that ended as moved.
    pub moved: u64,
    /// Connections that ended as replaced.
    pub replaced: u64,
    /// Connections that ended because their node stopped.
    pub drained: u64,
    /// Things that clients of the chat dialect said.
    pub chat_said: u64,
    /// Of these, those that were answered.
    pub chat_answered: u64,
    /// Requests of theirs that were said again.
    pub chat_repeats: u64,
    /// Errors that they were told.
    pub chat_refused: u64,
    /// Events that they were told.
    pub chat_events: u64,
    /// Of these, those that they had seen.
    pub chat_again: u64,
    /// Answers with messages of a dialog.
    pub chat_messages: u64,
    /// Changes of groups' members that all nodes carried out.
    pub chat_members: u64,
    /// Messages that counted as read in the end.
    pub chat_read: u64,
    /// What stood in dialogs in the end, and was looked for everywhere.
    pub chat_checked: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), (_, theirs)) in self.rows_mut().into_iter().zip(other.rows()) {
            *mine += theirs;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }

    /// The counts with their names.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let mut copy = self.clone();
        copy.rows_mut().into_iter().map(|(name, count)| (name, *count)).collect()
    }

    fn rows_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("events", &mut self.events),
            ("publications", &mut self.publications),
            ("executed", &mut self.executed),
            ("acked", &mut self.acked),
            ("acked isolated", &mut self.isolated),
            ("refused", &mut self.refused),
            ("outcome unknown", &mut self.unknown),
            ("deliveries", &mut self.deliveries),
            ("raw duplicates", &mut self.duplicates),
            ("gaps told", &mut self.gaps),
            ("skips told", &mut self.skips),
            ("joins with since", &mut self.since),
            ("recovered", &mut self.recovered),
            ("history pages", &mut self.pages),
            ("commands", &mut self.commands),
            ("timeouts", &mut self.timeouts),
            ("feeds lost", &mut self.feed_losses),
            ("links connected anew", &mut self.reconnects),
            ("links cut unread", &mut self.output_cuts),
            ("swallowed", &mut self.swallowed),
            ("dropped for a lane", &mut self.lane_drops),
            ("outboxes overrun", &mut self.outboxes_overrun),
            ("connections", &mut self.connections),
            ("closed by nodes", &mut self.closes),
            ("kicks", &mut self.kicks),
            ("kicks confirmed", &mut self.confirmed),
            ("nodes unanswered", &mut self.unanswered),
            ("acks due, and no more", &mut self.inflight_full),
            ("rosters", &mut self.rosters),
            ("presence told", &mut self.presence_told),
            ("presence diffs", &mut self.presence_diffs),
            ("agents told", &mut self.agents_told),
            ("occupancies told", &mut self.occupancies_told),
            ("occupancies told again", &mut self.occupancies_again),
            ("given again", &mut self.redelivered),
            ("acks sent", &mut self.acks_sent),
            ("lost told", &mut self.lost_told),
            ("lost, and counted", &mut self.losses_checked),
            ("marks said", &mut self.marks_said),
            ("receipts told", &mut self.receipts_told),
            ("marks checked", &mut self.marks_checked),
            ("stayed away", &mut self.stayed_away),
            ("sessions resumed", &mut self.resumed),
            ("sessions not resumed", &mut self.unresumed),
            ("rooms restored", &mut self.restored),
            ("rooms joined anew", &mut self.unrestored),
            ("turns to go", &mut self.turns),
            ("closed as moved", &mut self.moved),
            ("closed as replaced", &mut self.replaced),
            ("closed by drains", &mut self.drained),
            ("things said in chats", &mut self.chat_said),
            ("of these answered", &mut self.chat_answered),
            ("chat requests repeated", &mut self.chat_repeats),
            ("chat requests refused", &mut self.chat_refused),
            ("chat events", &mut self.chat_events),
            ("chat events again", &mut self.chat_again),
            ("chats shown", &mut self.chat_messages),
            ("members changed", &mut self.chat_members),
            ("chat messages read", &mut self.chat_read),
            ("chat messages checked", &mut self.chat_checked),
        ]
    }
}
