//! What lanes, hub and their shells say to each other.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::codes::{Close, Refused};
use roomcast_protocol::command::{ReplyTo, RoomsRequest};
use roomcast_protocol::conversation::Answered;
use roomcast_protocol::envelope::{Accepted, BrokerCommand};
use roomcast_protocol::ids::{LaneId, NodeId, SessionId, SessionKey};
use roomcast_protocol::inbox::{Acked, CursorName, InboxState, Told};
use roomcast_protocol::occupancy::Occupancy;
use roomcast_protocol::outbound::{Loss, SkipReason};
use roomcast_protocol::position::{Epoch, Page, Position, Span};
use roomcast_protocol::presence::{PresenceChange, PresenceDiff, RosterPage};
use roomcast_protocol::publication::{Priority, Publication};
use roomcast_protocol::receipts::{Receipt, ReceiptDiff, ReceiptsPage};
use roomcast_protocol::room::RoomName;
use roomcast_protocol::session::{
    AttachedSession, SaveSession, SavedSession, Secret, Unattached, Wish,
};

use crate::happenings::Happening;
use crate::hub::{Ordered, Surveyed};
use crate::orders::{Order, Outcome, Revocation};
use crate::outbox::Mark;
use crate::reader::Reader;
use crate::requests::{Requested, Responded};
use crate::surveys::{Survey, SurveyPage};

pub use crate::asked::{MemberChange, Person, ReceiptsAsk, Said, Talk, TalkOf};
pub use crate::reader::{QueryId, Ticket};

/// What the hub tells a lane, in one order.
#[derive(Debug)]
pub enum LaneMessage {
    /// A publication in a room the lane hears.
    Publication {
        /// What.
        publication: Arc<Publication>,
        /// When its node gave it to the broker, in the cluster's time; 0: unknown. Units: microseconds.
        published_us: u64,
    },
    /// The lane hears the room: its members hear what comes behind this. Told again once the room is live, if it was
    /// not.
    Joined {
        /// Which room.
        room: RoomName,
        /// The newest position that its members need not wait for; `None`: the room is ephemeral, or not live.
        position: Option<Position>,
        /// The room is live; else the broker is away and its position not known.
        live: bool,
    },
    /// A publication that no member is given: its offset counts as covered.
    Skipped {
        /// In which room.
        room: RoomName,
        /// Where it stands.
        position: Position,
        /// Why: this node cannot read it, or it was removed.
        reason: SkipReason,
    },
    /// Publications of a room are lost for good: tell its members, who go on behind `position`.
    Gap {
        /// Which room.
        room: RoomName,
        /// Where its members go on.
        position: Position,
        /// Why.
        loss: Loss,
    },
    /// The answer to [`HubMessage::Read`]; `None`: the broker did not answer.
    Page {
        /// As given.
        query: u64,
        /// What is kept.
        page: Option<Page>,
    },
    /// Whether members are to be given nothing for now: orders to end sessions may have been missed (G22).
    Hold(bool),
    /// How a publication of a session of this lane ended.
    Published {
        /// Whose.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Its id, if the session wants to know that it was accepted.
        ack: Option<Box<str>>,
        /// How it ended.
        outcome: Result<Accepted, Refused>,
    },
    /// Publications for this lane's ephemeral rooms were lost: tell the members.
    Lost(Loss),
    /// Orders to end sessions were lost: end all, so that each proves itself anew (G22).
    Revalidate,
    /// Orders have not been heard for long: members of strict rooms get nothing more, and are told (G22).
    Blind,
    /// The broker went away, or is back: tell all sessions.
    Degraded {
        /// It is away.
        isolated: bool,
    },
    /// A session's wish to get an older one back is answered.
    Attached {
        /// Whose wish.
        session: SessionKey,
        /// The session it goes on with, or why it begins anew.
        outcome: Result<Box<AttachedSession>, Unattached>,
    },
    /// What became of writing a session's record.
    Saved {
        /// Whose.
        session: SessionKey,
        /// `None`: the broker did not answer.
        outcome: Option<SavedSession>,
    },
    /// A session was taken over by another connection: former ones of it end.
    Fence {
        /// Which session.
        session: SessionId,
        /// Attachments below this one end.
        generation: u64,
        /// It was handed over: what waits is flushed, and the client is told that it moved.
        moved: bool,
    },
    /// The node stops: each session has its turn to go (G14).
    Drain(DrainPlan),
    /// Users came into a room, or left it.
    Presence(Arc<PresenceDiff>),
    /// The answer to [`HubMessage::Roster`].
    Roster {
        /// Who asked.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Which room.
        room: RoomName,
        /// Who is there.
        outcome: Result<RosterPage, Refused>,
    },
    /// The answer to [`HubMessage::Inbox`]; `None`: the broker did not answer.
    Inbox {
        /// Who asked.
        session: SessionKey,
        /// Whose cursor.
        cursor: CursorName,
        /// What the device has yet to get.
        state: Option<InboxState>,
    },
    /// The answer to [`HubMessage::Mark`].
    Marked {
        /// Who said so.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Which room.
        room: RoomName,
        /// What stands for it, and the epoch of its offsets.
        outcome: Result<(Epoch, Box<Receipt>), Refused>,
    },
    /// Users of a room have got, or read, more.
    Receipts(Arc<ReceiptDiff>),
    /// The answer to [`HubMessage::Receipts`].
    ReceiptsPage {
        /// Who asked.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Which room.
        room: RoomName,
        /// How far its users are.
        outcome: Result<ReceiptsPage, Refused>,
    },
    /// The answer to [`HubMessage::Converse`].
    Conversed {
        /// Who asked.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// What is answered.
        outcome: Result<Box<Answered>, Refused>,
    },
    /// What the application answered to a session's request.
    Responded(Box<Responded>),
    /// The answer to [`Effect::Permit`].
    Permitted {
        /// Who wants to join.
        session: SessionKey,
        /// Whether it may.
        outcome: Result<(), Refused>,
    },
    /// What the node entered of its sessions' presence is void: tell again of those that were heard from since, of the
    /// others once they are.
    Presents {
        /// Units: monotonic milliseconds.
        since_ms: u64,
    },
    /// Who is in the room, on this lane?
    Members {
        /// Comes back in the answer.
        query: QueryId,
        /// Which room.
        room: RoomName,
    },
    /// Which rooms, or sessions, does the lane have? Answered by [`HubMessage::Surveyed`].
    Survey {
        /// Comes back in the answer.
        ticket: u64,
        /// What is asked.
        survey: Arc<Survey>,
    },
    /// Tokens that are revoked; the last of all that is kept, or more follows.
    Revoked {
        /// Which.
        revocations: Arc<[Revocation]>,
        /// These were the last.
        whole: bool,
    },
    /// Orders up to this place in their room have been told to the lane, or are known not to concern it.
    Obeyed(Position),
    /// Carry an order out; answered by [`HubMessage::CarriedOut`].
    Order {
        /// Comes back in the answer.
        ticket: u64,
        /// What to do.
        order: Arc<Order>,
    },
    /// End all sessions: the node stops.
    Stop,
}

