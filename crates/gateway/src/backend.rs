//! What back-ends publish, whichever way it came: may they, and what does it become? The rules are those of clients'
//! publications, the rights a back-end's.

use std::time::Duration;

use roomcast_protocol::codes::{Refusal, Refused};
use roomcast_protocol::command::Publish;
use roomcast_protocol::guard::{Guard, Principal, PublishRight};
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;
use roomcast_router::lane::publication_of;

/// How long a publication's outcome is awaited. Less than the core remembers who asked, and longer than the hub and the
/// broker take together when the broker comes and goes.
pub(crate) const OUTCOME_WAIT: Duration = Duration::from_secs(10);

/// The publication that is asked for, if `who` may publish it. One without an id is given one.
///
/// # Errors
/// The room's name is none, its rule says no, or not of this type.
pub(crate) fn publication(
    guard: &dyn Guard,
    who: &Principal,
    publish: Publish,
    now: Now,
) -> Result<Publication, Refused> {
    let room = RoomName::parse(&publish.room)?;
    let rule = guard.rule(&room).ok_or(Refusal::PermissionDenied)?;
    let allowed = match guard.may_publish(rule, &room, who) {
        PublishRight::Yes => true,
        PublishRight::OwnAgent => who.agent_id.is_some() && who.agent_id == publish.agent_id,
        PublishRight::No => false,
    };
    if !allowed {
        return Err(Refusal::PermissionDenied.into());
    }
    let types = &guard.policy(rule).types;
    if !types.is_empty() && !types.contains(&publish.kind) {
        let text = format!("This room takes only the types {}", types.join(", "));
        return Err(Refused::because(Refusal::Schema, text.into()));
    }
    let made = || uuid::Uuid::new_v4().to_string().into();
    let id = publish.id.clone().unwrap_or_else(made);
    let (_, _, publication) = publication_of(publish, room, id, who, now);
    Ok(publication)
}
