//! The broker contract as scripts: text in, events out, the same for every broker. Owns no broker and no clock; a
//! broker's test gives [`run`] a way to make one.
//!
//! One step a line: `1 attaches`, `1 detaches`, `1 subscribes news`, `1 unsubscribes news`,
//! `1 publishes news hi [id=x] [by=ann] [kind=k] [bytes=n] [dedup]`, `at 500`, and `1 hears`, which shows what node 1's
//! feed has brought since it was last asked (`1 hears answers`, `completions` or `count`: a part of it; `quietly`: it is
//! passed over). Tickets count the publications of the whole script from 1.
//!
//! About history: `1 publishes news hi keep=3 [keep_bytes=n] [keep_ttl=ms]` (said once, it holds for the room from then
//! on), `1 heads news other`, `1 reads news above 0 [limit=n] [bytes=n]`, `1 reads news below max`, `1 beats`; and
//! `loses meta news`, `loses stream news`, `loses ids news`, `loses everything`, `promotes` (another master). Positions
//! are shown with epochs numbered in the order in which they were heard of: `e0:1`. Steps about sessions, presence and
//! inboxes stand in `contract/steps.rs`, those about receipts in `contract/marks.rs`, those about
//! rooms that became occupied in `contract/follow.rs`.

mod follow;
mod history;
mod inbox;
mod marks;
mod occupancy;
mod presence;
mod receipts;
mod sessions;
mod stage;
mod steps;

use crate::envelope::{BrokerCommand, BrokerEvent};
use crate::ids::{NodeId, SessionId};
use crate::occupancy::Occupancy;
use crate::room::RoomName;

pub use history::HISTORY;
pub use inbox::INBOX;
pub use occupancy::OCCUPANCY;
pub use presence::PRESENCE;
pub use receipts::RECEIPTS;
pub use sessions::SESSIONS;
use stage::{Apart, Stage};

/// What a feed has brought.
#[derive(Debug)]
pub struct Brought {
    /// Events, in order.
    pub events: Vec<BrokerEvent<u64>>,
    /// The feed has ended: the node was detached.
    pub ended: bool,
}

/// A broker with its nodes' feeds, as the scripts see it.
pub trait BrokerUnderTest {
    /// Attaches a node and keeps its feed.
    fn attach(&mut self, node: NodeId);

    /// Detaches a node.
    fn detach(&mut self, node: NodeId);

    /// Hands over a node's command. Time is monotonic, in milliseconds.
    fn execute(&mut self, node: NodeId, mono_ms: u64, command: BrokerCommand<u64>);

    /// Takes what the node's feed has brought, all of it: a broker that is not done at once is waited for.
    fn drain(&mut self, node: NodeId) -> Brought;

