//! The seam to client protocols: how frames become commands, and outbounds become frames.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::codes::Close;
use crate::command::{Command, Continuation};
use crate::frame::{Frame, FrameSink};
use crate::limits::DecodeLimits;
use crate::outbound::Outbound;

/// What an HTTP upgrade request said, as far as dialects care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The path, without the query.
    pub path: Box<str>,
    /// The raw query, without `?`.
    pub query: Box<str>,
    /// The subprotocols offered, in the client's order.
    pub subprotocols: Vec<Box<str>>,
    /// The `Authorization` header.
    pub authorization: Option<Box<str>>,
    /// The `Fingerprint` header: which device it is, as clients of the chat protocol say.
    pub fingerprint: Option<Box<str>>,
    /// The `Origin` header.
    pub origin: Option<Box<str>>,
    /// The client's address, as trusted proxies tell it.
    pub client: IpAddr,
}

/// How a dialect writes its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// JSON text.
    Json,
    /// JSON text, large publications deflated inside.
    JsonDeflated,
    /// MessagePack maps.
    MessagePack,
    /// MessagePack maps, large publications deflated inside.
    MessagePackDeflated,
}

impl Encoding {
    /// The same for a client that can inflate.
    #[must_use]
    pub const fn deflated(self) -> Self {
        match self {
            Self::Json | Self::JsonDeflated => Self::JsonDeflated,
            Self::MessagePack | Self::MessagePackDeflated => Self::MessagePackDeflated,
        }
    }
}

/// What all members of one kind share, so that a publication is encoded once for them.
#[derive(Clone, Copy)]
pub struct Format {
    /// Whose words.
    pub dialect: &'static dyn Dialect,
    /// Written how.
    pub encoding: Encoding,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.encoding == other.encoding && self.dialect.name() == other.dialect.name()
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:?}", self.dialect.name(), self.encoding)
    }
}

/// A dialect's yes to an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How frames will be written.
    pub encoding: Encoding,
    /// The subprotocol to answer with.
    pub subprotocol: Option<&'static str>,
    /// The token, if the handshake brought one.
    pub token: Option<Box<str>>,
    /// How its session is to go on, if the handshake says so.
    pub continuation: Option<Box<Continuation>>,
}

/// A dialect's no to an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Of the subprotocols asked for it speaks none.
    Subprotocol,
    /// The query says what cannot be meant: what it must be, for a person.
    Query(Cow<'static, str>),
    /// A header says what cannot be meant: what it must be, for a person.
    Header(Cow<'static, str>),
}

/// A dialect's policies as data. Router and gateway never ask which dialect it is; they read this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The rooms a session is put into at connect: `user-{id}`, `session-{id}`, `role-{name}`, `team-{id}`.
    pub joins_own_rooms: bool,
    /// Its sessions can be resumed.
    pub resumes: bool,
    /// Clients that bring no resume token get their user's only detached session back.
    pub resumes_unasked: bool,
    /// When the node stops, clients that said nothing of how their session goes on are dropped without a Close frame,
    /// because only that makes them come back.
    pub drops_on_drain: bool,
    /// A back-end is asked whether its sessions may join what they ask for, beside the rules of rooms. They ask by
    /// [`RoomsRequest`](crate::command::RoomsRequest) alone.
    pub joins_by_call: bool,
    /// Unacked publications are given again after this long. Units: milliseconds.
    pub ack_after_ms: u64,
    /// How often, before they count as failed; 0: as long as the client is connected.
    pub ack_tries: u8,
    /// A client that says nothing for so long is closed as silent, whatever its pongs say; 0: it may say nothing. Units:
    /// milliseconds.
    pub silence_ms: u64,
    /// It has words for a gap in a room that keeps its publications; else the client is closed, so that it comes back and
    /// is given what it has not acked.
    pub tells_gaps: bool,
    /// Its users are online while they have a session: their contacts are told, as the users are of them.
    pub tells_online: bool,
    /// A token that is no good is refused as HTTP, before the upgrade; else by a Close frame.
    pub refuses_tokens_early: bool,
    /// Its sessions are put into the groups of their user, at connect and as it becomes a member of one.
    pub joins_groups: bool,
}

impl Profile {
    /// Nothing beyond what every dialect does.
    pub const PLAIN: Self = Self {
        joins_own_rooms: false,
        resumes: false,
        resumes_unasked: false,
        drops_on_drain: false,
        joins_by_call: false,
        ack_after_ms: 5_000,
        ack_tries: 3,
        silence_ms: 0,
        tells_gaps: true,
        tells_online: false,
        refuses_tokens_early: false,
        joins_groups: false,
    };
}

/// A client protocol.
pub trait Dialect: Send + Sync {
    /// Its name in configuration, metrics and documents.
    fn name(&self) -> &'static str;

    /// The path it is served on.
    fn path(&self) -> &'static str;

    /// On which terms it takes this upgrade.
    ///
    /// # Errors
    /// [`Declined`]: the upgrade asks for what is not spoken, or says what cannot be meant.
    fn accepts(&self, handshake: &Handshake) -> Result<Negotiated, Declined>;

    /// Its policies.
    fn profile(&self) -> &'static Profile;

    /// A decoder for one connection.
    fn decoder(&self, encoding: Encoding, limits: DecodeLimits) -> Box<dyn Decoder>;

    /// Appends the outbound as one or more frames, or as none where the dialect has no words for it. Keeps no state,
    /// which is what makes encoding once for all members sound.
    fn encode(&self, outbound: &Outbound<'_>, encoding: Encoding, sink: &mut FrameSink);
}

/// Reads one connection's frames. May keep state.
pub trait Decoder {
    /// Appends the frame's commands; what cannot be read becomes [`Command::Unreadable`].
    ///
    /// # Errors
    /// The close that the frame deserves: over a size limit.
    fn decode(&mut self, frame: Frame<'_>, out: &mut Vec<Command>) -> Result<(), Close>;
}
