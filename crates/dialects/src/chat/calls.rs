//! Calls: who rings whom, and what is kept of it in the end. Owns their fields; never knows whether anybody picks up.

use roomcast_protocol::codes::Refused;
use roomcast_protocol::conversation::{Act, CALL, Saying};
use roomcast_protocol::publication::TEXT_BYTES_MAX;

use super::members::Members;
use crate::native::fields::{is_number, missing, text, wrong};

/// What the id of a kept call begins with, before the call's own.
const KEPT: &str = "call-";

/// Longest id of a call: that of what is kept of it fits too. Units: bytes.
pub const CALL_ID_BYTES_MAX: usize = TEXT_BYTES_MAX - KEPT.len();

/// People of one call, invited or connected.
pub const PARTICIPANTS_MAX: usize = 256;

/// Somebody calls: all who are invited are told.
pub(super) fn begins(payload: &Members<'_>) -> Result<Act, Refused> {
    call_id(payload)?;
    payload.needs_name("userId", "the id of the user who calls")?;
    call_type(payload)?;
    let told = ["callId", "userId", "participantsInvited", "callType"];
    let to = payload.needs_names("participantsInvited", PARTICIPANTS_MAX)?;
    Ok(Act::Tell { to, told: saying("newCall", None, payload, &told.map(same)), said: None })
}

/// A call is over: who called and all who were invited are told, and it is kept in the conversation.
pub(super) fn ends(payload: &Members<'_>) -> Result<Act, Refused> {
    let call = call_id(payload)?;
    let caller = payload.needs_name("userIdCreateCall", "the id of the user who called")?;
    call_type(payload)?;
    duration(payload)?;
    payload.needs_names("participantsConnected", PARTICIPANTS_MAX)?;
    let mut to = payload.needs_names("participantsInvited", PARTICIPANTS_MAX)?;
    // Where nobody is named all are told.
    if !to.is_empty() && !to.contains(&caller) {
        to.push(caller);
    }
    let told = [
        "callId",
        "userIdCreateCall",
        "participantsInvited",
        "participantsConnected",
        "callType",
        "callDuration",
    ];
    let kept = [
        same("callId"),
        ("caller", "userIdCreateCall"),
        ("participants", "participantsConnected"),
        same("callType"),
        same("callDuration"),
    ];
    let said = saying(CALL, Some([KEPT, &call].concat().into()), payload, &kept);
    Ok(Act::Tell {
        to,
        told: saying("closeCall", None, payload, &told.map(same)),
        said: Some(said),
    })
}

const fn same(name: &'static str) -> (&'static str, &'static str) {
    (name, name)
}

fn saying(
    kind: &str,
    id: Option<Box<str>>,
    payload: &Members<'_>,
    members: &[(&'static str, &str)],
) -> Saying {
    Saying { kind: kind.into(), id, content: payload.object(members) }
}

fn call_id(payload: &Members<'_>) -> Result<Box<str>, Refused> {
    let must_be = format!("a string of at most {CALL_ID_BYTES_MAX} bytes");
    let id = payload.needs_name("callId", &must_be)?;
    if id.len() > CALL_ID_BYTES_MAX { Err(wrong("callId", &must_be)) } else { Ok(id) }
}

fn call_type(payload: &Members<'_>) -> Result<(), Refused> {
    let Some(raw) = payload.value("callType") else { return Ok(()) };
    match text(raw).as_deref() {
        Some("video" | "audio") => Ok(()),
        Some(_) | None => Err(wrong("callType", "`video` or `audio`")),
    }
}

fn duration(payload: &Members<'_>) -> Result<(), Refused> {
    const MUST_BE: &str = "a number of seconds, not negative";
    let raw = payload.value("callDuration").ok_or_else(|| missing("callDuration", MUST_BE))?;
    let is_duration = is_number(raw) && !raw.starts_with('-');
    if is_duration { Ok(()) } else { Err(wrong("callDuration", MUST_BE)) }
}
