//! Dead letters of webhooks: what the core publishes in their room is kept, of one event and webhook the newest alone.

use std::sync::Arc;

use roomcast_protocol::content::Content;
use roomcast_protocol::envelope::BrokerCommand;
use roomcast_protocol::position::Span;
use roomcast_protocol::publication::Publication;
use roomcast_protocol::room::RoomName;
use roomcast_protocol::time::Now;

use super::{Rules, World, config};
use crate::hub::{DEAD, DEAD_KEEP, Hub};
use crate::messages::{HubEffect, HubMessage, QueryId, Ticket};
use crate::reader::Reader;

fn letter(key: Option<&str>) -> HubMessage {
    let room = RoomName::system(DEAD).unwrap();
    let bare = Publication::bare(room, Content::Json("{}".into()));
    let publication = Arc::new(Publication { correlation_id: key.map(Into::into), ..bare });
    HubMessage::Publish { ticket: Ticket::Query(QueryId(7)), publication, dedup: true }
}

#[test]
fn a_dead_letter_is_kept_in_place_of_those_with_its_key() {
    let mut hub = Hub::new(config(0, false), Arc::new(Rules));
    for key in [Some("told 1"), None] {
        let mut out = Vec::new();
        hub.message(Now::default(), letter(key), &mut out);
        let found = out.iter().find_map(|effect| {
            let HubEffect::Broker(command) = effect else { return None };
            let BrokerCommand::Publish { keep, collapse, dedup, .. } = command else { return None };
            Some((*keep, collapse.as_deref(), *dedup))
        });
        assert_eq!(found, Some((Some(DEAD_KEEP), key, true)));
    }
}

#[test]
fn dead_letters_are_read_like_what_rooms_keep() {
    let mut hub = Hub::new(config(0, false), Arc::new(Rules));
    let room = RoomName::system(DEAD).unwrap();
    let mut out = Vec::new();
    let read = HubMessage::Read { reader: Reader::Query(QueryId(7)), room, span: Span::above(3) };
    hub.message(Now::default(), read, &mut out);
    hub.tick(Now::default(), &mut out);
    let asks = |effect: &HubEffect| {
        matches!(effect, HubEffect::Broker(BrokerCommand::Read { room, keep, span, .. })
            if room.as_str() == DEAD && *keep == DEAD_KEEP && *span == Span::above(3))
    };
    assert_eq!(out.iter().filter(|effect| asks(effect)).count(), 1, "{out:?}");
}

#[test]
fn a_node_on_its_own_takes_no_dead_letter() {
    let mut world = World::watched();
    ["auto over=1", "up 1", "at 1000", "down", "at 3000"].iter().for_each(|line| world.step(line));
    world.seen.clear();
    world.says(letter(Some("told 1")));
    assert_eq!(world.seen, ["answer 7 unavailable 2000 ms"]);
}
