//! Joins that a back-end has to allow, in dialects whose profile says so. It is asked once for all rooms of a request, and
//! only where the rules allow them; while it has not answered, what the session sends waits. Who it is, and how it is
//! asked, is known elsewhere.

use std::sync::Arc;

use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::RoomsRequest;
use roomcast_protocol::guard::RuleIndex;
use roomcast_protocol::ids::SessionKey;
use roomcast_protocol::time::Now;

use super::Lane;
use super::groups::denied_by_call;
use crate::messages::Effect;

impl Lane {
    /// Whether a back-end is asked where the session may be.
    pub(super) fn joins_by_call(&self, key: SessionKey) -> bool {
        let format = self.session(key).and_then(|it| self.formats.get(usize::from(it.format)));
        format.is_some_and(|format| format.dialect.profile().joins_by_call)
    }

    /// Whether it is for a back-end alone to say that the session may be in rooms of this rule.
    pub(super) fn is_by_call(&self, key: SessionKey, rule: RuleIndex) -> bool {
        self.guard.policy(rule).by_call && self.joins_by_call(key)
    }

    /// Asks whether the session may join. Nothing of it is done before the answer.
    pub(super) fn ask_permission(
        &mut self,
        key: SessionKey,
        request: RoomsRequest,
        out: &mut Vec<Effect>,
    ) {
        let request = Arc::new(request);
        self.groups.ask(key, Arc::clone(&request));
        out.push(Effect::Permit { session: key, request });
    }

    /// The answer is there. What the rules say may have changed meanwhile, and what waited behind it is run.
    pub(super) fn permitted(
        &mut self,
        now: Now,
        key: SessionKey,
        outcome: Result<(), Refused>,
        out: &mut Vec<Effect>,
    ) {
        let Some(request) = self.groups.answered(key) else { return };
        let request = Arc::unwrap_or_clone(request);
        let allowed = outcome.map_err(|refused| denied_by_call(&request, refused));
        match allowed.and_then(|()| self.admitted(key, &request)) {
            Ok(rooms) => self.join_rooms(now, key, request, rooms, out),
            Err(denied) => self.refuse_joins(key, &request, denied, out),
        }
        self.run_behind(now, key, out);
    }
}
