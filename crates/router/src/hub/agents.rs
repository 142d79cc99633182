//! Which agents count as connected, and telling so in the rooms made for it.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::{Now, iso8601};

use super::{Deadline, Hub};
use crate::messages::{HubEffect, HubMessage, Ticket};

#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) connections: u32,
    /// When it counts as disconnected, if it has no connection.
    pub(super) gone_at_ms: Option<u64>,
}

impl Hub {
    pub(super) fn agent_up(&mut self, now: Now, id: &str, out: &mut Vec<HubEffect>) {
        let known = self.agents.contains_key(id);
        let agent = self.agents.entry(id.into()).or_default();
        agent.connections += 1;
        if let Some(at) = agent.gone_at_ms.take() {
            self.deadlines.remove(&(at, Deadline::Agent(id.into())));
        }
        if !known {
            self.tell_of_agent(now, "agent_connected", "online", id, out);
        }
    }

    pub(super) fn agent_down(&mut self, now: Now, id: &str) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.connections = agent.connections.saturating_sub(1);
        if agent.connections == 0 {
            let at = now.mono_ms.saturating_add(self.config.leave_grace_ms);
            agent.gone_at_ms = Some(at);
            self.deadlines.insert((at, Deadline::Agent(id.into())));
        }
    }

    /// Publishes into `agents` and the agent's own room, as the native seed's agent messages do.
    pub(super) fn tell_of_agent(
        &mut self,
        now: Now,
        kind: &str,
        status: &str,
        id: &str,
        out: &mut Vec<HubEffect>,
    ) {
        let timestamp = iso8601(now.unix_ms);
        let content = agent_content(id, status, &timestamp);
        for name in ["agents".to_owned(), format!("agent-{id}")] {
            let Ok(room) = RoomName::parse(&name) else { continue };
            self.ids_made += 1;
            let publication = Publication {
                id: format!("{}-{}", self.config.node, self.ids_made).into(),
                kind: kind.into(),
                timestamp: timestamp.as_str().into(),
                sender: self.config.node.clone(),
                ..Publication::bare(room, Content::Json(content.clone()))
            };
            let publication = Arc::new(publication);
            let message = HubMessage::Publish { ticket: Ticket::Node, publication, dedup: false };
            self.message(now, message, out);
        }
    }
}

/// The id is written as a number where it is one, as the seed's examples do.
pub(super) fn agent_content(id: &str, status: &str, timestamp: &str) -> Bytes {
    let canonical = id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
    let mut text = String::from("{\"agent_id\":");
    if canonical {
        text.push_str(id);
    } else {
        text.push('"');
        for character in id.chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                control if control.is_control() => {
                    text.push_str(&format!("\\u{:04x}", u32::from(control)));
                }
                plain => text.push(plain),
            }
        }
        text.push('"');
    }
    text.push_str(&format!(",\"status\":\"{status}\",\"last_seen\":\"{timestamp}\"}}"));
    text.into()
}
