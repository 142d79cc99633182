//! How a connection begins, and why it may not.

use roomcast_protocol::command::Continuation;
use roomcast_protocol::guard::{AuthError, Principal};
use roomcast_protocol::limits::LimitName;
use roomcast_protocol::time::Now;

use super::Lane;
use crate::meter::Place;

/// How a connection begins.
pub enum Opening {
    /// Without a token: one must come in the first frame.
    Silent,
    /// With a good token, or where none is needed, a place among the user's connections, and how the session is to go on.
    Known(Box<Principal>, Place, Option<Box<Continuation>>),
}

/// Whom a token names, if a connection may begin with it.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// The token is no good.
    Token(AuthError),
    /// This user has as many connections as it may.
    Full(Box<Principal>),
}

impl Lane {
    /// Checks a token that came with the handshake, and takes a place among the user's connections.
    ///
    /// # Errors
    /// [`Admission`]: the token is no good, or the user is at its limit.
    pub fn admit(
        &mut self,
        now: Now,
        token: &str,
        continuation: Option<Box<Continuation>>,
    ) -> Result<Opening, Admission> {
        let who = self.verify(token, now).map_err(Admission::Token)?;
        self.admit_known(who, continuation)
    }

    /// Takes a place among the connections of whoever this is.
    ///
    /// # Errors
    /// [`Admission::Full`]: the user is at its limit.
    pub fn admit_known(
        &mut self,
        who: Principal,
        continuation: Option<Box<Continuation>>,
    ) -> Result<Opening, Admission> {
        let max = self.limits.connections_per_user;
        let resumes = continuation.as_ref().is_some_and(|it| it.resume.is_some());
        match self.users.connect(&who.user_key(), max, resumes) {
            Some(place) => Ok(Opening::Known(Box::new(who), place, continuation)),
            None => {
                self.count_limit(LimitName::ConnectionsPerUser);
                Err(Admission::Full(Box::new(who)))
            }
        }
    }
}
