//! One listening client: it joins its rooms, says on each new connection what it has covered, and goes to the next node
//! when its own is gone. It keeps what a client needs: the covered position of each room.

use std::sync::Arc;
use std::time::Duration;

use roomcast_client::{Client, Event, Joined, Position as Told, Publication};
use roomcast_protocol::guard::Kind;
use roomcast_protocol::position::{Epoch, Position};
use tokio::time::sleep;

use crate::crowd::{Phase, Shared, VIP};
use crate::record::What;

/// How soon a client comes back, at the least; each has its own delay, so that they do not come in step.
const BACK_MS: u64 = 100;

/// Every so many stay away longer: rooms that keep little have no more what these missed. Units: milliseconds.
const LATE_EVERY: usize = 9;
const LATE_MS: u64 = 3_000;

/// One member of the scene.
struct Listener {
    shared: Arc<Shared>,
    index: usize,
    /// What it has covered, by the order of its rooms.
    covered: Vec<Option<Position>>,
}

/// Listens until the scene is over.
pub(crate) async fn run(shared: Arc<Shared>, index: usize) {
    let Some(member) = shared.members.get(index).cloned() else { return };
    let mut phase = shared.phase.subscribe();
    let covered = vec![None; member.rooms.len()];
    let mut listener = Listener { shared: Arc::clone(&shared), index, covered };
    let permissions: Vec<String> = member.vip.then(|| VIP.to_owned()).into_iter().collect();
    let subject = format!("member-{index}");
    let late_ms = if index.is_multiple_of(LATE_EVERY) { LATE_MS } else { 0 };
    let nodes = shared.nodes();
    let delay = Duration::from_millis(BACK_MS + (index as u64 * 37) % 400 + late_ms);
    for node in index.. {
        let over = phase.wait_for(|phase| *phase == Phase::Over);
        tokio::select! {
            _ = over => return,
            () = async {
                let client = shared.connect(node, &subject, Kind::User, &permissions).await;
                if let Ok(client) = client {
                    listener.saw(What::Connected { node: Some(node % nodes) });
                    let code = listener.listen(&client, &member.rooms).await;
                    listener.saw(What::Closed { code });
                    client.close().await;
                }
                sleep(delay).await;
            } => {}
        }
    }
}

impl Listener {
    fn saw(&self, what: What) {
        self.shared.book.saw(self.index, what);
    }

    /// Joins all rooms and listens until the connection ends; answers with the code, where one was told.
    async fn listen(&mut self, client: &Client, rooms: &[usize]) -> Option<u16> {
        for (place, room) in rooms.iter().enumerate() {
            let Some(name) = self.shared.rooms.get(*room).map(|room| room.name.clone()) else {
                continue;
            };
            let since = self.covered.get(place).copied().flatten();
            let joined = match since {
                None => client.join(&name).await,
                Some(at) => client.join_since(&name, &told(at)).await,
            };
            match joined {
                Ok(joined) => self.joined(place, *room, since, &joined),
                Err(error) => return error.code(),
            }
        }
        while let Some(event) = client.next().await {
            if let Event::Closed(closed) = event {
                return Some(closed.code);
            }
            self.event(rooms, event);
        }
        None
    }

    fn joined(&mut self, place: usize, room: usize, since: Option<Position>, answer: &Joined) {
        let at = answer.position.as_ref().and_then(position);
        let recovered = answer.recovered.as_ref().map(Result::is_ok);
        self.saw(What::Joined { room, since, at, recovered, live: answer.live });
        if recovered != Some(true) && at.is_some() {
            self.cover(place, at);
        }
    }

    fn cover(&mut self, place: usize, at: Option<Position>) {
        if let Some(covered) = self.covered.get_mut(place) {
            *covered = at;
        }
    }

    fn event(&mut self, rooms: &[usize], event: Event) {
        let find = |name: &str| {
            let room = self.shared.room(name)?;
            Some((rooms.iter().position(|it| *it == room)?, room))
        };
        match event {
            Event::Publication(heard) => {
                if let Some((place, room)) = find(&heard.room) {
                    let at = heard.metadata.position().as_ref().and_then(position);
                    if at.is_some() {
                        self.cover(place, at);
                    }
                    self.saw(what(room, &heard, at));
                }
            }
            Event::Skip { room, to, count, .. } => {
                if let (Some((place, room)), Some(to)) = (find(&room), position(&to)) {
                    self.cover(place, Some(to));
                    self.saw(What::Skipped { room, to, count });
                }
            }
            Event::Gap { room, position: at, .. } => {
                let at = at.as_ref().and_then(position);
                let found = room.as_deref().and_then(find);
                if let Some((place, _)) = found
                    && at.is_some()
                {
                    self.cover(place, at);
                }
                self.saw(What::Gap { room: found.map(|(_, room)| room), at });
            }
            Event::Joined(answer) => {
                if let Some((place, room)) = find(&answer.room) {
                    let since = self.covered.get(place).copied().flatten();
                    self.joined(place, room, since, &answer);
                }
            }
            Event::Error(_)
            | Event::Pong
            | Event::TokenExpiring { .. }
            | Event::Lost { .. }
            | Event::Presence(_)
            | Event::Receipts(_)
            | Event::Drain(_)
            | Event::Left { .. }
            | Event::Degraded { .. }
            | Event::Other(_)
            | Event::Closed(_) => {}
        }
    }
}

/// What a publication is, if it is one of the scene's as it was sent.
pub(crate) fn what(room: usize, heard: &Publication, at: Option<Position>) -> What {
    let number = heard.data.get("n").and_then(serde_json::Value::as_u64);
    match number {
        Some(number) if heard.id == id(room, number) => {
            What::Heard { room, number, at, isolated: heard.isolated }
        }
        Some(_) | None => What::Strange { room, text: format!("{} {}", heard.id, heard.data) },
    }
}

/// The id of a room's publication of this number.
pub(crate) fn id(room: usize, number: u64) -> String {
    format!("r{room}-{number}")
}

/// A position as the wire has it.
fn told(at: Position) -> Told {
    Told { epoch: at.epoch.to_string(), offset: at.offset }
}

/// A position as the protocol has it; `None`: its epoch is none.
pub(crate) fn position(told: &Told) -> Option<Position> {
    Some(Position { epoch: Epoch::parse(&told.epoch)?, offset: told.offset })
}
