//! The bound on what is on its way to the core. Owns the count; whoever finds no place asks again when one is given back.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Bytes that may be under way, of all who share it.
#[derive(Debug)]
pub(super) struct Gate {
    max: usize,
    used: Cell<usize>,
    freed: Notify,
}

/// Bytes that are under way; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Rc<Gate>,
    bytes: usize,
}

impl Gate {
    /// For so many bytes.
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, used: Cell::new(0), freed: Notify::new() })
    }

    /// Takes these bytes, if any place is left: so one that is large is not passed over for ever. Bounds: the maximum
    /// and one of them.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        let used = self.used.get();
        if used >= self.max {
            return None;
        }
        self.used.set(used + bytes);
        Some(Permit { gate: Rc::clone(self), bytes })
    }

    /// Waits until something is given back.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.used.set(self.gate.used.get() - self.bytes);
        self.gate.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_any_place_is_let_through_and_at_the_maximum_nobody_is() {
        let gate = Gate::new(10);
        let nine = gate.take(9).unwrap();
        let many = gate.take(100).unwrap();
        assert!(gate.take(1).is_none());
        drop(many);
        let one = gate.take(1).unwrap();
        assert!(gate.take(1).is_none());
        drop((nine, one));
        assert_eq!(gate.used.get(), 0);
    }
}
