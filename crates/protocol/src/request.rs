//! Requests of clients to the application: what is asked, and what its back-end answered.

use bytes::Bytes;

use crate::command::ReplyTo;
use crate::content::Content;

/// The application is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the answer belongs.
    pub reply: ReplyTo,
    /// What is asked for.
    pub method: Box<str>,
    /// With what (JSON text).
    pub params: Bytes,
}

/// What a back-end answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its HTTP status: 200 to 299, or 400 to 499.
    pub status: u16,
    /// The body.
    pub body: Content,
    /// It was kept from before, and the back-end cannot be asked at the moment.
    pub stale: bool,
}
