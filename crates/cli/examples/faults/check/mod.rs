//! Judges what clients wrote down: I1 to I7, I9 and I11 of the invariants. Pure; its own tests
//! plant what it must catch.
//!
//! - I1 an accepted publication reaches each member that is there, or the member is told of the gap.
//! - I2 nothing is delivered twice once a client drops what it has by id.
//! - I3 offsets only rise, without a silent hole, and all members see one order.
//! - I4 a position names one publication for ever.
//! - I5 nobody gets what requires a permission that it lacks.
//! - I6 `recovered: true` only where nothing is missing.
//! - I7 after a fault every member is current again in time.
//! - I9 an inbox keeps its quota, the newest, tells how many it removed, and is emptied once.
//! - I11 a node that drains tells each of its clients in time where to go, and takes no new ones.

mod drain;
mod follow;
mod inbox;
mod verdict;

use std::collections::HashMap;

use roomcast_protocol::position::Position;

use crate::record::{Acked, Facts, Level, Record, Sent, What};
use follow::{Follower, Jump};
pub(crate) use inbox::{Given, inbox};
pub(crate) use verdict::{FaultVerdict, Tally, Verdict};

/// How soon a member must be current after a fault is over, or after its own reconnect. Units: microseconds.
pub(crate) const CURRENT_US: u64 = 5_000_000;

/// Slack for a busy machine: a fault that is never noticed, or by something slower, is found all the same. Units:
/// microseconds.
pub(crate) const SLACK_US: u64 = 2_000_000;

/// How long a member of a room that keeps nothing must have been there after an ack, so that the publication counts as
/// its own. Units: microseconds.
const GRACE_US: u64 = 3_000_000;

/// Judges a scene.
pub(crate) fn check(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::new(facts);
    let mut payloads = HashMap::new();
    let mut places = HashMap::new();
    let sent: HashMap<(usize, u64), &Sent> =
        facts.sent.iter().map(|sent| ((sent.room, sent.number), sent)).collect();
    for sent in &facts.sent {
        count_sent(facts, sent, &mut verdict);
        if let Some(at) = sent.acked.and_then(|acked| acked.position) {
            name_payload(facts, (sent.room, at), sent.number, &mut payloads, &mut verdict);
        }
    }
    let mut by_member: Vec<Vec<&Record>> = vec![Vec::new(); facts.members.len()];
    for record in &facts.records {
        if let Some(records) = by_member.get_mut(record.member) {
            records.push(record);
        }
    }
    for (index, records) in by_member.iter().enumerate() {
        for record in records {
            if let What::Heard { room, number, at, .. } = record.what {
                heard_rightly(facts, &sent, (index, room, number), &mut verdict);
                if let Some(at) = at {
                    name_payload(facts, (room, at), number, &mut payloads, &mut verdict);
                    one_place(facts, (room, number), at, &mut places, &mut verdict);
                }
            }
        }
        for drain in &facts.drains {
            drain::check(index, records, drain, &mut verdict);
        }
        let Some(member) = facts.members.get(index) else { continue };
        for room in &member.rooms {
            let mut follower = Follower::new(facts, index, *room);
            for record in records {
                follower.see(record, &mut verdict);
            }
            let kept = facts.rooms.get(*room).is_some_and(|room| room.kept);
            let lost = |sent: &&Sent| sent.room == *room && is_due(member.vip, sent);
            for sent in facts.sent.iter().filter(lost) {
                if kept {
                    missing_kept(facts, index, &follower, sent, &mut verdict);
                } else {
                    missing_loose(facts, index, &follower, sent, &mut verdict);
                }
            }
            for (at, fault) in facts.faults.iter().enumerate() {
                let took = follower.current_after(fault.healed_us, &sent);
                verdict.current(at, (index, *room), took);
            }
        }
    }
    verdict
}

/// Accepted, so that members wait for it.
fn is_due(vip: bool, sent: &Sent) -> bool {
    let accepted = sent.acked.is_some_and(|acked| acked.level != Level::Isolated && !acked.partial);
    accepted && (vip || !sent.vip)
}

fn count_sent(facts: &Facts, sent: &Sent, verdict: &mut Verdict) {
    verdict.at(sent.first_us, |tally| {
        tally.repeated_sends += u64::from(sent.tries.saturating_sub(1));
        match (&sent.acked, sent.refused) {
            (Some(Acked { level: Level::Isolated, .. }), _) => tally.isolated += 1,
            (Some(_), _) => tally.accepted += 1,
            (None, true) => tally.refused += 1,
            (None, false) => tally.unknown += 1,
        }
    });
    let name = verdict::name_of(facts, sent.room);
    if sent.acked.is_none() && sent.tries > 0 {
        let Sent { number, tries, answer, .. } = sent;
        let text = format!("{name}: {number} not accepted in {tries} tries: {answer:?}");
        verdict.violation(sent.first_us, &text);
    }
    let kept = facts.rooms.get(sent.room).is_some_and(|room| room.kept);
    if let Some(acked) = sent.acked
        && kept != acked.position.is_some()
        && acked.level != Level::Isolated
    {
        let text = format!("{name}: {} acked as {acked:?}, but kept is {kept}", sent.number);
        verdict.violation(acked.at_us, &text);
    }
}