/// What a lane tells the hub, in one order.
#[derive(Debug)]
pub enum HubMessage {
    /// The lane has its first member of the room, and wants to hear it.
    Join {
        /// Which lane.
        lane: LaneId,
        /// Which room.
        room: RoomName,
    },
    /// The lane has no member of the room any more.
    Leave {
        /// Which lane.
        lane: LaneId,
        /// Which room.
        room: RoomName,
    },
    /// Give me kept publications of a room.
    Read {
        /// Who asks.
        reader: Reader,
        /// Which room.
        room: RoomName,
        /// Which publications.
        span: Span,
    },
    /// The lane was late for its turn and gives nothing to anybody until [`LaneMessage::Hold`] says so (G22).
    Late(LaneId),
    /// Have all nodes do something (G22). Answered by [`HubEffect::Ordered`].
    Order {
        /// Comes back in the answer.
        query: QueryId,
        /// What they are to do.
        order: Order,
        /// How long nodes may take to say that they did. Units: milliseconds.
        timeout_ms: u64,
    },
    /// Which rooms, or sessions, do all nodes have? Answered by [`HubEffect::Surveyed`].
    Survey {
        /// Comes back in the answer.
        query: QueryId,
        /// What is asked.
        survey: Survey,
        /// How long nodes may take. Units: milliseconds.
        timeout_ms: u64,
    },
    /// The answer to [`LaneMessage::Survey`].
    Surveyed {
        /// Which lane.
        lane: LaneId,
        /// As given.
        ticket: u64,
        /// Its rooms, or sessions.
        page: SurveyPage,
    },
    /// The lane has carried an order out.
    CarriedOut {
        /// Which lane.
        lane: LaneId,
        /// As given.
        ticket: u64,
        /// What became of it there.
        outcome: Outcome,
    },
    /// Publish, and let the ticket's owner know.
    Publish {
        /// Whom the outcome concerns.
        ticket: Ticket,
        /// What.
        publication: Arc<Publication>,
        /// Remember the id (G5).
        dedup: bool,
    },
    /// Take a session over; answered by [`LaneMessage::Attached`].
    Attach {
        /// Which lane.
        lane: LaneId,
        /// Whose wish.
        session: SessionKey,
        /// Its user's name within the cluster.
        user: Box<str>,
        /// Which session it wants.
        wish: Wish,
        /// The session's secret from now on.
        secret: Secret,
        /// How long it can be resumed. Units: milliseconds.
        window_ms: u64,
    },
    /// Write a session's record.
    Save {
        /// Which lane.
        lane: LaneId,
        /// Whose; `None`: its connection is gone, and nobody waits for the answer.
        session: Option<SessionKey>,
        /// What to write.
        save: Box<SaveSession>,
    },
    /// A session was taken over: tell its former node, by an order if it is another one (G22).
    Fence {
        /// Which session.
        session: SessionId,
        /// Attachments below this one end.
        generation: u64,
        /// Where it was before.
        node: NodeId,
        /// It was handed over.
        moved: bool,
    },
    /// A member came into a room that has presence, or left it.
    Presence {
        /// Which room.
        room: RoomName,
        /// Who.
        change: PresenceChange,
    },
    /// Whether a session's user is online by it.
    Person(Person),
    /// Who is in a room? Answered by [`LaneMessage::Roster`].
    Roster {
        /// Which lane.
        lane: LaneId,
        /// Who asks.
        session: SessionKey,
        /// The user who asks and is in the room: the answer must know of it.
        member: Option<Box<str>>,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Which room.
        room: RoomName,
        /// Users behind this one; `None`: from the first.
        after: Option<Box<str>>,
        /// How many at most.
        count_max: u32,
    },
    /// What has a device yet to get in an inbox? Answered by [`LaneMessage::Inbox`].
    Inbox {
        /// Which lane.
        lane: LaneId,
        /// Who asks.
        session: SessionKey,
        /// Whose cursor.
        cursor: CursorName,
    },
    /// Move a cursor.
    Ack {
        /// Which one.
        cursor: CursorName,
        /// What was acked.
        acked: Acked,
        /// Of how many removed publications the device has been told.
        told: Told,
    },
    /// A user has certainly got a room up to there.
    Arrived {
        /// Which room.
        room: RoomName,
        /// The user's name within the cluster.
        user: Box<str>,
        /// Up to where.
        at: Position,
    },
    /// A user says how far it has got, or read, a room. Answered by [`LaneMessage::Marked`].
    Mark {
        /// Which lane.
        lane: LaneId,
        /// Whose session.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// Which room.
        room: RoomName,
        /// What it says.
        said: Said,
    },
    /// A session asks something of a conversation. Answered by [`LaneMessage::Conversed`], unless it is a signal.
    Converse(Box<Talk>),
    /// A user is to be this in a group, or none of its members any more. Answered by [`HubEffect::Ordered`], once it stands
    /// and all nodes have been told.
    SetMember {
        /// Comes back in the answer.
        query: QueryId,
        /// How long nodes have to say that they have obeyed. Units: milliseconds.
        timeout_ms: u64,
        /// Who, and what.
        change: MemberChange,
    },
    /// A user was given a message of a conversation for the first time.
    Reached {
        /// The conversation.
        room: RoomName,
        /// The user's name within the cluster.
        user: Box<str>,
        /// Where the message stands there.
        at: Position,
    },
    /// How far are users in a room? Answered by [`LaneMessage::ReceiptsPage`].
    Receipts {
        /// Which lane.
        lane: LaneId,
        /// Who asks.
        session: SessionKey,
        /// Where the answer belongs.
        reply: ReplyTo,
        /// What is asked.
        ask: ReceiptsAsk,
    },
    /// The same, asked by the shell. Answered by [`HubEffect::Receipts`].
    AskReceipts {
        /// Comes back in the answer.
        query: QueryId,
        /// What is asked.
        ask: ReceiptsAsk,
    },
    /// Who is in a room, in the whole cluster? Answered by [`HubEffect::Roster`].
    AskRoster {
        /// Comes back in the answer.
        query: QueryId,
        /// Which room.
        room: RoomName,
        /// Users behind this one; `None`: from the first.
        after: Option<Box<str>>,
        /// How many at most.
        count_max: u32,
    },
}

