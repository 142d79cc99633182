//! The rows about what outlives a connection and a node, about members that are slow, and about the node itself: a
//! continuation of the table.

use roomcast_protocol::session::Unattached;
use roomcast_router::lane::Drained;

use super::table::{Each, Read, Row, at_index, counter, gauge, sum};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    // Sessions that outlive their connection.
    counter(
        "roomcast_sessions_resumed_total",
        "Sessions that were taken over from a former connection, hand-overs included",
        Read::Lane(|lane| lane.counters.resumed),
    ),
    counter(
        "roomcast_sessions_handed_over_total",
        "Of these, those whose former node drains",
        Read::Lane(|lane| lane.counters.hand_overs),
    ),
    counter(
        "roomcast_sessions_unresumed_total",
        "Wishes to resume that began a new session, by the reason that the client was told",
        Read::Each(Each {
            label: &["reason"],
            names: || Unattached::ALL.map(Unattached::name).to_vec(),
            read: |seen, at| sum(seen, |lane| at_index(&lane.counters.unresumed, at)),
        }),
    ),
    counter(
        "roomcast_sessions_records_total",
        "Records of sessions that were written, by which any node can resume them",
        Read::Lane(|lane| lane.counters.records),
    ),
    counter(
        "roomcast_sessions_records_failed_total",
        "Records that the broker did not answer for",
        Read::Lane(|lane| lane.counters.records_failed),
    ),
    counter(
        "roomcast_sessions_attaches_total",
        "Wishes to resume that went to the broker",
        Read::Node(|seen| seen.hub.counters.attaches),
    ),
    counter(
        "roomcast_sessions_fences_total",
        "Orders to other nodes to end a connection whose session was taken over",
        Read::Node(|seen| seen.hub.counters.fences),
    ),
    counter(
        "roomcast_sessions_fenced_total",
        "Connections that ended because another one took their session over",
        Read::Lane(|lane| lane.counters.fenced),
    ),
    // Presence: who is in a room, across the cluster.
    gauge(
        "roomcast_presence_present",
        "Sessions of this node that count as present, once for each of their rooms",
        Read::Node(|seen| seen.hub.presence.present as u64),
    ),
    gauge(
        "roomcast_presence_rosters",
        "Rooms whose roster the node keeps",
        Read::Node(|seen| seen.hub.presence.rosters as u64),
    ),
    gauge(
        "roomcast_presence_rosters_bytes",
        "Bytes of these rosters",
        Read::Node(|seen| seen.hub.presence.rosters_bytes as u64),
    ),
    gauge(
        "roomcast_presence_untold",
        "Rooms that became occupied or vacated of which the node has yet to tell the application",
        Read::Node(|seen| seen.hub.presence.untold as u64),
    ),
    counter(
        "roomcast_presence_steps_total",
        "Steps in which the broker was told who came and who left, repeats left out",
        Read::Node(|seen| seen.hub.counters.presence_steps),
    ),
    counter(
        "roomcast_presence_diffs_total",
        "Changes of who is in a room that the feed brought",
        Read::Node(|seen| seen.hub.counters.presence_diffs),
    ),
    counter(
        "roomcast_presence_gaps_total",
        "Times that such changes did not follow each other, so that a roster was read anew",
        Read::Node(|seen| seen.hub.counters.presence_gaps),
    ),
    counter(
        "roomcast_presence_rosters_read_total",
        "Rosters read from the broker",
        Read::Node(|seen| seen.hub.counters.rosters_read),
    ),
    counter(
        "roomcast_presence_lives_total",
        "Times that the node's lease had ended, so that it entered its sessions anew",
        Read::Node(|seen| seen.hub.counters.lives),
    ),
    counter(
        "roomcast_presence_notices_lost_total",
        "Notices of agents that came or went which could not be published",
        Read::Node(|seen| seen.hub.counters.notices_lost),
    ),
    counter(
        "roomcast_presence_occupancies_lost_total",
        "Rooms that became occupied or vacated of which the application was not told, because too many waited",
        Read::Node(|seen| seen.hub.counters.occupancies_lost),
    ),
    gauge(
        "roomcast_presence_people_waiting",
        "Users who came or went, of which this node has yet to tell their contacts",
        Read::Node(|seen| seen.hub.presence.people as u64),
    ),
    counter(
        "roomcast_presence_people_lost_total",
        "Users who came or went, of which their contacts were not told: too many waited, or the broker did not answer",
        Read::Node(|seen| seen.hub.counters.people_lost),
    ),
    counter(
        "roomcast_presence_statuses_dropped_total",
        "Events about who is online that were not given again, because they are not true any more",
        Read::Node(|seen| seen.hub.counters.statuses_dropped),
    ),
    // Conversations.
    gauge(
        "roomcast_conversations_open",
        "Things asked of conversations that are under way",
        Read::Node(|seen| seen.hub.presence.talks as u64),
    ),
    gauge(
        "roomcast_conversations_held_bytes",
        "Bytes that these hold: what they were asked with, and what they have read",
        Read::Node(|seen| seen.hub.presence.talks_bytes as u64),
    ),
    counter(
        "roomcast_conversations_asked_total",
        "Things asked of conversations",
        Read::Node(|seen| seen.hub.counters.talks),
    ),
    counter(
        "roomcast_conversations_refused_total",
        "Of these, refused because the broker was away, or too many were under way or held too much",
        Read::Node(|seen| seen.hub.counters.talks_refused),
    ),
    counter(
        "roomcast_conversations_given_up_total",
        "Of these, not completed in their time",
        Read::Node(|seen| seen.hub.counters.talks_given_up),
    ),
    counter(
        "roomcast_conversations_unmarked_total",
        "Messages that reached users and were not marked, because too many waited; later ones mark them as well",
        Read::Node(|seen| seen.hub.counters.reached_dropped),
    ),
    gauge(
        "roomcast_conversations_lists_waiting",
        "Users whose groups have changed, whom this node has yet to tell their chats",
        Read::Node(|seen| seen.hub.presence.lists as u64),
    ),
    counter(
        "roomcast_conversations_lists_told_total",
        "Lists of their chats that users were told because their groups had changed",
        Read::Node(|seen| seen.hub.counters.lists_told),
    ),
    counter(
        "roomcast_conversations_lists_lost_total",
        "Lists of their chats that users were not told: too many waited, or the broker did not answer",
        Read::Node(|seen| seen.hub.counters.lists_lost),
    ),
    // Receipts: how far users have got, and read, rooms.
    counter(
        "roomcast_receipts_marks_set_total",
        "Marks of what users got and read that the broker took, those that changed nothing included",
        Read::Node(|seen| seen.hub.counters.marks_set),
    ),
    counter(
        "roomcast_receipts_marks_refused_full_total",
        "Marks refused because as many users of the room have receipts as may",
        Read::Node(|seen| seen.hub.counters.marks_refused_full),
    ),
    counter(
        "roomcast_receipts_marks_dropped_total",
        "Marks of what users got that found no place to wait; what they get later marks it as well",
        Read::Node(|seen| seen.hub.counters.marks_dropped),
    ),
    counter(
        "roomcast_receipts_told_total",
        "Times that members of a room were told who has got and read more",
        Read::Lane(|lane| lane.counters.receipts_told),
    ),
    // Slow members: what full outboxes let go, and members that are given the rest from history.
    counter(
        "roomcast_slow_shed_total",
        "Frames that full outboxes let go, by step of the ladder",
        Read::Each(Each {
            label: &["step"],
            names: || vec!["expired", "conflated", "low"],
            read: |seen, at| {
                sum(seen, |lane| {
                    let counters = &lane.counters;
                    let shed = [counters.shed_expired, counters.shed_conflated, counters.shed_low];
                    at_index(&shed, at)
                })
            },
        }),
    ),
    counter(
        "roomcast_slow_parked_total",
        "Times that a room was parked for a member: it is given the rest from history once it reads again",
        Read::Lane(|lane| lane.counters.parked),
    ),
    counter(
        "roomcast_slow_unparked_total",
        "Times that a parked member met its room again, with all of it or told what was lost",
        Read::Lane(|lane| lane.counters.unparked),
    ),
    gauge(
        "roomcast_slow_parked",
        "Members that are parked now, once for each of their rooms",
        Read::Lane(|lane| lane.sizes.parked as u64),
    ),
    // Acks of members, and inboxes.
    counter(
        "roomcast_acks_received_total",
        "Publications that members acked",
        Read::Lane(|lane| lane.counters.acked),
    ),
    counter(
        "roomcast_acks_unknown_total",
        "Acks of what nobody waited for: given up, acked before, or never sent",
        Read::Lane(|lane| lane.counters.acks_unknown),
    ),
    counter(
        "roomcast_acks_ignored_total",
        "Publications that ask for acks in rooms with too many members for that",
        Read::Lane(|lane| lane.counters.acks_ignored),
    ),
    counter(
        "roomcast_acks_redelivered_total",
        "Publications given to a member again because it had not acked them",
        Read::Lane(|lane| lane.counters.redelivered),
    ),
    counter(
        "roomcast_acks_failed_total",
        "Publications given to a member as often as its dialect says, and not acked",
        Read::Lane(|lane| lane.counters.delivery_failed),
    ),
    counter(
        "roomcast_acks_parked_total",
        "Times that a room was parked for a member because too much waited for its acks",
        Read::Lane(|lane| lane.counters.parked_unacked),
    ),
    counter(
        "roomcast_inboxes_unknown_total",
        "Inboxes entered without knowing what had been acked, because the broker did not answer",
        Read::Lane(|lane| lane.counters.inboxes_unknown),
    ),
    counter(
        "roomcast_groups_unknown_total",
        "Sessions closed at connect because the broker did not say in which groups their user is",
        Read::Lane(|lane| lane.counters.groups_unknown),
    ),
    counter(
        "roomcast_inboxes_lost_total",
        "Publications that the quota of an inbox removed and of which a client was told",
        Read::Lane(|lane| lane.counters.inbox_lost),
    ),
    counter(
        "roomcast_inboxes_moves_dropped_total",
        "Moves of cursors that found no place to wait while the broker was away: what they covered comes again",
        Read::Node(|seen| seen.hub.counters.cursors_dropped),
    ),
    // The drain: how a node lets its clients go before it ends.
    gauge(
        "roomcast_node_draining",
        "1 while the node lets its clients go, else 0",
        Read::Node(|seen| u64::from(seen.draining.is_on())),
    ),
    gauge(
        "roomcast_node_drain_clients",
        "Clients when it began; of these `roomcast_sessions_open` are left",
        Read::Node(|seen| seen.draining.clients()),
    ),
    counter(
        "roomcast_node_drained_total",
        "Clients that have gone while the node drains, by how",
        Read::Each(Each {
            label: &["how"],
            names: || Drained::ALL.map(Drained::name).to_vec(),
            read: |seen, at| sum(seen, |lane| at_index(&lane.counters.drained, at)),
        }),
    ),
    counter(
        "roomcast_node_drain_cut_total",
        "Clients that were left at `drain.deadline` and were closed at once",
        Read::Node(|seen| seen.draining.was_cut()),
    ),
    counter(
        "roomcast_node_drain_refused_total",
        "Upgrades refused with 503 because the node drains",
        Read::Lane(|lane| lane.drain_refused),
    ),
    // The internal port.
    counter(
        "roomcast_api_answers_total",
        "Requests to the internal port that were answered",
        Read::Answer(|seen, endpoint, class| {
            let row = seen.api.answers.get(endpoint as usize);
            row.and_then(|row| row.get(class as usize)).map_or(0, std::cell::Cell::get)
        }),
    ),
    counter(
        "roomcast_api_keys_refused_total",
        "Requests to the server API without a good key",
        Read::Node(|seen| seen.api.keys_refused.get()),
    ),
    // The node.
    gauge(
        "roomcast_node_turn_longest_seconds",
        "The lane's longest turn of the last minute or two, in which all its other sessions waited",
        Read::LaneMs(|lane| lane.longest_turn_ms),
    ),
    gauge(
        "roomcast_node_ready",
        "1 once the broker was reached and until stopping, else 0",
        Read::Node(|seen| u64::from(seen.ready)),
    ),
    gauge(
        "roomcast_node_connections_max",
        "Sockets the node takes: `limits.connections_max`",
        Read::Node(|seen| seen.connections_max as u64),
    ),
];
