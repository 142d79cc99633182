//! How a connection begins, and why it may not.

use roomcast_protocol::command::Continuation;
use roomcast_protocol::guard::{AuthError, Principal};

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
    /// The user has as many connections as it may.
    Full,
}