/// How a lane lets its sessions go when the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// Over how long the lane's sessions have their turns, evenly. Units: milliseconds.
    pub window_ms: u64,
    /// When the last turn must have begun, from the drain's begin on; `window_ms` or more. Units: milliseconds.
    pub limit_ms: u64,
    /// How long a client has that hands over, from its turn on. Units: milliseconds.
    pub turn_ms: u64,
}

/// One member of a room, as the server API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// The user's name within the cluster.
    pub user: Box<str>,
    /// The session.
    pub session: SessionId,
}

/// A lane's answer to a question of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`LaneMessage::Members`].
    Members(Vec<MemberInfo>),
}

/// What a lane wants done by its shell, in order.
#[derive(Debug)]
pub enum Effect {
    /// Put a frame into a connection's outbox.
    Send {
        /// The session's index.
        to: u32,
        /// Whole frames, framing included, shared by all who get them. Empty: nothing to send, but what waits for
        /// the connection now leaves before what comes later, of any class (an outbox takes it as it is).
        frame: Bytes,
        /// In which class.
        class: Priority,
        /// What may be done with it when the outbox is full; `None`: nothing.
        mark: Option<Arc<Mark>>,
    },
    /// Say by [`Lane::relieved`](crate::lane::Lane::relieved) when the connection's outbox has space again, at once if
    /// it has.
    Await {
        /// The session's index.
        to: u32,
        /// Wait until nothing waits; else until half of it is free.
        empty: bool,
    },
    /// Send a WebSocket ping, behind all that waits.
    Ping {
        /// The session's index.
        to: u32,
        /// Comes back in the pong.
        number: u32,
    },
    /// End the connection; the session is gone already.
    Close {
        /// The session's index.
        to: u32,
        /// Why.
        close: Close,
    },
    /// End the connection of a client that said nothing for as long as its dialect lets it; the session is gone already.
    Silent {
        /// The session's index.
        to: u32,
        /// When it said something last. Units: milliseconds since the Unix epoch.
        said_unix_ms: u64,
    },
    /// End the connection without a Close frame; the session is gone already.
    Drop {
        /// The session's index.
        to: u32,
        /// Why, for the counters.
        close: Close,
    },
    /// The session is ready: go on reading.
    Ready {
        /// The session's index.
        to: u32,
    },
    /// Tell the hub.
    Hub(HubMessage),
    /// Ask the application.
    Request(Box<Requested>),
    /// Ask the application whether a session may join; answered by [`LaneMessage::Permitted`].
    Permit {
        /// Who wants to.
        session: SessionKey,
        /// Where to: rooms that the rules allow, or none at all.
        request: Arc<RoomsRequest>,
    },
    /// Tell the application, in front of whatever ends the connection.
    Happened {
        /// The session's index.
        of: u32,
        /// What; the shell adds where the client is.
        happening: Box<Happening>,
    },
    /// Answer a question.
    Answer(QueryId, Answer),
}

