//! What has yet to be told of the agents' room, as Redis keeps it: a beat takes what nobody else is telling (G19).

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::FunctionInterface;
use roomcast_protocol::position::Position;
use roomcast_protocol::presence::{AGENTS, PresenceDiff};
use roomcast_protocol::relay::RelayKeys;
use roomcast_protocol::room::RoomName;

use super::channels::{self, key};
use super::functions::UNTOLD;
use super::publish::hurried;
use super::shared::Shared;

/// Says up to which version all was told, and answers with what this node is to tell. What fails is given again, to
/// whoever beats then: it stays in Redis until somebody has told it.
pub(crate) async fn give<T>(
    shared: &Shared<T>,
    client: &Client,
    keys: &RelayKeys,
    told: Option<Position>,
) -> Vec<PresenceDiff> {
    let Ok(room) = RoomName::system(AGENTS) else { return Vec::new() };
    let tag = shared.tags.of(AGENTS);
    let memory = vec![key(tag, channels::UNTOLD, ""), key(tag, channels::TELLING, "")];
    let told = told.map_or_else(String::new, beginning);
    let given: Result<Vec<Bytes>, Error> =
        hurried(client, None).fcall(UNTOLD, memory, vec![told]).await;
    match given {
        Ok(given) => {
            let codec = &shared.options.codec;
            given.iter().filter_map(|told| codec.presence(keys, &room, told)).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "agents are told of by a later beat");
            Vec::new()
        }
    }
}

/// How the diff of this version begins, as the functions write it.
fn beginning(version: Position) -> String {
    let Position { epoch, offset } = version;
    format!("{{\"presence\":{{\"epoch\":\"{epoch}\",\"version\":{offset},")
}
