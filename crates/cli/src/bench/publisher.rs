//! When which publication leaves: on its intended time, or when one before it is done.

use std::time::Duration;

use super::clock::{add_ns, now_ns, since_ns};
use super::frames::{Mark, Shape, Template};
use super::plan::{Pace, Plan};
use super::swarm::Swarm;
use crate::failure::Failure;

/// Bytes of the native envelope around the filler, for ids, times and names as the load generator uses them.
const ENVELOPE_BYTES: usize = 170;

/// Publications that may leave in one turn: a publisher that is late must still read.
const PER_TURN_MAX: u64 = 1_024;

/// A job's publishers.
#[derive(Debug)]
pub(crate) struct Publisher {
    templates: Vec<Template>,
    sequences: Vec<u32>,
    members: u32,
    pace: Pace,
    /// Index of the first publishing connection, and how many there are.
    seats: (usize, usize),
    started_ns: u64,
    /// Publications since the start of this phase, and in all.
    issued: u64,
    total: u64,
    scratch: Vec<u8>,
}

impl Publisher {
    /// Prepares a publication for each room.
    pub(crate) fn new(plan: &Plan, rooms: &[String], first_seat: usize) -> Result<Self, Failure> {
        let pad = plan.payload_bytes.saturating_sub(ENVELOPE_BYTES);
        let template = |room: &String| {
            Template::publication(Shape { format: plan.format, room, ack: plan.ack, pad })
        };
        let templates = rooms.iter().map(template).collect::<Result<_, _>>()?;
        Ok(Self::of(templates, plan, first_seat))
    }

    /// Publishes these in turn.
    pub(crate) fn of(templates: Vec<Template>, plan: &Plan, first_seat: usize) -> Self {
        Self {
            sequences: vec![0; templates.len()],
            templates,
            members: plan.members,
            pace: plan.pace,
            seats: (first_seat, usize::try_from(plan.publishers).unwrap_or(usize::MAX)),
            started_ns: 0,
            issued: 0,
            total: 0,
            scratch: Vec::new(),
        }
    }

    /// Publications so far.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Begins a phase now.
    pub(crate) fn start(&mut self) {
        self.started_ns = now_ns();
        self.issued = 0;
    }

    /// Sends what is due and says how long nothing will be; at most `longest`.
    pub(crate) fn send_due(
        &mut self,
        swarm: &mut Swarm,
        longest: Duration,
    ) -> Result<Duration, Failure> {
        match self.pace {
            Pace::Silent => Ok(longest),
            Pace::Open { per_second, burst } => {
                let interval = Duration::from_secs_f64(f64::from(burst) / per_second);
                let mut sent = 0;
                loop {
                    let bursts = u32::try_from(self.issued / u64::from(burst)).unwrap_or(u32::MAX);
                    let intended = add_ns(self.started_ns, interval.saturating_mul(bursts));
                    let wait = since_ns(now_ns(), intended);
                    if wait > 0 || sent >= PER_TURN_MAX {
                        return Ok(Duration::from_nanos(wait).min(longest));
                    }
                    self.send(swarm, burst, intended)?;
                    sent += u64::from(burst);
                }
            }
            Pace::Closed { outstanding } => {
                let under_way = self.total.saturating_sub(swarm.shared.completed);
                let free = u64::from(outstanding).saturating_sub(under_way);
                // Evenly over the connections; one write each.
                let share = free.div_ceil(self.seats.1.max(1) as u64);
                let mut left = free;
                while left > 0 {
                    let burst = u32::try_from(share.min(left)).unwrap_or(1);
                    self.send(swarm, burst, now_ns())?;
                    left -= u64::from(burst);
                }
                Ok(longest)
            }
        }
    }

    /// Sends `count` publications in one write on the next connection.
    fn send(&mut self, swarm: &mut Swarm, count: u32, intended_ns: u64) -> Result<(), Failure> {
        self.scratch.clear();
        let closed = matches!(self.pace, Pace::Closed { .. });
        for _ in 0..count {
            let rooms = self.templates.len() as u64;
            let room = usize::try_from(self.total.checked_rem(rooms).unwrap_or(0)).unwrap_or(0);
            let (Some(template), Some(sequence)) =
                (self.templates.get_mut(room), self.sequences.get_mut(room))
            else {
                break;
            };
            *sequence += 1;
            template.append(Mark { sequence: *sequence, intended_ns }, &mut self.scratch);
            if closed && !swarm.shared.completes_by_ack {
                swarm.shared.expect(room, *sequence, self.members);
            }
            self.total += 1;
            self.issued += 1;
        }
        let writes = self.total / u64::from(count.max(1));
        let seats = self.seats.1.max(1) as u64;
        let seat = usize::try_from(writes.checked_rem(seats).unwrap_or(0)).unwrap_or(0);
        swarm.send(self.seats.0 + seat, &self.scratch)
    }
}