impl Effect {
    /// A frame for one session that is never let go, in the highest class.
    #[must_use]
    pub const fn reply(to: u32, frame: Bytes) -> Self {
        Self::Send { to, frame, class: Priority::High, mark: None }
    }
}

/// What the hub wants done by its shell, in order.
#[derive(Debug)]
pub enum HubEffect {
    /// Tell a lane.
    Lane(LaneId, LaneMessage),
    /// Tell the broker.
    Broker(BrokerCommand<Ticket>),
    /// A publication of the shell's own ended.
    Answer(QueryId, Result<Accepted, Refused>),
    /// The answer to [`HubMessage::AskRoster`].
    Roster(QueryId, Result<RosterPage, Refused>),
    /// The answer to [`Reader::Query`]; `None`: the room keeps nothing, or the broker did not answer.
    History(QueryId, Option<Page>),
    /// The answer to [`HubMessage::AskReceipts`].
    Receipts(QueryId, Result<ReceiptsPage, Refused>),
    /// The answer to [`HubMessage::Order`].
    Ordered(QueryId, Result<Ordered, Refused>),
    /// The answer to [`HubMessage::Survey`].
    Surveyed(QueryId, Result<Surveyed, Refused>),
    /// Tell the application that a room became occupied or vacated, then call `Hub::occupied_told` with the number. Of one
    /// room there is one at a time.
    Occupied {
        /// In which partition of the broker the room is.
        partition: u16,
        /// This node's own number of the event.
        number: u64,
        /// The event: its id is the room with the version.
        event: Occupancy,
    },
}
