//! Requests to the application: each session may have so many under way, and each is answered once, as long as its
//! connection lives. What the application may be asked, and whether it answers, is known elsewhere.

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::outbound::Outbound;
use roomcast_protocol::request::Request;

use super::Lane;
use crate::messages::Effect;
use crate::requests::{Requested, Responded};

impl Lane {
    /// A session asks the application.
    pub(super) fn request(&mut self, key: SessionKey, request: Request, out: &mut Vec<Effect>) {
        let Request { reply, method, params } = request;
        let max = self.limits.requests_max;
        let lane = self.id;
        let Some(session) = self.session_mut(key) else { return };
        if session.requests >= max {
            let limit = LimitName::RequestsPerSession;
            let refused = Refused::limit(Refusal::Limit, limit, max.into(), None);
            return self.refuse(key, &reply, &refused, out);
        }
        let Some(who) = session.who.as_deref() else { return };
        let (id, user, kind) = (session.id, who.user_key().into(), who.kind);
        session.requests += 1;
        self.counters.requests += 1;
        let requested = Requested { lane, session: key, reply, id, user, kind, method, params };
        out.push(Effect::Request(Box::new(requested)));
    }

    /// The application answered, or will not.
    pub(super) fn responded(&mut self, responded: Responded, out: &mut Vec<Effect>) {
        let Responded { session: key, reply, outcome } = responded;
        let Some(session) = self.session_mut(key) else { return };
        session.requests = session.requests.saturating_sub(1);
        match outcome {
            // The session may have been ended by an order that is missing (G22). The application has acted all the same.
            Ok(_) if self.turns.held => {
                let refused = Refused::because(Refusal::Unavailable, "The node catches up".into());
                self.refuse(key, &reply, &Refused { unknown: true, ..refused }, out);
            }
            Ok(response) => {
                let response = &response;
                self.send(key, &Outbound::Response { reply: &reply, response }, out);
            }
            Err(refused) => self.refuse(key, &reply, &refused, out),
        }
    }
}
