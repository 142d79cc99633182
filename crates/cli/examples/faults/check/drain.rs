//! What the clients of a node saw that drained (I11).

use roomcast_protocol::codes::Close;

use super::verdict::Verdict;
use crate::record::{Drain, Record, What};

/// Judges one drain by what one member saw.
pub(super) fn check(member: usize, records: &[&Record], drain: &Drain, verdict: &mut Verdict) {
    let Drain { node, began_us, ended_us, limit_us } = *drain;
    // Whether it was there when the drain began.
    let mut is_there = false;
    let mut is_over = false;
    for Record { at_us, what, .. } in records {
        match what {
            What::Connected { node: at } if *at_us < began_us => is_there = *at == Some(node),
            What::Connected { node: at } => {
                if *at == Some(node) && *at_us < ended_us {
                    let text = format!("{member} came in while it drained");
                    verdict.violation(*at_us, &format!("node {node}: {text}"));
                }
            }
            What::Closed { .. } if *at_us < began_us => is_there = false,
            What::Closed { code } if is_there && !is_over => {
                is_over = true;
                if *at_us > began_us + limit_us {
                    late(member, drain, verdict);
                }
                if !code.is_some_and(sends_elsewhere) {
                    let text = format!("node {node}: {member} was closed with {code:?}");
                    verdict.violation(*at_us, &text);
                }
            }
            What::Closed { .. }
            | What::Joined { .. }
            | What::Heard { .. }
            | What::Strange { .. }
            | What::Skipped { .. }
            | What::Gap { .. } => {}
        }
    }
    if is_there && !is_over {
        late(member, drain, verdict);
    }
}

fn late(member: usize, drain: &Drain, verdict: &mut Verdict) {
    let limit = std::time::Duration::from_micros(drain.limit_us).as_secs_f64();
    let text = format!("node {}: {member} was still there {limit:.1} s later", drain.node);
    verdict.violation(drain.began_us, &text);
}

/// The code of a connection that ended without a Close frame: that is how the seed's client is made to come back.
const DROPPED: u16 = 1_006;

/// Codes that send a client elsewhere.
fn sends_elsewhere(code: u16) -> bool {
    let closes = [Close::Moved, Close::Drain, Close::Stopping];
    code == DROPPED || closes.iter().any(|close| close.row().code == code)
}
