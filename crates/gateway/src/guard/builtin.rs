//! The built-in rules: what every room of the native seed is for, safe by default. In Rust, because most joins and
//! publications end here. Source: delivery, "Rooms".

use std::sync::LazyLock;

use roomcast_protocol::guard::{Kind, Policy, Principal, PublishRight};
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::Keep;
use roomcast_protocol::presence::PresenceMode;

use super::pattern::is_int;
use crate::config::HISTORY;

/// What a rule without words of its own says.
pub(super) static OPEN: Policy = Policy::OPEN;

/// What the rule of a user's room says: an inbox of 1,000 publications, 1 MiB, 7 days.
static INBOX: LazyLock<Policy> = LazyLock::new(|| Policy {
    history: Some(Keep {
        size: 1_000,
        bytes_max: 1 << 20,
        ttl_ms: 7 * 86_400_000,
        replicated: false,
        inbox: Some(CursorOf::User),
    }),
    cursor: Some(CursorOf::User),
    // All clients have one, few have anything in it, and the seed's client waits for no such answer.
    quiet: true,
    ..Policy::OPEN
});

/// The same where clients of chat are served: what one device acks the others still get.
static INBOX_OF_DEVICES: LazyLock<Policy> = LazyLock::new(|| {
    let device = Some(CursorOf::Device);
    let history = INBOX.history.map(|keep| Keep { inbox: device, ..keep });
    Policy { history, cursor: device, ..INBOX.clone() }
});

/// What the rule of a dialog's or a group's room says where clients of chat are served: people talk in it, who see 10,000
/// messages, 64 MiB, 365 days.
static DIALOG: LazyLock<Policy> = LazyLock::new(|| Policy {
    history: Some(Keep {
        size: 10_000,
        bytes_max: 64 << 20,
        ttl_ms: 365 * 86_400_000,
        replicated: false,
        inbox: None,
    }),
    receipts: true,
    conversation: true,
    ..Policy::OPEN
});

/// What the rule of `demo-team` says: all that a room can tell of its members, to be tried without a rule of one's own.
static DEMO_TEAM: LazyLock<Policy> = LazyLock::new(|| Policy {
    history: Some(HISTORY),
    presence: PresenceMode::Members,
    receipts: true,
    ..Policy::OPEN
});

/// A row of the built-in table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// `system`, `alerts`.
    System,
    /// `maintenance`.
    Maintenance,
    /// `agents`.
    Agents,
    /// `agent-{id:int}`.
    Agent,
    /// `tasks`.
    Tasks,
    /// `task-{id:int}`.
    Task,
    /// `group-{id:int}`.
    Group,
    /// `team-{id}`.
    Team,
    /// `role-{name}`.
    Role,
    /// `user-{id}`.
    User,
    /// `session-{id}`.
    Session,
    /// `dialog-{a}:{b}`.
    Dialog,
    /// `chat-{id}`.
    Private,
    /// `demo`, `demo-{any}`, with `--dev` alone.
    Demo,
    /// `demo-team`, with `--dev` alone.
    DemoTeam,
}

impl Builtin {
    /// All of them, in the order of their indices.
    pub(super) const ALL: [Self; 15] = [
        Self::System,
        Self::Maintenance,
        Self::Agents,
        Self::Agent,
        Self::Tasks,
        Self::Task,
        Self::Group,
        Self::Team,
        Self::Role,
        Self::User,
        Self::Session,
        Self::Dialog,
        Self::Private,
        Self::Demo,
        Self::DemoTeam,
    ];

    /// The row for a room, if any.
    pub(super) fn find(room: &str, dev: bool) -> Option<Self> {
        match room {
            "system" | "alerts" => return Some(Self::System),
            "maintenance" => return Some(Self::Maintenance),
            "agents" => return Some(Self::Agents),
            "tasks" => return Some(Self::Tasks),
            "demo" if dev => return Some(Self::Demo),
            "demo-team" if dev => return Some(Self::DemoTeam),
            _ => {}
        }
        let (kind, rest) = room.split_once('-')?;
        match kind {
            "agent" if is_int(rest) => Some(Self::Agent),
            "task" if is_int(rest) => Some(Self::Task),
            "group" if is_int(rest) => Some(Self::Group),
            _ if rest.is_empty() => None,
            "team" => Some(Self::Team),
            "role" => Some(Self::Role),
            "user" => Some(Self::User),
            "session" => Some(Self::Session),
            "dialog" => Some(Self::Dialog),
            "chat" => Some(Self::Private),
            "demo" if dev => Some(Self::Demo),
            _ => None,
        }
    }

    /// What the row says beside its rights: a user's room is an inbox (G16), `demo-team` tells all, dialogs and groups are
    /// kept where clients of chat are served, the others keep nothing.
    pub(super) fn policy(self, chat: bool) -> &'static Policy {
        match self {
            Self::User if chat => &INBOX_OF_DEVICES,
            Self::User => &INBOX,
            Self::Dialog | Self::Private if chat => &DIALOG,
            Self::DemoTeam => &DEMO_TEAM,
            Self::System
            | Self::Maintenance
            | Self::Agents
            | Self::Agent
            | Self::Tasks
            | Self::Task
            | Self::Group
            | Self::Team
            | Self::Role
            | Self::Session
            | Self::Dialog
            | Self::Private
            | Self::Demo => &OPEN,
        }
    }

    pub(super) fn may_join(self, room: &str, who: &Principal) -> bool {
        let id = rest(room);
        let demo = matches!(self, Self::Demo | Self::DemoTeam);
        if who.kind == Kind::Anonymous && !demo {
            return false;
        }
        match self {
            Self::System => who.holds("view_system"),
            Self::Maintenance | Self::Demo | Self::DemoTeam => true,
            Self::Agents => who.holds("view_agents"),
            Self::Agent => who.holds("view_agents") || holds_for(who, "view_agent:", id),
            Self::Tasks => who.holds("view_tasks"),
            Self::Task => who.holds("view_tasks") || holds_for(who, "view_task:", id),
            Self::Group => who.holds("view_groups") || holds_for(who, "view_group:", id),
            Self::Team => who.teams.contains(id),
            Self::Role => who.roles.contains(id),
            Self::User => who.user_key() == id,
            // The router enters own sessions by itself; by name nobody does.
            Self::Session | Self::Dialog | Self::Private => false,
        }
    }

    pub(super) fn may_publish(self, room: &str, who: &Principal) -> PublishRight {
        if matches!(self, Self::Dialog | Self::Private) {
            return PublishRight::No;
        }
        if who.kind == Kind::Backend || matches!(self, Self::Demo | Self::DemoTeam) {
            return PublishRight::Yes;
        }
        match (self, who.agent_id.as_deref()) {
            (Self::Agents, Some(_)) => PublishRight::OwnAgent,
            (Self::Agent, Some(own)) if own == rest(room) => PublishRight::Yes,
            _ => PublishRight::No,
        }
    }
}

/// What follows the first `-`.
fn rest(room: &str) -> &str {
    room.split_once('-').map_or("", |(_, rest)| rest)
}

fn holds_for(who: &Principal, right: &str, id: &str) -> bool {
    who.permissions.iter().any(|held| held.strip_prefix(right) == Some(id))
}
