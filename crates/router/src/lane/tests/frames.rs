//! The scripts' dialect and guard: frames that a person can read, rights that a table holds.

use roomcast_protocol::command::ReplyTo;
use roomcast_protocol::dialect::{
    Declined, Decoder, Dialect, Encoding, Handshake, Negotiated, Profile,
};
use roomcast_protocol::frame::FrameSink;
use roomcast_protocol::guard::{
    AuthError, Guard, Kind, Policy, Principal, PublishRight, RuleIndex,
};
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::limits::DecodeLimits;
use roomcast_protocol::outbound::{Outbound, SkipReason};
use roomcast_protocol::position::{Direction, Epoch, Keep, Kept, Position};
use roomcast_protocol::presence::{PresenceDiff, PresenceMode};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::ResumeToken;

use super::{content_text, groups, receipts, requests};

/// Sessions join no rooms by themselves.
pub(super) static PLAIN: Texts = Texts { name: "plain", profile: &Profile::PLAIN };

/// Sessions join their own rooms at connect.
pub(super) static OWN: Texts =
    Texts { name: "own", profile: &Profile { joins_own_rooms: true, ..Profile::PLAIN } };

/// The same, and can be resumed.
pub(super) static LASTING: Texts = Texts {
    name: "lasting",
    profile: &Profile { joins_own_rooms: true, resumes: true, ..Profile::PLAIN },
};

/// Sessions can be resumed by clients that know nothing of it, and that come back only if they are dropped.
pub(super) static STOCK: Texts = Texts {
    name: "stock",
    profile: &Profile {
        resumes: true,
        resumes_unasked: true,
        drops_on_drain: true,
        ..Profile::PLAIN
    },
};

/// The same, and they join their own rooms at connect: the seed's client.
pub(super) static SEED: Texts = Texts {
    name: "seed",
    profile: &Profile {
        joins_own_rooms: true,
        resumes: true,
        resumes_unasked: true,
        ..Profile::PLAIN
    },
};

/// Clients come back only if they are dropped.
pub(super) static DROPPED: Texts =
    Texts { name: "dropped", profile: &Profile { drops_on_drain: true, ..Profile::PLAIN } };

/// Sessions are given again what they do not ack for as long as they are there.
pub(super) static PATIENT: Texts =
    Texts { name: "patient", profile: &Profile { ack_tries: 0, ..Profile::PLAIN } };

/// A back-end is asked where its sessions may be.
pub(super) static ASKING: Texts =
    Texts { name: "asking", profile: &Profile { joins_by_call: true, ..Profile::PLAIN } };

/// Clients are closed at a gap, and when they say nothing for 20 s.
pub(super) static WORDLESS: Texts = Texts {
    name: "wordless",
    profile: &Profile { tells_gaps: false, silence_ms: 20_000, ..Profile::PLAIN },
};

/// The same, and their sessions join their own rooms at connect.
pub(super) static TALKING: Texts = Texts {
    name: "talking",
    profile: &Profile { joins_own_rooms: true, ack_tries: 0, ..*WORDLESS.profile },
};

/// Users are online by their sessions, which are given again what they do not ack for as long as they are there.
pub(super) static ONLINE: Texts = Texts {
    name: "online",
    profile: &Profile { tells_online: true, ack_tries: 0, ..Profile::PLAIN },
};

/// Sessions join their own rooms at connect, and those of their user's groups.
pub(super) static GROUPED: Texts =
    Texts { name: "grouped", profile: &Profile { joins_groups: true, ..*TALKING.profile } };

/// All of them, by name.
pub(super) static ALL: [&Texts; 12] = [
    &PLAIN, &OWN, &LASTING, &STOCK, &SEED, &DROPPED, &PATIENT, &ASKING, &WORDLESS, &TALKING,
    &ONLINE, &GROUPED,
];

/// A dialect of short texts.
pub(super) struct Texts {
    name: &'static str,
    profile: &'static Profile,
}

impl Dialect for Texts {
    fn name(&self) -> &'static str {
        self.name
    }

    fn path(&self) -> &'static str {
        "/"
    }

    fn accepts(&self, _handshake: &Handshake) -> Result<Negotiated, Declined> {
        Err(Declined::Subprotocol)
    }

    fn profile(&self) -> &'static Profile {
        self.profile
    }

    fn decoder(&self, _encoding: Encoding, _limits: DecodeLimits) -> Box<dyn Decoder> {
        unreachable!("scripts hand over commands")
    }

    fn encode(&self, outbound: &Outbound<'_>, encoding: Encoding, sink: &mut FrameSink) {
        let text = text_of(outbound);
        let mark = match encoding {
            Encoding::Json => "",
            Encoding::JsonDeflated => "z ",
            Encoding::MessagePack => "m ",
            Encoding::MessagePackDeflated => "mz ",
        };
        sink.text(|out| out.extend_from_slice(format!("{mark}{text}").as_bytes()));
    }
}

