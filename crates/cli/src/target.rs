//! Which node to talk to, as whom: the options that `pub`, `sub` and `agent` share.

use std::time::Duration;

use clap::{Args, ValueEnum};
use roomcast_client::{
    Acks, Client, Error, Format, Options, Session, SessionEvent, SessionOptions, TokenIn,
};
use roomcast_gateway::config::DEV_SECRET;

use crate::failure::Failure;
use crate::token::Identity;

/// How long a token lives that is minted on the way.
pub(crate) const DEV_TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// JSON in text frames
    Json,
    /// MessagePack in binary frames
    Msgpack,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Json => Self::Json,
            FormatArg::Msgpack => Self::MessagePack,
        }
    }
}

/// Where the token travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TokenInArg {
    /// `?token=`
    Query,
    /// `Authorization: Bearer`
    Header,
    /// The first frame
    Frame,
}

impl From<TokenInArg> for TokenIn {
    fn from(token_in: TokenInArg) -> Self {
        match token_in {
            TokenInArg::Query => Self::Query,
            TokenInArg::Header => Self::Header,
            TokenInArg::Frame => Self::Frame,
        }
    }
}

/// Which node, as whom.
#[derive(Args, Debug)]
pub(crate) struct TargetArgs {
    /// The node's address
    #[arg(long, env = "ROOMCAST_URL", default_value = "ws://127.0.0.1:8080/ws")]
    url: String,
    /// The token to connect with
    #[arg(long, env = "ROOMCAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Mint a token that a node started with `serve --dev` accepts, instead of --token
    #[arg(long)]
    dev: bool,
    /// Whom a token minted by `--dev` is for
    #[arg(long = "as", value_name = "USER", requires = "dev")]
    user: Option<String>,
    /// How messages are written
    #[arg(long, value_enum, default_value = "json")]
    format: FormatArg,
    /// Where the token travels: by default in the header; in the first frame where the connection is made again by itself
    #[arg(long, value_enum)]
    token_in: Option<TokenInArg>,
}

impl TargetArgs {
    /// Whom a development token is for.
    pub(crate) fn user_or(&self, default: &str) -> String {
        self.user.clone().unwrap_or_else(|| default.to_owned())
    }

    /// The client's options; `identity` is for a token minted by `--dev`.
    pub(crate) fn options(&self, identity: impl FnOnce() -> Identity) -> Result<Options, Failure> {
        let token = match &self.token {
            _ if self.dev => identity().token(DEV_SECRET, DEV_TOKEN_TTL)?,
            Some(token) => token.clone(),
            None => {
                return Err(Failure::Usage(
                    "no token: give --token or ROOMCAST_TOKEN, or --dev for a node started \
                     with `roomcast serve --dev`"
                        .into(),
                ));
            }
        };
        let mut options = Options::new(self.url.clone(), token);
        options.format = self.format.into();
        options.token_in = self.token_in.map_or(TokenIn::Header, TokenIn::from);
        Ok(options)
    }

    /// The options of a session that comes back by itself; tokens minted by `--dev` are minted anew when they run out.
    fn session_options(
        &self,
        identity: impl Fn() -> Identity + Send + Sync + 'static,
    ) -> Result<SessionOptions, Failure> {
        let options = self.options(&identity)?;
        // Only there the node is told what is covered.
        let token_in = self.token_in.map_or(TokenIn::Frame, TokenIn::from);
        let options = SessionOptions::from(Options { token_in, ..options });
        if !self.dev {
            return Ok(options);
        }
        let mint = move || identity().token(DEV_SECRET, DEV_TOKEN_TTL);
        Ok(options.get_token(move || std::future::ready(mint().map_err(|it| it.to_string()))))
    }

    /// Begins a session and waits for its first connection; what does not come about at once is a failure.
    pub(crate) async fn session(
        &self,
        device: Option<String>,
        identity: impl Fn() -> Identity + Send + Sync + 'static,
    ) -> Result<Session, Failure> {
        let mut options = self.session_options(identity)?;
        options.connect.continuation.device = device;
        // Only what is shown counts as got.
        options.acks = Acks::ByHand;
        let session = roomcast_client::session(options)?;
        let failure = loop {
            match session.next().await {
                Some(SessionEvent::Connected(_)) => return Ok(session),
                Some(SessionEvent::Reconnecting { cause, .. }) => break Failure::Failed(cause),
                Some(SessionEvent::Closed(closed)) => break Error::Closed(closed).into(),
                None => break Failure::Failed("the session is over".into()),
                // Nothing else comes before the first connection.
                Some(_) => {}
            }
        };
        session.close().await;
        Err(failure)
    }

    /// Connects.
    pub(crate) async fn connect(
        &self,
        identity: impl FnOnce() -> Identity,
    ) -> Result<Client, Failure> {
        Ok(roomcast_client::connect(self.options(identity)?).await?)
    }
}

/// A runtime for one client: one thread is plenty.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::failed("the runtime cannot start", &cause))
}
