//! `roomcast broadcast`: one publication into several rooms.

use clap::Args;
use serde_json::{Map, Value, json};

use super::ApiArgs;
use super::batch::Tally;
use crate::failure::Failure;

/// `roomcast broadcast`.
#[derive(Args, Debug)]
pub(crate) struct Broadcast {
    #[command(flatten)]
    api: ApiArgs,
    /// The rooms, separated by commas
    rooms: String,
    /// The payload: JSON, other text is sent as a JSON string
    data: String,
    /// The publication's type
    #[arg(long = "type", value_name = "TYPE", default_value = "message")]
    kind: String,
    /// Its id: the same id again is published once in each room
    #[arg(long)]
    id: Option<String>,
    /// Seconds after which it is not delivered any more
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u32>,
    /// Permissions a member must hold to get it, separated by commas
    #[arg(long, value_delimiter = ',')]
    requires: Vec<String>,
}

/// Runs it.
pub(crate) fn run(args: &Broadcast) -> Result<(), Failure> {
    let mut api = args.api.connect()?;
    let mut tally = Tally::default();
    tally.print(&api.post("/api/v1/broadcast", None, &envelope(args).to_string())?)?;
    tally.verdict("rooms")
}

fn envelope(args: &Broadcast) -> Value {
    let data = serde_json::from_str(&args.data).unwrap_or_else(|_| json!(args.data));
    let mut metadata = Map::new();
    metadata.extend(args.ttl.map(|ttl| ("ttl".to_owned(), json!(ttl))));
    if !args.requires.is_empty() {
        metadata.insert("requires".to_owned(), json!(args.requires));
    }
    let rooms: Vec<_> = args.rooms.split(',').collect();
    let (id, kind) = (&args.id, &args.kind);
    json!({"rooms": rooms, "type": kind, "id": id, "data": data, "metadata": metadata})
}
