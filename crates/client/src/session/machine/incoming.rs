//! What connections bring: welcomes, answers, and all that is heard unasked.

use super::{Link, Machine, OLD_MS};
use crate::driver::LinkId;
use crate::error::Refused;
use crate::event::{Event, Welcome};
use crate::session::effect::{Effect, Out, Reply};
use crate::session::event::SessionEvent;
use crate::session::heard::Fate;
use crate::session::outbox::millis;
use crate::session::requests::Asked;
use crate::session::rooms::Back;
use crate::wire::{Answer, Incoming};

impl Machine {
    /// A message came.
    pub(crate) fn heard(&mut self, now_ms: u64, link: LinkId, incoming: Incoming, out: &mut Out) {
        let links = [&mut self.main, &mut self.next, &mut self.old];
        let Some(it) = links.into_iter().flatten().find(|it| it.id == link) else { return };
        it.dead_ms = None;
        match incoming {
            Incoming::Welcome(welcome) => self.welcomed(now_ms, link, welcome, out),
            Incoming::Pong(_) => {}
            Incoming::Answer { id, answer } => self.answered(now_ms, link, (id, answer), out),
            Incoming::Event(event) => self.event(now_ms, link, event, out),
        }
        self.end_old(now_ms);
    }

    pub(super) fn welcomed(&mut self, now_ms: u64, link: LinkId, welcome: Welcome, out: &mut Out) {
        let every_ms = millis(self.options.heartbeat.every);
        let is_next = self.next.as_ref().is_some_and(|next| next.id == link);
        if is_next {
            self.turn = None;
            let old = std::mem::replace(&mut self.main, self.next.take());
            let until_ms = now_ms.saturating_add(OLD_MS);
            self.old = old.map(|old| Link { until_ms, ping_ms: u64::MAX, dead_ms: None, ..old });
        }
        let Some(main) = self.main.as_mut().filter(|main| main.id == link && !main.welcomed) else {
            return;
        };
        main.welcomed = true;
        main.until_ms = u64::MAX;
        // At once: the node ends the older connection when the new one has said something.
        main.ping_ms = now_ms;
        let resumed = welcome.resumed == Some(Ok(()));
        let again = self.welcome.is_some();
        self.counters.connections += 1;
        self.counters.resumes += u64::from(resumed);
        self.counters.fresh += u64::from(matches!(welcome.resumed, Some(Err(_))));
        self.counters.hand_overs += u64::from(resumed && is_next);
        self.backoff.reset();
        self.resume_token = welcome.resume.as_ref().map(|offer| offer.token.clone());
        let old_session = std::mem::replace(&mut self.session_id, welcome.session_id.clone());
        self.welcome = Some(welcome.clone());
        for waiter in self.ready.drain(..) {
            out.answer(waiter, Ok(Reply::Ready(welcome.clone())));
        }
        out.tell(SessionEvent::Connected(Box::new(welcome)));
        if resumed && is_next {
            out.tell(SessionEvent::HandedOver);
        }
        let moment = self.moment(now_ms);
        self.ping(now_ms, every_ms, out);
        let back = Back { resumed, old_session: old_session.as_deref(), again };
        let counters = &mut self.counters;
        let left = self.rooms.connected(back, moment, counters, &mut self.ids, out);
        for room in left {
            if !self.requests.leaves(&room) {
                self.requests.ask(Asked::Leave(room), None, moment, &mut self.ids, out);
            }
        }
        self.requests.send(moment, out);
        self.outbox.tick(moment.link, now_ms, &mut self.counters, out);
    }

    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        link: LinkId,
        (id, answer): (String, Answer),
        out: &mut Out,
    ) {
        let moment = self.moment(now_ms);
        match answer {
            Answer::Joined(joined) => {
                let (counters, ids) = (&mut self.counters, &mut self.ids);
                self.rooms.joined(Some(&id), joined, (link, moment), counters, ids, out);
            }
            Answer::Left => {
                if let Some(Asked::Leave(room)) = self.requests.answered(&id, Reply::Done, out) {
                    self.rooms.left(&room);
                }
            }
            Answer::Refreshed => drop(self.requests.answered(&id, Reply::Done, out)),
            Answer::Roster(page) => drop(self.requests.answered(&id, Reply::Roster(page), out)),
            Answer::Marked(it) => drop(self.requests.answered(&id, Reply::Marked(it), out)),
            Answer::Receipts(page) => {
                drop(self.requests.answered(&id, Reply::Receipts(page), out));
            }
            // A session asks the application nothing.
            Answer::Response(_) => {}
            Answer::Ack(ack) => drop(self.outbox.acked(&id, ack, &mut self.counters, out)),
            Answer::Refused(refused) => self.refused(now_ms, Some(&id), refused, out),
        }
    }

    pub(super) fn refused(
        &mut self,
        now_ms: u64,
        id: Option<&str>,
        refused: Box<Refused>,
        out: &mut Out,
    ) {
        let moment = self.moment(now_ms);
        let counters = &mut self.counters;
        let left = match id {
            Some(id) => self
                .outbox
                .refused(id, refused, now_ms, counters, out)
                .and_then(|refused| self.requests.refused(id, refused, now_ms, out))
                .and_then(|refused| self.rooms.refused(Some(id), refused, moment, out)),
            None => self.rooms.refused(None, refused, moment, out),
        };
        if let Some(refused) = left {
            out.tell(SessionEvent::Error(refused));
        }
    }

    pub(super) fn event(&mut self, now_ms: u64, link: LinkId, event: Event, out: &mut Out) {
        let moment = self.moment(now_ms);
        let (counters, ids) = (&mut self.counters, &mut self.ids);
        let is_main = moment.link == Some(link);
        match event {
            Event::Publication(publication) => {
                let named = || (publication.room.clone(), publication.id.clone());
                let named = publication.requires_ack.then(named);
                let fate = self.rooms.publication(link, publication, counters, out);
                if let (Fate::AckedBefore, Some((room, id))) = (fate, named) {
                    self.ack(&room, &id, out);
                }
            }
            Event::Skip { room, to, count, reasons } => {
                self.rooms.skip(link, (room, to), (count, reasons), counters, out);
            }
            Event::Gap { room, reason, position } => {
                self.rooms.gap(link, room, (reason, position), counters, out);
            }
            Event::Joined(joined) => {
                self.rooms.joined(None, joined, (link, moment), counters, ids, out);
            }
            Event::Left { room, reason } => self.rooms.taken_out(link, room, reason, out),
            Event::Presence(presence) => self.rooms.presence(presence, out),
            Event::Receipts(receipts) => out.tell(SessionEvent::Receipts(receipts)),
            Event::Lost { room, count } => out.tell(SessionEvent::Lost { room, count }),
            Event::Drain(drain) if is_main => self.drain(now_ms, drain, out),
            Event::Degraded { isolated } if is_main => {
                out.tell(SessionEvent::Degraded { isolated });
            }
            Event::TokenExpiring { expires_at } if is_main => self.token_expires(expires_at, out),
            Event::Error(refused) => self.refused(now_ms, None, refused, out),
            Event::Other(message) => out.tell(SessionEvent::Other(message)),
            Event::Drain(_)
            | Event::Degraded { .. }
            | Event::TokenExpiring { .. }
            | Event::Pong
            | Event::Closed(_) => {}
        }
    }

    pub(super) fn token_expires(&mut self, expires_at: String, out: &mut Out) {
        if self.options.token_source.is_none() {
            out.tell(SessionEvent::TokenExpiring { expires_at });
        } else if !std::mem::replace(&mut self.refreshing, true) {
            out.effects.push(Effect::GetToken);
        }
    }
}
