//! `roomcast receipts`: how far users have got, and read, a room.

use clap::Args;
use roomcast_client::{ReceiptsPage, ReceiptsQuery};

use crate::failure::Failure;
use crate::pages;
use crate::target::{self, TargetArgs};
use crate::token::Identity;

/// `roomcast receipts`.
#[derive(Args, Debug)]
pub(crate) struct Receipts {
    #[command(flatten)]
    target: TargetArgs,
    /// The room
    room: String,
    /// Only who has the publication with this offset, and since when
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(u64).range(1..=9_007_199_254_740_991))]
    of: Option<u64>,
    /// Users of one page, one JSON each; 1 to 1000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
    /// Begin behind this user
    #[arg(long, value_name = "USER")]
    after: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Receipts) -> Result<(), Failure> {
    target::runtime()?.block_on(async {
        let identity = || Identity::viewer(args.target.user_or("cli"));
        let client = args.target.connect(identity).await?;
        let read = pages::print(
            args.after.clone(),
            |page: ReceiptsPage| page.next,
            async |after| {
                let query = ReceiptsQuery { of: args.of, after, limit: args.limit };
                client.receipts_page(&args.room, &query).await
            },
        )
        .await;
        client.close().await;
        read
    })
}
