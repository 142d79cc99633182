//! The broker contract, run for the store by itself. What only a broker with a queue has is left out.

use roomcast_protocol::contract::{
    HISTORY, History, INBOX, OCCUPANCY, PRESENCE, Presence, RECEIPTS, SCRIPTS, SESSIONS, Traits,
    run,
};
use roomcast_store::bare::{Bare, LEASE_MS};

const DEDUP_TTL_MS: u64 = 2_000;

#[test]
fn the_store_keeps_the_contract() {
    let traits = Traits {
        dedup_ttl_ms: DEDUP_TTL_MS,
        fill_bytes: None,
        answers_apart: false,
        rooms_apart: false,
        history: History { beside_bytes: 0, loses: true, beats: true },
        presence: Presence { lease_ms: Some(LEASE_MS), occupancies: true },
    };
    let state = [SESSIONS, PRESENCE, OCCUPANCY, INBOX, RECEIPTS];
    let scripts = SCRIPTS.iter().chain(HISTORY).chain(state.into_iter().flatten());
    let failed: Vec<_> = scripts
        .filter_map(|script| run(script, &traits, Bare::new(DEDUP_TTL_MS, 0)).err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
