//! Steps of scripts about receipts, and what is heard of them.
//!
//! `1 marks news e0 ann/d3 bob/r2`: in one step ann has got all up to 3, and bob has read all up to 2. `ann/d1..40` are 40
//! steps, one for each offset; `u*600/d1` are users u00000 to u00599, in as many steps as that takes. `1 receipts news
//! [of=3] [after=ann] [limit=2]`, `loses receipts news`.
//!
//! Times are numbered in the order in which they were heard of: `d3@t0`. Each step of marks has another one, so a broker
//! under test lets its clock go on in between.

use std::collections::BTreeMap;

use super::BrokerUnderTest;
use super::stage::{Epochs, KEEP, Stage, options};
use crate::envelope::BrokerCommand;
use crate::ids::NodeId;
use crate::position::Position;
use crate::receipts::{
    MARKS_MAX, Mark, MarkChange, Marked, MarksSet, RECEIPTS_PAGE_MAX, Receipt, ReceiptDiff,
    ReceiptsPage, SetMarks,
};
use crate::room::RoomName;

impl<B: BrokerUnderTest> Stage<B> {
    /// Takes a node's step about receipts; `None`: it cannot be read.
    pub(super) fn receipts(&mut self, node: NodeId, verb: &str, words: &[&str]) -> Option<()> {
        let options = options(words);
        let room = RoomName::parse(words.first()?).ok()?;
        let keep = self.keep(&room, &options)?.unwrap_or(KEEP);
        let command = match verb {
            "marks" => return self.mark(node, &room, words.get(1..)?),
            "receipts" => {
                let number = |name: &str| options.get(name).map(|it| it.parse::<u64>().ok());
                let of = if let Some(of) = number("of") { Some(of?) } else { None };
                let limit = number("limit").unwrap_or(Some(RECEIPTS_PAGE_MAX.into()))?;
                BrokerCommand::Receipts {
                    request: self.next_request(),
                    room,
                    keep,
                    of,
                    after: options.get("after").map(|user| (*user).into()),
                    count_max: limit.try_into().ok()?,
                }
            }
            _ => return None,
        };
        self.broker.execute(node, self.mono_ms, command);
        Some(())
    }

    fn mark(&mut self, node: NodeId, room: &RoomName, words: &[&str]) -> Option<()> {
        let (epoch, words) = words.split_first()?;
        let epoch = self.epochs.at(epoch.strip_prefix('e')?.parse().ok()?);
        // By their offset in a run of steps, so that each step has one of each user.
        let mut steps: BTreeMap<usize, Vec<MarkChange>> = BTreeMap::new();
        for word in words.iter().filter(|word| !word.contains('=')) {
            let (users, rest) = word.split_once('/')?;
            let mark = match rest.get(..1)? {
                "d" => Mark::Delivered,
                "r" => Mark::Read,
                _ => return None,
            };
            let offsets = rest.get(1..)?;
            let (first, last) = offsets.split_once("..").unwrap_or((offsets, offsets));
            let offsets = first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?;
            let (name, count) = users.split_once('*').unwrap_or((users, ""));
            let users = match count {
                "" => vec![name.to_owned()],
                _ => (0..count.parse::<u32>().ok()?).map(|at| format!("{name}{at:05}")).collect(),
            };
            for (at, offset) in offsets.enumerate() {
                let change =
                    |user: &String| MarkChange { user: user.as_str().into(), mark, offset };
                steps.entry(at).or_default().extend(users.iter().map(change));
            }
        }
        let keep = self.keep(room, &BTreeMap::new())?.unwrap_or(KEEP);
        for changes in steps.values().flat_map(|all| all.chunks(MARKS_MAX)) {
            let (room, changes) = (room.clone(), changes.to_vec());
            let set = Box::new(SetMarks { room, epoch, changes });
            let command = BrokerCommand::SetMarks { request: self.next_request(), keep, set };
            self.broker.execute(node, self.mono_ms, command);
        }
        Some(())
    }

    const fn next_request(&mut self) -> u64 {
        self.request += 1;
        self.request
    }
}

impl Epochs {
    /// The room, the version, and who is how far.
    pub(super) fn receipt_diff(&mut self, diff: &ReceiptDiff) -> String {
        let ReceiptDiff { room, epoch, version, receipts } = diff;
        let version = self.position(Position { epoch: *epoch, offset: *version });
        format!("{room} receipts {version}{}", self.told(receipts))
    }

    pub(super) fn marks_set(&mut self, outcome: &MarksSet) -> String {
        match outcome {
            MarksSet::Done { head, marked } => {
                let head = self.position(*head);
                if marked.len() > SHOWN_MAX {
                    return format!("marked of {head} {} marks", marked.len());
                }
                let marked: String = marked.iter().map(|it| self.marked(" ", Some(*it))).collect();
                format!("marked of {head}{marked}")
            }
            MarksSet::Epoch(head) => format!("marked nothing but of {}", self.position(*head)),
            MarksSet::Full => "marked full".into(),
        }
    }

    pub(super) fn receipts_page(&mut self, page: &ReceiptsPage) -> String {
        let ReceiptsPage { head, version, receipts, next } = page;
        let next = next.as_ref().map_or(String::new(), |user| format!(" next {user}"));
        let (head, told) = (self.position(*head), self.told(receipts));
        format!("receipts of {head} version {version}{told}{next}")
    }

    /// More than eight users are only counted.
    fn told(&mut self, receipts: &[Receipt]) -> String {
        if receipts.len() > SHOWN_MAX {
            return format!(" {} users", receipts.len());
        }
        let told = receipts.iter().map(|receipt| {
            let Receipt { user, delivered, read } = receipt;
            format!(" {user}{}{}", self.marked(" d", *delivered), self.marked(" r", *read))
        });
        told.collect()
    }

    fn marked(&mut self, kind: &str, marked: Option<Marked>) -> String {
        match marked {
            None => String::new(),
            Some(Marked { offset, at_unix_ms: 0 }) => format!("{kind}{offset}@never"),
            Some(Marked { offset, at_unix_ms }) => {
                format!("{kind}{offset}@t{}", self.time(at_unix_ms))
            }
        }
    }
}

/// More than so many users or marks are only counted.
const SHOWN_MAX: usize = 8;
