//! `roomcast presence`: who is in a room, across the cluster.

use clap::Args;

use crate::failure::Failure;
use crate::output::{self, Reader};
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
        let mut after = args.after.clone();
        let read = loop {
            let page = match client.presence_page(&args.room, after.as_deref(), args.limit).await {
                Ok(page) => page,
                Err(error) => break Err(error.into()),
            };
            match output::json_line(&page) {
                Ok(Reader::Listening) => {}
                Ok(Reader::Gone) => break Ok(()),
                Err(failure) => break Err(failure),
            }
            // Names only rise, so it ends even if the node errs.
            match page.next {
                Some(next) if Some(&next) > after.as_ref() => after = Some(next),
                Some(_) | None => break Ok(()),
            }
        };
        client.close().await;
        read
    })
}
