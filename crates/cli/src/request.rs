//! `roomcast request`: asks the application through the node, as a client does.

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;
use crate::target::{self, TargetArgs};
use crate::token::Identity;

/// From this status on the application declined.
const DECLINED: u16 = 400;

/// `roomcast request`.
#[derive(Args, Debug)]
pub(crate) struct Request {
    #[command(flatten)]
    target: TargetArgs,
    /// What is asked for; the node's [[upstream.requests]] say which back-end serves it
    method: String,
    /// With what: JSON; what is none is a text
    #[arg(default_value = "null")]
    params: String,
}

/// Runs it.
pub(crate) fn run(args: &Request) -> Result<(), Failure> {
    let params: Value = serde_json::from_str(&args.params).unwrap_or_else(|_| json!(args.params));
    target::runtime()?.block_on(async {
        let identity = || Identity::viewer(args.target.user_or("cli"));
        let client = args.target.connect(identity).await?;
        let answer = client.request(&args.method, &params).await;
        client.close().await;
        let answer = answer?;
        output::json_line(&answer)?;
        match answer.status {
            status if status >= DECLINED => {
                Err(Failure::Failed(format!("the application answered with the status {status}")))
            }
            _ => Ok(()),
        }
    })
}
