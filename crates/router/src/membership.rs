//! How memberships of groups are written: in directories of the broker, and in orders.

use roomcast_protocol::conversation::{GROUP_NUMBER_MAX, Membership, Role};
use roomcast_protocol::position::{Epoch, Position};
use roomcast_protocol::room::RoomName;

/// All but the room: role, number, and epoch and offset of the place from which it hears.
pub(crate) fn text(it: &Membership) -> String {
    format!("{} {} {}", it.role.name(), it.number, place(it.from))
}

/// What [`text`] wrote; `None`: something else did.
pub(crate) fn parse(room: RoomName, text: &str) -> Option<Membership> {
    let mut parts = text.splitn(3, ' ');
    let role = Role::named(parts.next()?)?;
    let number = parts.next()?.parse().ok().filter(|number| *number <= GROUP_NUMBER_MAX)?;
    let from = parse_place(parts.next()?)?;
    Some(Membership { room, role, number, from })
}

/// A place in a room.
pub(crate) fn place(at: Position) -> String {
    format!("{} {}", at.epoch, at.offset)
}

/// What [`place`] wrote; `None`: something else did.
pub(crate) fn parse_place(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once(' ')?;
    Some(Position { epoch: Epoch::parse(epoch)?, offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let room = RoomName::parse("chat-team").unwrap();
        for number in [0, GROUP_NUMBER_MAX] {
            for role in Role::ALL {
                let from = Position { epoch: Epoch(7 << 100), offset: u64::from(number) };
                let it = Membership { room: room.clone(), role, number, from };
                assert_eq!(parse(room.clone(), &text(&it)), Some(it));
            }
        }
    }

    #[test]
    fn what_others_wrote_is_nothing() {
        let epoch = Epoch(1);
        for text in [
            String::new(),
            "owner".to_owned(),
            format!("boss 1 {epoch} 2"),
            format!("owner {} {epoch} 2", GROUP_NUMBER_MAX + 1),
            format!("owner 1 {epoch}"),
            "owner 1 x 2".to_owned(),
            format!("owner 1 {epoch} 2 3"),
        ] {
            assert_eq!(parse(RoomName::parse("chat-team").unwrap(), &text), None, "{text:?}");
        }
    }
}
