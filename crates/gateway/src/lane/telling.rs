//! What happens on a lane, on its way to the core: with where the client is, floods of one kind together, and nothing that
//! would overfill the queue.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use roomcast_protocol::guard::Principal;
use roomcast_protocol::ids::SessionKey;
use roomcast_router::coalescing::{Coalescer, LANE_APART_MS};
use roomcast_router::happenings::{Happening, HappeningKind, Offence, Wanted};

use super::shell::{Shell, add};
use crate::core::FromLane;

/// What a lane's shell tells.
pub(super) struct Telling {
    /// Whether anything is wanted.
    any: bool,
    security: RefCell<Coalescer>,
    /// What found no place on its way to the core.
    untold: Cell<u64>,
}

impl Telling {
    pub(super) const fn new(wanted: Wanted) -> Self {
        let security = RefCell::new(Coalescer::new(LANE_APART_MS));
        Self { any: wanted.any(), security, untold: Cell::new(0) }
    }

    /// Whether anything is wanted.
    pub(super) const fn any(&self) -> bool {
        self.any
    }

    /// What is to be told, unless the queue is full: then it is counted. Who came and went is always told; the lane itself
    /// tells no more of those who come while the queue is full.
    fn fitting(&self, told: Vec<Happening>, full: bool) -> Vec<(usize, FromLane)> {
        let fits = |it: &Happening| match it.kind {
            HappeningKind::Connected { .. } | HappeningKind::Disconnected { .. } => true,
            HappeningKind::DeliveryFailed { .. } | HappeningKind::Security { .. } => !full,
        };
        let (fitting, dropped): (Vec<_>, Vec<_>) = told.into_iter().partition(|it| fits(it));
        add(&self.untold, dropped.len());
        fitting.into_iter().map(|it| (it.weight(), FromLane::Happened(Box::new(it)))).collect()
    }
}

/// What a lane counts of what it told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// What found no place on its way to the core.
    pub(crate) untold: u64,
    /// Security events that were told by another one's count.
    pub(crate) merged: u64,
    /// Kinds and culprits that were forgotten early.
    pub(crate) early: u64,
}

impl Shell {
    /// A session's doing is to be told.
    pub(super) fn happened(&self, of: u32, mut happening: Happening) {
        happening.address = self.address_of(of);
        self.pass_on(|security, mono_ms, out| security.add(mono_ms, happening, out));
    }

    /// A session's client did what it may not.
    pub(super) fn offended(&self, key: SessionKey, what: Offence) {
        if self.telling.any() {
            self.act(|lane, effects| lane.offended(key, || what, effects));
        }
    }

    /// Somebody was turned away before a session began. `who`: where that is known.
    pub(super) fn turned_away(
        &self,
        what: impl FnOnce() -> Offence,
        who: Option<&Principal>,
        address: IpAddr,
    ) {
        if !self.telling.any() {
            return;
        }
        let now = self.now();
        self.hush_if_full();
        let told = self.lane.borrow_mut().turned_away(now, who, address, what);
        if let Some(told) = told {
            self.pass_on(|security, mono_ms, out| security.add(mono_ms, told, out));
            self.flush();
        }
    }

    /// Tells what was held back long enough.
    pub(super) fn tell_held(&self) {
        self.pass_on(|security, mono_ms, out| security.tick(mono_ms, out));
    }

    /// Tells all that is held back: the lane ends.
    pub(super) fn tell_the_rest(&self) {
        self.pass_on(|security, _, out| security.end(out));
    }

    /// What it has counted.
    pub(super) fn told(&self) -> Told {
        let security = self.telling.security.borrow();
        let (merged, early) = (security.merged(), security.early());
        Told { untold: self.telling.untold.get(), merged, early }
    }

    fn pass_on(&self, act: impl FnOnce(&mut Coalescer, u64, &mut Vec<Happening>)) {
        let mut out = Vec::new();
        act(&mut self.telling.security.borrow_mut(), self.now().mono_ms, &mut out);
        if !out.is_empty() {
            self.send_soon(self.telling.fitting(out, self.is_core_full()));
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::ids::{LaneId, SessionId};
    use roomcast_protocol::limits::LimitName;

    use super::*;
    use crate::queue::queue;

    fn told(kind: HappeningKind) -> Happening {
        Happening {
            lane: LaneId(0),
            unix_ms: 0,
            user: "ann".into(),
            party: None,
            session: Some(SessionId(1)),
            address: None,
            kind,
        }
    }

    #[test]
    fn a_queue_takes_it_up_to_its_bound_and_beyond_only_who_came_and_went() {
        let offence = || {
            let what = Offence::Limit { limit: LimitName::Depth };
            told(HappeningKind::Security { what, count: 1 })
        };
        let connected =
            told(HappeningKind::Connected { resumed: false, dialect: "native", generation: 1 });
        let weight = offence().weight();
        let (sender, _receiver) = queue::<FromLane>(2 * weight - 1);
        let telling = Telling::new(Wanted::ALL);
        let tell = |it: Happening| {
            let fitting = telling.fitting(vec![it], sender.pressure().is_full());
            let count = fitting.len();
            fitting.into_iter().for_each(|(weight, it)| sender.send(weight, it));
            (count, telling.untold.get())
        };
        // The second one fills it, and the third one is dropped.
        assert_eq!([tell(offence()), tell(offence())], [(1, 0), (1, 0)]);
        assert_eq!(tell(offence()), (0, 1));
        assert_eq!(tell(connected), (1, 1));
        assert_eq!(tell(offence()), (0, 2));
    }
}