    /// Loses what was kept; never asked of a broker whose [`Traits`] say that it cannot.
    fn lose(&mut self, what: Lost<'_>);

    /// What rooms of this room's partition became, oldest first; never asked of a broker whose [`Traits`] say that it
    /// cannot tell.
    fn occupancies(&mut self, room: &RoomName) -> Vec<Occupancy>;

    /// In which partition a room is.
    fn partition_of(&self, room: &RoomName) -> u16;

    /// Has another master with the same data from now on; never asked of a broker whose [`Traits`] say that it cannot.
    fn promote(&mut self);
}

/// What can be lost.
#[derive(Clone, Copy, Debug)]
pub enum Lost<'a> {
    /// What is known of a room's stream.
    Meta(&'a RoomName),
    /// The entries of a room's stream.
    Stream(&'a RoomName),
    /// Both generations of a room's ids.
    Ids(&'a RoomName),
    /// The cursors of an inbox.
    Cursors(&'a RoomName),
    /// Who is present in a room.
    Presence(&'a RoomName),
    /// What its users have got and read.
    Receipts(&'a RoomName),
    /// A session's record.
    Session {
        /// Whose.
        user: &'a str,
        /// Which.
        session: SessionId,
    },
    /// All data.
    Everything,
}

/// What the scripts need to know about a broker.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// How long an id is remembered at least; after twice that it is forgotten. Units: milliseconds.
    pub dedup_ttl_ms: u64,
    /// [`FILL_COUNT`] publications of this many payload bytes, with `id`s of five bytes and all else as in
    /// `1 publishes news text`, fill a feed exactly; `None`: the broker holds publishers back in another way.
    pub fill_bytes: Option<usize>,
    /// Answers and publications come by different connections, so their order among each other says nothing: answers
    /// are compared behind all else that was heard with them.
    pub answers_apart: bool,
    /// Rooms come by different connections: only the order within each says something.
    pub rooms_apart: bool,
    /// What its history can do.
    pub history: History,
    /// What its presence can do.
    pub presence: Presence,
}

/// What the scripts need to know about a broker's presence.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// How long a beat renews a lease; `None`: a lease holds while its node is attached, and ends with that at once.
    /// Units: milliseconds.
    pub lease_ms: Option<u64>,
    /// It tells which rooms became occupied and vacated.
    pub occupancies: bool,
}

/// What the scripts need to know about a broker's history.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// What an envelope of `1 publishes news text` weighs beside its payload. Units: bytes.
    pub beside_bytes: usize,
    /// It can lose what it keeps, and have another master.
    pub loses: bool,
    /// It answers beats and brings them back. Their numbers are below 1,000.
    pub beats: bool,
}

/// How many publications fill a feed.
pub const FILL_COUNT: usize = 32;

/// Ids that the broker remembers in each of its two generations while the scripts run.
pub const DEDUP_MAX: usize = 8;

/// One script.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What it shows.
    pub claim: &'static str,
    /// Its steps; `{ttl}` and the like stand for the broker's [`Traits`].
    pub steps: &'static str,
    /// What is heard.
    pub expected: &'static str,
}

/// The scripts that every broker passes.
pub const SCRIPTS: &[Script] = &[
    Script {
        claim: "a publication reaches every node that subscribed, in one order",
        steps: "1 attaches
            2 attaches
            3 attaches
            1 subscribes news
            2 subscribes news
            3 subscribes news
            1 publishes news a
            2 publishes news b
            1 publishes news c
            1 hears
            2 hears
            3 hears",
        expected: "1: subscribed news, news a, published 1, news b, news c, published 3
            2: subscribed news, news a, news b, published 2, news c
            3: subscribed news, news a, news b, news c",
    },
    Script {
        claim: "subscriptions are confirmed in order, each once, the same room too",
        steps: "1 attaches
            2 attaches
            1 subscribes a
            1 subscribes b
            1 unsubscribes a
            1 subscribes a
            1 hears
            2 hears",
        expected: "1: subscribed a, subscribed b, subscribed a
            2: nothing",
    },
    Script {
        claim: "what comes behind a confirmation is heard",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 publishes news a
            1 hears
            1 unsubscribes news
            1 subscribes news
            2 publishes news b
            1 hears",
        expected: "1: subscribed news, news a
            1: subscribed news, news b",
    },
    Script {
        claim: "every publication is answered once, on its own node, by its ticket",
        steps: "1 attaches
            2 attaches
            1 subscribes a
            1 publishes a x
            2 publishes b y
            1 publishes a z dedup
            2 hears completions
            1 hears completions",
        expected: "2: published 2
            1: published 1, published 3",
    },
    Script {
        claim: "the answer to a publication comes behind the publication itself",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a id=x dedup
            1 hears",
        expected: "1: subscribed news, news a, published 1",
    },
    Script {
        claim: "the same content again gets the first answer and is not delivered again",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 publishes news a id=x dedup
            1 publishes news a id=x dedup
            2 publishes news a id=x dedup
            1 hears completions
            2 hears",
        expected: "1: published 1, published 2
            2: subscribed news, news a, published 3",
    },
    Script {
        claim: "other content or another type under the same id is refused",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a id=x dedup
            1 publishes news b id=x dedup
            1 publishes news a id=x kind=other dedup
            1 publishes news a id=x dedup
            1 hears",
        expected: "1: subscribed news, news a, published 1, duplicate 2, duplicate 3, published 4",
    },
    Script {
        claim: "the same id of another sender, or in another room, is another publication",
        steps: "1 attaches
            1 subscribes a
            1 subscribes b
            1 publishes a hi id=x dedup
            1 publishes a hi id=x by=bob dedup
            1 publishes b hi id=x dedup
            1 publishes a hi id=y dedup
            1 hears",
        expected: "1: subscribed a, subscribed b, a hi, published 1, a hi, published 2, b hi, published 3, a hi, \
                   published 4",
    },
    Script {
        claim: "ids are remembered only of publications that ask for it",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a id=x
            1 publishes news b id=x
            1 publishes news c id=x dedup
            1 publishes news d id=x
            1 hears",
        expected: "1: subscribed news, news a, published 1, news b, published 2, news c, published 3, news d, \
                   published 4",
    },
    Script {
        claim: "ids are not forgotten before their time",
        steps: "1 attaches
            1 subscribes news
            at 500
            1 publishes news a id=x dedup
            at {ttl-1}
            1 publishes news b id=y dedup
            at {ttl}
            1 publishes news c id=z dedup
            at {ttl+499}
            1 publishes news other id=x dedup
            1 hears",
        expected: "1: subscribed news, news a, published 1, news b, published 2, news c, published 3, duplicate 4",
    },
    Script {
        claim: "ids are forgotten after twice their time, also where nothing else was published",
        steps: "1 attaches
            1 subscribes news
            at 500
            1 publishes news a id=x dedup
            at {2ttl+500}
            1 publishes news a id=x dedup
            at {4ttl+500}
            1 publishes news b id=x dedup
            1 hears",
        expected: "1: subscribed news, news a, published 1, news a, published 2, news b, published 3",
    },
    Script {
        claim: "a memory for ids that is full forgets the oldest early and says so",
        steps: "1 attaches
            1 subscribes news
            1 publishes news hi dedup repeat=16
            1 publishes news other id=n0001 dedup
            1 publishes news other id=n0016 dedup
            1 hears completions
            1 publishes news hi dedup
            1 hears completions
            1 publishes news hi id=n0001 dedup
            1 publishes news hi id=n0016 dedup
            1 hears
            at {ttl+9}
            1 publishes news hi id=new dedup
            1 hears completions",
        expected: "1: 8 published, 8 published short, duplicate 17, duplicate 18
            1: published 19 short
            1: news hi, published 20 short, published 21
            1: published 22",
    },
    Script {
        claim: "a full feed refuses for everybody, and takes again once it was read",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 hears
            2 hears
            1 publishes news fill bytes={fill} repeat={half}
            1 hears completions
            1 publishes news fill bytes={fill} repeat={half}
            1 hears completions
            1 publishes news one-more id=x dedup
            1 hears
            2 hears count
            1 publishes news at-last id=x dedup
            1 hears
            2 hears",
        expected: "1: subscribed news
            2: subscribed news
            1: {half} published
            1: {half} published
            1: unavailable {count+1} retry
            2: {count} publications
            1: news at-last, published {count+2}
            2: news at-last",
    },
    Script {
        claim: "a feed one byte short of what is needed refuses",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 hears
            2 hears
            1 publishes news fill bytes={fill} repeat={half}
            1 hears completions
            1 publishes news fill bytes={fill} repeat={half-1}
            1 publishes news fill bytes={fill+1}
            1 hears completions
            1 publishes news fill bytes={fill}
            1 hears completions
            2 hears count",
        expected: "1: subscribed news
            2: subscribed news
            1: {half} published
            1: {half-1} published, unavailable {count} retry
            1: published {count+1}
            2: {count} publications",
    },
    Script {
        claim: "a detached node's feed ends and others go on",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 publishes news a
            2 detaches
            1 publishes news b
            2 hears
            1 hears
            2 publishes news c
            1 hears",
        expected: "2: subscribed news, news a, end
            1: subscribed news, news a, published 1, news b, published 2
            1: nothing",
    },
    Script {
        claim: "a node that attaches again starts with an empty feed and no interest",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 publishes news a
            1 attaches
            1 subscribes news
            2 publishes news b
            1 hears",
        expected: "1: subscribed news, news b",
    },
];

/// Runs one script against a fresh broker, which remembers [`DEDUP_MAX`] ids a generation.
///
/// # Errors
/// What was heard instead, or the step that cannot be read.
pub fn run<B: BrokerUnderTest>(script: &Script, traits: &Traits, broker: B) -> Result<(), String> {
    if !can(traits, script) {
        return Ok(());
    }
    let heard = play(script.steps, traits, broker)
        .map_err(|failed| format!("{}: {failed}", script.claim))?;
    let apart = Apart { answers: traits.answers_apart, rooms: traits.rooms_apart };
    let expected = filled(script.expected, traits);
    let expected: Vec<String> = expected.lines().map(|line| apart.shape(line.trim())).collect();
    if heard == expected {
        return Ok(());
    }
    let (heard, expected) = (heard.join("\n"), expected.join("\n"));
    Err(format!("{}\nheard:\n{heard}\nexpected:\n{expected}\n", script.claim))
}

/// Plays steps on a fresh broker, and answers with what was heard: one line for each time that a node was asked.
///
/// # Errors
/// The step that cannot be read.
pub fn play<B: BrokerUnderTest>(
    steps: &str,
    traits: &Traits,
    broker: B,
) -> Result<Vec<String>, String> {
    let apart = Apart { answers: traits.answers_apart, rooms: traits.rooms_apart };
    let mut stage = Stage::new(broker, apart);
    for line in filled(steps, traits).lines().map(str::trim) {
        stage.step(line).ok_or_else(|| format!("cannot read `{line}`"))?;
    }
    Ok(stage.heard)
}

/// The text with the broker's own numbers.
fn filled(text: &str, traits: &Traits) -> String {
    let fill = |text: String, (name, value): &(&str, u64)| {
        text.replace(&format!("{{{name}}}"), &value.to_string())
    };
    names_of(traits).iter().flatten().fold(text.to_owned(), fill)
}

/// Whether the broker can do what the script asks for.
fn can(traits: &Traits, script: &Script) -> bool {
    let asks = |words: &[&str]| words.iter().any(|word| script.steps.contains(word));
    (traits.fill_bytes.is_some() || !asks(&["{fill"]))
        && (traits.history.loses || !asks(&["loses ", "promotes"]))
        && (traits.history.beats || !asks(&[" beats"]))
        && (traits.presence.occupancies || !asks(&["occupancies "]))
        && (traits.presence.lease_ms.is_some() || !asks(&["{lease"]))
        && (traits.presence.lease_ms.is_none() || !asks(&[" detaches for good"]))
}

fn names_of(traits: &Traits) -> Option<Vec<(&'static str, u64)>> {
    let ttl = traits.dedup_ttl_ms;
    let fill = u64::try_from(traits.fill_bytes.unwrap_or(0)).ok()?;
    let count = u64::try_from(FILL_COUNT).ok()?;
    let lease = traits.presence.lease_ms.unwrap_or(0);
    let two = 2 * (u64::try_from(traits.history.beside_bytes).ok()? + 9);
    Some(vec![
        ("ttl-1", ttl.checked_sub(1)?),
        ("ttl", ttl),
        ("ttl+9", ttl + 9),
        ("ttl+499", ttl + 499),
        ("2ttl+500", 2 * ttl + 500),
        ("4ttl+500", 4 * ttl + 500),
        ("fill", fill),
        ("fill+1", fill + 1),
        ("half", count / 2),
        ("half-1", count / 2 - 1),
        ("count", count),
        ("count+1", count + 1),
        ("count+2", count + 2),
        ("lease/2", lease / 2),
        ("lease", lease),
        ("2lease", 2 * lease),
        ("two", two),
        ("two-1", two - 1),
    ])
}
