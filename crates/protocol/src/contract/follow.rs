//! Steps of scripts about rooms that became occupied and vacated, and what is heard of them.
//!
//! `1 follows news [told=2] [limit=3] [forgets]`: node 1 asks for the events of the room's partition, and says that it has
//! told so many of those that it has heard of as given to it (`told=all`), and that it was given none (`forgets`). What it
//! is given is shown as `given occupied news e0:1`, with `anew` where these are all that it has to tell, and `lost 2`.

use std::collections::BTreeMap;

use super::BrokerUnderTest;
use super::stage::{Epochs, Stage, options};
use crate::envelope::BrokerCommand;
use crate::ids::NodeId;
use crate::occupancy::{AskOccupancies, GivenOccupancies, HAND_MAX, Occupancy};
use crate::room::RoomName;

/// What a node was given of a partition.
#[derive(Debug, Default)]
struct Hand {
    numbers: Vec<u64>,
    told: u64,
    given: u64,
    lost: u64,
}

/// What nodes were given.
#[derive(Debug)]
pub(super) struct Follows {
    hands: BTreeMap<(NodeId, u16), Hand>,
    asked: BTreeMap<u64, (NodeId, u16)>,
}

impl Follows {
    pub(super) const fn new() -> Self {
        Self { hands: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// A question was answered.
    pub(super) fn hear(&mut self, request: u64, given: &GivenOccupancies) {
        let Some(hand) = self.asked.remove(&request).map(|of| self.hands.entry(of).or_default())
        else {
            return;
        };
        if given.anew || !given.held {
            hand.numbers.clear();
        }
        hand.numbers.extend(given.events.iter().map(|(number, _)| number));
        hand.given = given.given;
        hand.lost = given.lost;
    }
}

impl<B: BrokerUnderTest> Stage<B> {
    /// A node asks for events; `None`: the step cannot be read.
    pub(super) fn follow(&mut self, node: NodeId, words: &[&str]) -> Option<()> {
        let options = options(words);
        let room = RoomName::system(words.first()?).ok()?;
        let partition = self.broker.partition_of(&room);
        let hand = self.follows.hands.entry((node, partition)).or_default();
        let told = match options.get("told") {
            Some(&"all") => hand.numbers.len(),
            Some(count) => count.parse().ok()?,
            None => 0,
        };
        if let Some(told) = hand.numbers.drain(..told.min(hand.numbers.len())).next_back() {
            hand.told = told;
        }
        let count_max = options.get("limit").map_or(Some(HAND_MAX), |limit| limit.parse().ok())?;
        let given = if words.contains(&"forgets") { 0 } else { hand.given };
        let (told, lost) = (hand.told, hand.lost);
        self.request += 1;
        let request = self.request;
        self.follows.asked.insert(request, (node, partition));
        let ask = AskOccupancies { partition, told, given, lost, count_max };
        self.broker.execute(node, self.mono_ms, BrokerCommand::Occupancies { request, ask });
        Some(())
    }
}

impl Epochs {
    pub(super) fn occupancy(&mut self, event: &Occupancy) -> String {
        let Occupancy { room, version, occupied } = event;
        let became = if *occupied { "occupied" } else { "vacated" };
        format!("{became} {room} {}", self.position(*version))
    }

    /// What a node was given.
    pub(super) fn followed(&mut self, given: &GivenOccupancies) -> String {
        if !given.held {
            return "ungiven".into();
        }
        let anew = if given.anew { " anew" } else { "" };
        let lost = given.lost - given.lost_known;
        let lost = if lost > 0 { format!(" lost {lost}") } else { String::new() };
        let events = given.events.iter().map(|(_, event)| format!(" {}", self.occupancy(event)));
        format!("given{anew}{lost}{}", events.collect::<String>())
    }
}
