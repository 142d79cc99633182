//! Who is in groups: the application says it, the broker keeps it, and all nodes are told.

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, StatusCode};
use roomcast_protocol::codes::Refused;
use roomcast_protocol::conversation::{self, Role};
use roomcast_router::messages::MemberChange;
use serde::{Deserialize, Serialize};

use super::orders::{Told, is_name, sessions, timeout_of, wrong};
use super::problem::Problem;
use super::{Answer, Api, answer, body};

/// The body of what a user is in a group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    role: Box<str>,
}

/// The answer: what holds now.
#[derive(Serialize)]
struct Member<'a> {
    group: &'a str,
    user: &'a str,
    /// Absent: it is no member.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Sessions that are in the group's room by it, or were taken out.
    sessions: u64,
    #[serde(flatten)]
    told: Told,
}

impl Api {
    /// A user is a member of a group, or its owner, from now on.
    pub(super) async fn set_member<B>(
        &self,
        name: &str,
        (group, user): (&str, String),
        request: Request<B>,
    ) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        let body = body::json(request, self.parts.config.message_bytes_max).await?;
        let text = "The body is `role`, which is \"owner\" or \"member\"";
        let no_role = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text.into());
        let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| no_role())?;
        let role = Role::named(&wanted.role).ok_or_else(no_role)?;
        self.change_member(name, (group, user), Some(role), timeout_ms).await
    }

    /// A user is no member of a group any more.
    pub(super) async fn remove_member<B>(
        &self,
        name: &str,
        (group, user): (&str, String),
        request: Request<B>,
    ) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let timeout_ms = timeout_of(request.uri().query().unwrap_or_default())?;
        body::none(request, self.parts.config.message_bytes_max).await?;
        self.change_member(name, (group, user), None, timeout_ms).await
    }

    async fn change_member(
        &self,
        name: &str,
        (group, user): (&str, String),
        role: Option<Role>,
        timeout_ms: u64,
    ) -> Answer {
        let room = conversation::group(group).map_err(Refused::from)?;
        if !is_name(&user) {
            return Err(wrong("This can be no user's name").into());
        }
        if !self.parts.config.groups {
            let text = "Nobody could be in a group: set dialects.chat.enabled = true";
            return Err(Problem::new(StatusCode::CONFLICT, text.into()));
        }
        let change = MemberChange { group: room, user: user.as_str().into(), role };
        let ordered = self.parts.core.set_member(change, timeout_ms);
        let ordered = self.obeyed(name, "member", timeout_ms, ordered).await?;
        let role = role.map(Role::name);
        let (sessions, told) = (sessions(&ordered), Told::new(&ordered));
        let member = Member { group, user: &user, role, sessions, told };
        Ok(answer::json(StatusCode::OK, &member))
    }
}