fn text_of(outbound: &Outbound<'_>) -> String {
    let id = |reply: &ReplyTo| reply.id.as_ref().map_or(String::new(), |id| format!(" #{id}"));
    match outbound {
        Outbound::Redelivered(it) => format!("again {}", text_of(&Outbound::Publication(it))),
        Outbound::Lost { room, count } => format!("lost {room} {count}"),
        Outbound::Presence { diff, mode } => {
            let PresenceDiff { room, version, count, joined, left } = diff;
            let mode = if *mode == PresenceMode::Count { " counted" } else { "" };
            let came = joined.iter().map(|user| format!(" +{user}"));
            let names: String = came.chain(left.iter().map(|user| format!(" -{user}"))).collect();
            format!("presence {room} {} {count}{names}{mode}", version.offset)
        }
        Outbound::Roster { reply, room, page, mode } => {
            let mode = if *mode == PresenceMode::Count { " counted" } else { "" };
            let more = if page.more { " more" } else { "" };
            let users = if page.users.is_empty() { "-".into() } else { page.users.join(",") };
            let at = page.version.offset;
            format!("roster {room} {at} {} {users}{more}{mode}{}", page.count, id(reply))
        }
        Outbound::Marked { reply, room, epoch, receipt } => {
            format!("marked {room}{}{}", receipts::shown(*epoch, receipt), id(reply))
        }
        Outbound::Receipts(diff) => format!("rose {} {}", diff.room, receipts::rose(diff)),
        Outbound::ReceiptsPage { reply, room, page } => {
            format!("receipts {room} {}{}", receipts::page_shown(page), id(reply))
        }
        Outbound::Response { reply, response } => {
            format!("response {}{}", requests::answer(response), id(reply))
        }
        Outbound::Drain { turn_ms, token } => format!("drain {turn_ms} with {}", proof(token)),
        Outbound::Welcome { who, session, resume, resumed } => {
            let offer = resume.map_or(String::new(), |it| format!(" token {}", proof(&it.token)));
            let resumed = match resumed {
                None => String::new(),
                Some(Ok(())) => " resumed".into(),
                Some(Err(why)) => format!(" not resumed: {}", why.name()),
            };
            format!("welcome {} {:x}{offer}{resumed}", who.id, { session.0 })
        }
        Outbound::Pong { timestamp: Some(timestamp), .. } => {
            format!("pong {}", std::str::from_utf8(timestamp).unwrap())
        }
        Outbound::Pong { timestamp: None, unix_ms } => format!("pong at {unix_ms}"),
        Outbound::Joined { reply, room, entry } => {
            let at = entry.position.map_or(String::new(), |at| format!(" at {}", place(at)));
            let recovered = match entry.recovered {
                None => String::new(),
                Some(Ok(())) => " recovered".into(),
                Some(Err(why)) => format!(" {}", why.name()),
            };
            let live = if entry.live { "" } else { " not live" };
            format!("joined {room}{}{at}{recovered}{live}", id(reply))
        }
        Outbound::Left { reply, room, ordered } => {
            format!("left {room}{}{}", id(reply), if *ordered { " ordered" } else { "" })
        }
        Outbound::Rooms { request, refused } => groups::shown(request, *refused),
        Outbound::Accepted { id, accepted } => {
            let at = accepted.position.map_or(String::new(), |at| format!(" at {}", place(at)));
            format!("accepted {id}{at}{}", if accepted.dedup_short { " short" } else { "" })
        }
        Outbound::Refused { reply, refused, .. } => {
            let room = reply.room.as_ref().map_or(String::new(), |room| format!(" {room}"));
            let wait = refused.retry_after_ms.map_or(String::new(), |ms| format!(" wait {ms}"));
            let unknown = if refused.unknown { " unknown" } else { "" };
            format!("refused{room}{}{unknown}: {}{wait}", id(reply), refused.message)
        }
        Outbound::Conversed { reply, answered, .. } => {
            format!("conversed{}: {answered:?}", id(reply))
        }
        Outbound::Refreshed { reply, expires_unix_ms } => {
            format!("refreshed{} until {expires_unix_ms}", id(reply))
        }
        Outbound::TokenExpiring { expires_unix_ms } => format!("expiring at {expires_unix_ms}"),
        Outbound::Publication(publication) => {
            let at = publication.position.map_or(String::new(), |at| format!(" @{}", place(at)));
            format!("{} {}{at}", publication.room, content_text(&publication.content))
        }
        Outbound::Gap { room: None, loss } => format!("gap {}", loss.name()),
        Outbound::Gap { room: Some((room, at)), loss } => {
            format!("gap {room} at {} {}", place(*at), loss.name())
        }
        Outbound::Skip { room, epoch, to, count, reasons } => {
            let reasons: Vec<_> = reasons.iter().map(SkipReason::name).collect();
            let to = place(Position { epoch: *epoch, offset: *to });
            format!("skip {room} to {to} count {count} {}", reasons.join("+"))
        }
        Outbound::History { reply, room, direction, page, next } => {
            let places = page.entries.iter().filter_map(Kept::position).map(place);
            let places = places.collect::<Vec<_>>().join(",");
            let next = next.map_or(String::new(), |next| format!(" next {next}"));
            let backward = *direction == Direction::Backward;
            let direction = if backward { "backward" } else { "forward" };
            format!("history {room}{} {direction} [{places}]{next}", id(reply))
        }
        Outbound::Degraded { isolated } => format!("degraded {isolated}"),
    }
}