/// I4: whoever names a position, members and acks, names the same publication.
fn name_payload(
    facts: &Facts,
    (room, at): (usize, Position),
    number: u64,
    payloads: &mut HashMap<(usize, Position), u64>,
    verdict: &mut Verdict,
) {
    let named = *payloads.entry((room, at)).or_insert(number);
    if named != number {
        verdict.total.two_payloads += 1;
        let name = verdict::name_of(facts, room);
        let text = format!("{name}: {}:{} names {named} and {number}", at.epoch, at.offset);
        verdict.violation(0, &text);
    }
}

/// G5: while an incarnation lasts, one id has one place.
fn one_place(
    facts: &Facts,
    (room, number): (usize, u64),
    at: Position,
    places: &mut HashMap<(usize, u64, u128), u64>,
    verdict: &mut Verdict,
) {
    let place = *places.entry((room, number, at.epoch.0)).or_insert(at.offset);
    if place != at.offset {
        verdict.total.two_places += 1;
        let name = verdict::name_of(facts, room);
        let text = format!("{name}: {number} stands at {place} and {} of {}", at.offset, at.epoch);
        verdict.violation(0, &text);
    }
}

/// What is heard was sent, and may be heard by this member (I5).
fn heard_rightly(
    facts: &Facts,
    sent: &HashMap<(usize, u64), &Sent>,
    (member, room, number): (usize, usize, u64),
    verdict: &mut Verdict,
) {
    let vip = facts.members.get(member).is_some_and(|member| member.vip);
    match sent.get(&(room, number)) {
        None => {
            let name = verdict::name_of(facts, room);
            verdict.violation(0, &format!("{name}: {member} heard {number}, which nobody sent"));
        }
        Some(sent) if sent.vip && !vip => {
            let name = verdict::name_of(facts, room);
            let text = format!("{name}: {member} heard {number} without its permission");
            verdict.violation(sent.first_us, &text);
        }
        Some(_) => {}
    }
}

/// I1 in a room with history.
fn missing_kept(
    facts: &Facts,
    member: usize,
    follower: &Follower<'_>,
    sent: &Sent,
    verdict: &mut Verdict,
) {
    let Some(Acked { at_us, position: Some(at), .. }) = sent.acked else { return };
    if follower.has_heard(sent.number) || follower.has_skipped(at) || follower.began_behind(at) {
        return;
    }
    if follower.first_join_us().is_none_or(|joined_us| at_us < joined_us) {
        return;
    }
    if follower.jumps.iter().any(|jump| jump.is_over(at, sent.first_us)) {
        verdict.at(sent.first_us, |tally| tally.lost_told += 1);
        return;
    }
    verdict.at(sent.first_us, |tally| tally.lost_untold += 1);
    let name = verdict::name_of(facts, sent.room);
    let text = format!(
        "{name}: {} at {}:{} accepted, {member} neither heard it nor was told",
        sent.number, at.epoch, at.offset
    );
    verdict.violation(sent.first_us, &text);
}

/// I1 in a room that keeps nothing: a member that was there all the time.
fn missing_loose(
    facts: &Facts,
    member: usize,
    follower: &Follower<'_>,
    sent: &Sent,
    verdict: &mut Verdict,
) {
    let Some(acked) = sent.acked else { return };
    if follower.has_heard(sent.number) {
        return;
    }
    let there = |stay: &&(u64, u64)| stay.0 <= sent.first_us && acked.at_us + GRACE_US <= stay.1;
    let Some(stay) = follower.stays.iter().find(there) else { return };
    let told = |jump: &&Jump| jump.at_us >= sent.first_us && jump.at_us <= stay.1;
    if follower.jumps.iter().any(|jump| told(&jump)) {
        verdict.at(sent.first_us, |tally| tally.lost_told += 1);
        return;
    }
    verdict.at(sent.first_us, |tally| tally.lost_untold += 1);
    let name = verdict::name_of(facts, sent.room);
    let text = format!("{name}: {} accepted, {member} neither heard it nor was told", sent.number);
    verdict.violation(sent.first_us, &text);
}

#[cfg(test)]
mod tests;
