//! Requests to the application in both directions: what a client asks, and what a back-end answered.

use bytes::Bytes;
use roomcast_protocol::codes::Refused;
use roomcast_protocol::command::{Command, ReplyTo};
use roomcast_protocol::request::{Request, Response};

use super::encode::{answer, content};
use super::fields::{Fields, Key, bounded, missing, schema};
use super::writer::Writer;

/// A request: `data.method`, and with what.
pub(super) fn command(fields: &Fields<'_>, reply: &ReplyTo) -> Result<Command, Refused> {
    let data = Fields::of(fields.raw(Key::Data));
    let pick = |key| if data.value(key).is_some() { &data } else { fields };
    let method = pick(Key::Method).text(Key::Method, "data.method")?;
    let method = method.ok_or_else(|| missing("data.method", "a string"))?;
    if method.is_empty() {
        return Err(schema("data.method is empty"));
    }
    bounded(&method, "data.method")?;
    let params = pick(Key::Params).raw(Key::Params).unwrap_or("null");
    Ok(Command::Request(Box::new(Request {
        reply: reply.clone(),
        method: method.into(),
        params: Bytes::copy_from_slice(params.as_bytes()),
    })))
}

/// The answer to a request.
pub(super) fn response(out: &mut impl Writer, reply: &ReplyTo, response: &Response) {
    answer(out, "request", reply, |out| {
        out.key("status");
        out.number(response.status.into());
        if response.stale {
            out.key("stale");
            out.boolean(true);
        }
        out.key("body");
        content(&response.body, out);
    });
}