/// Short for a token: session and secret.
fn proof(token: &ResumeToken) -> String {
    format!("{:x}.{}", { token.session.0 }, { token.secret.0 })
}

/// Short for a position: the offset, behind its epoch's number where that is not the first.
pub(super) fn place(Position { epoch, offset }: Position) -> String {
    if epoch == Epoch(1) { offset.to_string() } else { format!("e{}.{offset}", { epoch.0 }) }
}

/// Reads what [`place`] writes.
pub(super) fn position(text: &str) -> Position {
    let (epoch, offset) = text
        .strip_prefix('e')
        .map_or(("1", text), |it| it.split_once('.').expect("an epoch, a dot, an offset"));
    Position { epoch: Epoch(epoch.parse().unwrap()), offset: offset.parse().unwrap() }
}

/// The payloads of frames from a server: short, medium and long ones.
pub(super) fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !frames.is_empty() {
        assert_eq!(frames[0], 0x81, "a whole text frame");
        let (header, length) = match frames[1] {
            126 => (4, usize::from(u16::from_be_bytes([frames[2], frames[3]]))),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(frames[2..10].try_into().unwrap())).unwrap(),
            ),
            short => (2, usize::from(short)),
        };
        found.push(String::from_utf8(frames[header..header + length].to_vec()).unwrap());
        frames = &frames[header + length..];
    }
    found
}

/// Rights by table, tokens by their text: `ann+permission%role~team@agent!backend<expiry_s^realm`.
pub(super) struct Table {
    policies: Vec<Policy>,
}

/// What a room's name begins with, by rule.
const RULES: [&str; 24] = [
    "news", "secret", "agent", "typed", "urgent", "slow", "user-", "session-", "role-", "team-",
    "tape", "lowtape", "strict", "crowd", "tally", "box", "devices", "mustkeep", "must", "talk",
    "duty", "mute", "called", "chat-",
];

impl Default for Table {
    fn default() -> Self {
        let conflating = Policy { conflates: true, ..Policy::default() };
        let mut policies = vec![conflating; RULES.len()];
        policies[3].types = vec!["a".into(), "b".into()];
        policies[4].priority = Priority::High;
        policies[5].priority = Priority::Low;
        policies[11].priority = Priority::Low;
        let keep =
            Keep { size: 100, bytes_max: 1 << 20, ttl_ms: 1 << 30, replicated: false, inbox: None };
        policies[10].history = Some(keep);
        policies[11].history = Some(keep);
        policies[12].strict = true;
        policies[13].presence = PresenceMode::Members;
        policies[14].presence = PresenceMode::Count;
        policies[15].history = Some(Keep { inbox: Some(CursorOf::User), ..keep });
        policies[15].cursor = Some(CursorOf::User);
        policies[16].history = Some(Keep { inbox: Some(CursorOf::Device), ..keep });
        policies[16].cursor = Some(CursorOf::Device);
        policies[17].history = Some(keep);
        policies[17].requires_ack = true;
        policies[18].requires_ack = true;
        policies[19].history = Some(keep);
        policies[19].receipts = true;
        policies[20] = Policy { requires_ack: true, ..policies[19].clone() };
        policies[21].history = Some(keep);
        policies[22].by_call = true;
        policies[23] = Policy { conversation: true, quiet: true, ..policies[19].clone() };
        Self { policies }
    }
}

