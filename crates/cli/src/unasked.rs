//! Rooms that a node puts its user into, and that nobody asked for. Nothing of them is shown, so nothing of them may count
//! as got: they are left, and what waits in an inbox stays there. Never leaves a room that was asked for.

use std::collections::BTreeSet;

use roomcast_client::{Client, Error, Event, Session, SessionEvent, Welcome};

/// Which rooms are shown, and which of the others were left over this connection.
pub(crate) struct Unasked<'a> {
    asked: &'a [String],
    /// The user's own room, where its inbox is.
    own: String,
    /// Bounds: the rooms that the node puts the user into.
    left: BTreeSet<String>,
}

impl<'a> Unasked<'a> {
    /// Of a subscriber who asked for these.
    pub(crate) fn new(asked: &'a [String], welcome: &Welcome) -> Self {
        Self { asked, own: format!("user-{}", welcome.user_id), left: BTreeSet::new() }
    }

    /// A connection stands: the node has put the user into its own room. It is left at once, before anything of it can
    /// count as got.
    pub(crate) fn connected(&mut self) -> Option<String> {
        self.left.clear();
        let own = self.own.clone();
        self.leaves(&own).then_some(own)
    }

    /// Whether what concerns the room, if it concerns one, is shown.
    pub(crate) fn shows(&self, room: Option<&str>) -> bool {
        room.is_none_or(|room| self.asked.iter().any(|asked| asked == room))
    }

    /// Whether the room is to be left: nobody asked for it, and it has not been left.
    fn leaves(&mut self, room: &str) -> bool {
        !self.shows(Some(room)) && self.left.insert(room.to_owned())
    }

    /// Whether an event of the room is shown; where it is not, the room is left by this.
    pub(crate) async fn passes(
        &mut self,
        room: Option<&str>,
        leave: impl AsyncFnOnce(&str) -> Result<(), Error>,
    ) -> bool {
        if self.shows(room) {
            return true;
        }
        if let Some(room) = room.filter(|room| self.leaves(room)) {
            told(room, leave(room).await);
        }
        false
    }
}

/// Leaves the user's own room, unless it was asked for.
pub(crate) async fn leave_own(unasked: &mut Unasked<'_>, client: &Client) {
    if let Some(own) = unasked.connected() {
        told(&own, client.leave(&own).await);
    }
}

/// The same over a session.
pub(crate) async fn leave_own_of_session(unasked: &mut Unasked<'_>, session: &Session) {
    if let Some(own) = unasked.connected() {
        told(&own, session.leave(&own).await);
    }
}

/// Nothing depends on it: what comes is passed over all the same.
fn told(room: &str, left: Result<(), Error>) {
    if let Err(error) = left {
        tracing::debug!(room, %error, "could not be left");
    }
}

/// The room that an event is about.
pub(crate) fn room_of(event: &Event) -> Option<&str> {
    match event {
        Event::Publication(publication) => Some(&publication.room),
        Event::Gap { room, .. } => room.as_deref(),
        Event::Skip { room, .. } | Event::Lost { room, .. } | Event::Left { room, .. } => {
            Some(room)
        }
        Event::Presence(presence) => Some(&presence.room),
        Event::Receipts(receipts) => Some(&receipts.room),
        Event::Joined(joined) => Some(&joined.room),
        Event::Error(_)
        | Event::Degraded { .. }
        | Event::TokenExpiring { .. }
        | Event::Drain(_)
        | Event::Pong
        | Event::Other(_)
        | Event::Closed(_) => None,
    }
}

/// The same of a session's.
pub(crate) fn room_of_session(event: &SessionEvent) -> Option<&str> {
    match event {
        SessionEvent::Publication(publication) => Some(&publication.room),
        SessionEvent::Gap { room, .. } => room.as_deref(),
        SessionEvent::Skip { room, .. }
        | SessionEvent::Lost { room, .. }
        | SessionEvent::RoomLost { room, .. }
        | SessionEvent::TakenOut { room, .. }
        | SessionEvent::Unpublished { room, .. } => Some(room),
        SessionEvent::Presence(presence) => Some(&presence.room),
        SessionEvent::Receipts(receipts) => Some(&receipts.room),
        SessionEvent::Joined(joined) => Some(&joined.room),
        SessionEvent::Connected(_)
        | SessionEvent::Resumed { .. }
        | SessionEvent::HandedOver
        | SessionEvent::Reconnecting { .. }
        | SessionEvent::MaxReconnectAttemptsReached { .. }
        | SessionEvent::Degraded { .. }
        | SessionEvent::TokenExpiring { .. }
        | SessionEvent::Error(_)
        | SessionEvent::Other(_)
        | SessionEvent::Closed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_room_that_nobody_asked_for_is_left_once_over_each_connection() {
        let asked = ["news".to_owned()];
        let (own, left) = ("user-ann".to_owned(), BTreeSet::new());
        let mut unasked = Unasked { asked: &asked, own, left };
        for _ in 0..2 {
            assert_eq!(unasked.connected().as_deref(), Some("user-ann"));
            assert!(unasked.leaves("team-red"));
            assert!(!unasked.leaves("team-red") && !unasked.leaves("user-ann"));
            assert!(!unasked.leaves("news"));
        }
        assert!(unasked.shows(Some("news")) && unasked.shows(None));
        assert!(!unasked.shows(Some("team-red")));
        unasked.own = "news".into();
        assert_eq!(unasked.connected(), None, "it was asked for");
    }
}
