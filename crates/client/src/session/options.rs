//! What an application chooses for a session: the seed's figures, unless it says otherwise.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::options::{Options, TokenIn};

/// A token, or why there is none.
pub(crate) type TokenFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Where new tokens come from.
pub(crate) type TokenSource = Arc<dyn Fn() -> TokenFuture + Send + Sync>;

/// When to come back. Source: native seed, "Automatic Reconnection".
#[derive(Clone, Debug, PartialEq)]
pub struct Reconnect {
    /// The longest the first delay may be; each is drawn anew from zero to its bound, so that clients do not come in step.
    pub first: Duration,
    /// By how much the bound grows with each attempt.
    pub factor: f64,
    /// The longest any delay may be, unless the node asks for more.
    pub most: Duration,
    /// Attempts in a row after which the session ends.
    pub attempts_max: u32,
}

impl Default for Reconnect {
    /// 1 s, × 1.5, at most 30 s, 10 attempts.
    fn default() -> Self {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { first, factor: 1.5, most, attempts_max: 10 }
    }
}

impl Reconnect {
    pub(crate) const fn backoff(&self) -> Backoff {
        Backoff::new(self.first, self.factor, self.most)
    }
}

/// How a dead connection is noticed. Source: native seed, "Heartbeat & Keep-alive".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often the node is pinged.
    pub every: Duration,
    /// How long nothing at all may come behind a ping, before the connection counts as dead.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    /// Every 30 s, dead after 10 s.
    fn default() -> Self {
        Self { every: Duration::from_secs(30), timeout: Duration::from_secs(10) }
    }
}

/// How publications get through. Source: native seed, "Message Acknowledgment".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reliable {
    /// How long an ack may take before the same is sent again, with the same id.
    pub ack_timeout: Duration,
    /// How often it is sent again over a connection that stands.
    pub retries: u32,
    /// Publications that wait for a connection or for their ack.
    pub queue_max: usize,
    /// All of them together. Units: bytes as they are sent.
    pub queue_bytes_max: usize,
    /// How long one is kept before it is given up. Nodes know an id for 2 min: later a repeat might be delivered twice.
    pub age_max: Duration,
}

impl Default for Reliable {
    /// 5 s, 3 retries, 1,000 publications, 1 MiB, 110 s.
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(5),
            retries: 3,
            queue_max: 1_000,
            queue_bytes_max: 1 << 20,
            age_max: Duration::from_secs(110),
        }
    }
}

/// Who tells the node that a publication was got, where one requires it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// The session, as soon as the application has taken it.
    #[default]
    Taken,
    /// The application, by [`crate::Session::ack`], once it is done with it.
    ByHand,
}

/// How a session is kept.
#[derive(Clone)]
pub struct SessionOptions {
    /// Where to connect, as whom. Unless the token travels in the first frame, the node learns what is covered of each
    /// room only from its own records, and sends some again, which the session drops.
    pub connect: Options,
    /// When to come back.
    pub reconnect: Reconnect,
    /// How a dead connection is noticed.
    pub heartbeat: Heartbeat,
    /// How publications get through.
    pub reliable: Reliable,
    /// Who acks what was got.
    pub acks: Acks,
    /// It goes to another node when its own is being replaced, without a moment of silence.
    pub hands_over: bool,
    /// Ids remembered of each room, by which repeats are dropped. Costs 8 bytes each.
    pub ids_max: usize,
    pub(crate) token_source: Option<TokenSource>,
}

impl SessionOptions {
    /// JSON, the token in the first frame, all figures as the seed has them.
    #[must_use]
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> Self {
        Options { token_in: TokenIn::Frame, ..Options::new(url, token) }.into()
    }

    /// Calls this for a new token when the node says that the old one runs out or is no good. Without it, such a session
    /// ends; with it, one without any token begins with a call.
    #[must_use]
    pub fn get_token<F, T>(mut self, get: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.token_source = Some(Arc::new(move || Box::pin(get())));
        self
    }
}

impl From<Options> for SessionOptions {
    fn from(connect: Options) -> Self {
        Self {
            connect,
            reconnect: Reconnect::default(),
            heartbeat: Heartbeat::default(),
            reliable: Reliable::default(),
            acks: Acks::default(),
            hands_over: true,
            ids_max: 1_000,
            token_source: None,
        }
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("connect", &self.connect)
            .field("reconnect", &self.reconnect)
            .field("heartbeat", &self.heartbeat)
            .field("reliable", &self.reliable)
            .field("acks", &self.acks)
            .field("hands_over", &self.hands_over)
            .field("ids_max", &self.ids_max)
            .field("get_token", &self.token_source.is_some())
            .finish()
    }
}