impl Table {
    /// Users' own rooms tell who is in them, and so do some that keep publications.
    pub(super) fn show_own_rooms(&mut self) {
        self.policies[6].presence = PresenceMode::Members;
        self.policies[10].presence = PresenceMode::Members;
    }

    /// Users' own rooms keep publications.
    pub(super) fn keep_own_rooms(&mut self) {
        self.policies[6].history = self.policies[10].history;
    }

    /// Users' own rooms are inboxes.
    pub(super) fn make_own_rooms_inboxes(&mut self) {
        self.policies[6] = self.policies[15].clone();
    }

    /// Nobody who knows nothing of positions is told of users' own rooms.
    pub(super) fn make_own_rooms_quiet(&mut self) {
        self.policies[6].quiet = true;
    }
}

impl Guard for Table {
    fn verify(&self, token: &str, unix_ms: u64) -> Result<Principal, AuthError> {
        match token {
            "bad" => return Err(AuthError::Unauthorized("the token is bad")),
            "broken" => return Err(AuthError::CheckFailed("no key at hand")),
            _ => {}
        }
        let mut who = Principal {
            kind: Kind::User,
            realm: "".into(),
            id: "".into(),
            permissions: Default::default(),
            roles: Default::default(),
            teams: Default::default(),
            agent_id: None,
            expires_unix_ms: 1 << 50,
            issued_unix_ms: 0,
            token_id: Box::default(),
            claims: "{}".into(),
        };
        let (mut permissions, mut roles, mut teams) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = token;
        let mut mark = ' ';
        if token.contains('!') {
            who.kind = Kind::Backend;
        }
        while !rest.is_empty() {
            let end =
                rest.find(['+', '%', '~', '@', '!', '<', '^', '=', '#']).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            match mark {
                '+' => permissions.push(word),
                '%' => roles.push(word),
                '~' => teams.push(word),
                '@' => who.agent_id = Some(word.into()),
                '!' => {}
                '<' => who.expires_unix_ms = word.parse::<u64>().unwrap() * 1_000,
                '^' => who.realm = word.into(),
                '=' => who.issued_unix_ms = word.parse::<u64>().unwrap() * 1_000,
                '#' => who.token_id = word.into(),
                _ => who.id = word.into(),
            }
            mark = behind.chars().next().unwrap_or(' ');
            rest = behind.get(1..).unwrap_or("");
        }
        who.permissions = permissions.into_iter().collect();
        who.roles = roles.into_iter().collect();
        who.teams = teams.into_iter().collect();
        if who.expires_unix_ms <= unix_ms {
            return Err(AuthError::Unauthorized("the token has expired"));
        }
        Ok(who)
    }

    fn rule(&self, room: &RoomName) -> Option<RuleIndex> {
        let at = RULES.iter().position(|rule| room.as_str().starts_with(rule))?;
        u16::try_from(at).ok().map(RuleIndex)
    }

    fn policy(&self, rule: RuleIndex) -> &Policy {
        &self.policies[usize::from(rule.0)]
    }

    fn may_join(&self, rule: RuleIndex, room: &RoomName, who: &Principal) -> bool {
        match RULES[usize::from(rule.0)] {
            "secret" => who.holds("secret"),
            "role-" => who.roles.iter().any(|role| room.as_str() == format!("role-{role}")),
            "user-" | "session-" | "team-" | "called" => false,
            _ => true,
        }
    }

    fn may_publish(&self, rule: RuleIndex, _room: &RoomName, who: &Principal) -> PublishRight {
        match RULES[usize::from(rule.0)] {
            "secret" if who.holds("secret") => PublishRight::Yes,
            "agent" => PublishRight::OwnAgent,
            "secret" | "user-" | "session-" | "role-" | "team-" => PublishRight::No,
            _ => PublishRight::Yes,
        }
    }

    /// `k7:` in front of a text is key 7.
    fn conflate_key(&self, _rule: RuleIndex, publication: &Publication) -> Option<u64> {
        let text = content_text(&publication.content);
        text.strip_prefix('k')?.split_once(':')?.0.parse().ok()
    }

    fn collapse_key(&self, _rule: RuleIndex, _publication: &Publication) -> Option<Box<str>> {
        None
    }
}
