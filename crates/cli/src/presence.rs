//! `roomcast presence`: who is in a room, across the cluster.

use clap::Args;
use roomcast_client::RosterPage;

use crate::failure::Failure;
use crate::pages;
use crate::target::{self, TargetArgs};
use crate::token::Identity;

/// `roomcast presence`.
#[derive(Args, Debug)]
pub(crate) struct Presence {
    #[command(flatten)]
    target: TargetArgs,
    /// The room
    room: String,
    /// Users of one page, one JSON each; 1 to 1000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Begin behind this user
    #[arg(long, value_name = "USER")]
    after: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Presence) -> Result<(), Failure> {
    target::runtime()?.block_on(async {
        let identity = || Identity::viewer(args.target.user_or("cli"));
        let client = args.target.connect(identity).await?;
        let read = pages::print(
            args.after.clone(),
            |page: RosterPage| page.next,
            async |after| client.presence_page(&args.room, after.as_deref(), args.limit).await,
        )
        .await;
        client.close().await;
        read
    })
}
