//! A scene: three nodes, their clients, and the faults that are done to them one after the other. Ends what it started,
//! however it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::{Verdict, check};
use crate::crowd::{Crowd, Front, Phase};
use crate::node::Node;
use crate::record::{Drain, Facts, Fault, Member, Room};
use crate::report::say;
use xtask::balancer::{Addresses, Balancer};
use xtask::servers::free_port;

/// Nodes of a scene.
pub(crate) const NODES: usize = 3;

/// How long a fault is left behind before the next one: as long as members may take to be current.
const SETTLE: Duration = Duration::from_secs(5);

/// How long what is under way may take at the end: a publisher tries for 5 s, a member comes back within one.
const DRAIN: Duration = Duration::from_secs(6);

/// How long all may take to join, and to be heard once.
const BEGIN: Duration = Duration::from_secs(3);

/// Memory that a node of these scenes may hold: a line that leaks and unbounded queues cross. Units: KiB.
pub(crate) const MEMORY_KIB_MAX: u64 = 400 << 10;

/// What a scene is made with.
pub(crate) struct Script<'a> {
    pub(crate) name: &'static str,
    pub(crate) binary: &'a Path,
    /// `--redis` for each node.
    pub(crate) urls: [String; NODES],
    /// More options of `roomcast serve`.
    pub(crate) serve: Vec<String>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) members: Vec<Member>,
    /// How often each room is published to. Units: milliseconds.
    pub(crate) every_ms: u64,
    /// Whether clients go by a balancer.
    pub(crate) balanced: bool,
}

/// What came of a scene.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// The most that a node held in memory. Units: KiB.
    pub(crate) memory_kib: u64,
    /// What else went wrong: a node that did not end, or kept something of clients that are gone.
    pub(crate) troubles: Vec<String>,
    /// Figures of this scene alone.
    pub(crate) notes: Vec<String>,
}

/// A scene that runs.
pub(crate) struct Stage {
    name: &'static str,
    pub(crate) crowd: Crowd,
    pub(crate) nodes: Vec<Node>,
    faults: Vec<Fault>,
    pub(crate) drains: Vec<Drain>,
    memory_kib: u64,
    _balancer: Option<Balancer>,
    // Dropped after the nodes that write into it.
    _folder: Folder,
}

/// A folder that is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let name = format!("roomcast-faults-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and answers with its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let file = self.0.join(name);
        std::fs::write(&file, text).map_err(|cause| format!("{}: {cause}", file.display()))?;
        Ok(file.display().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            say(&format!("{}: {cause}", self.0.display()));
        }
    }
}

impl Stage {
    /// Starts nodes and clients and waits until all is quiet.
    ///
    /// # Errors
    /// A node does not start.
    pub(crate) fn start(script: Script<'_>) -> Result<Self, String> {
        let Script { name, binary, urls, serve, rooms, members, every_ms, balanced } = script;
        let folder = Folder::new(name)?;
        let config = folder.write("roomcast.toml", RULES)?;
        let mut nodes = Vec::new();
        for (number, url) in (1..).zip(&urls) {
            let mut args = vec!["--config".to_owned(), config.clone()];
            args.extend(["--redis".to_owned(), url.clone()]);
            args.extend(serve.iter().cloned());
            let ports = if balanced { (free_port()?, free_port()?) } else { (0, 0) };
            nodes.push(Node::start_at(number, ports, binary, &folder.0, &args)?);
        }
        for node in &mut nodes {
            node.wait()?;
        }
        let addresses: Vec<_> = nodes.iter().map(addresses).collect();
        let balancer = balanced.then(|| Balancer::start_in_turns(&addresses)).transpose()?;
        let front = balancer.as_ref().map(|balancer| Front {
            balancer: format!("127.0.0.1:{}", balancer.port),
            internals: addresses.iter().map(|it| it.internal.clone()).collect(),
        });
        let publics = addresses.into_iter().map(|it| it.public).collect();
        let crowd = Crowd::start(rooms, members, every_ms, publics, front)?;
        let stage = Self {
            name,
            crowd,
            nodes,
            faults: Vec::new(),
            drains: Vec::new(),
            memory_kib: 0,
            _balancer: balancer,
            _folder: folder,
        };
        say(&format!("{name}: {} members, {NODES} nodes", stage.crowd.shared.members.len()));
        std::thread::sleep(BEGIN);
        Ok(stage)
    }

    /// Does a fault, waits until what it is about is over, and then for all to be current again. What `fault` says to be
    /// wrong ends the scene.
    ///
    /// # Errors
    /// The fault could not be done.
    pub(crate) fn fault(
        &mut self,
        name: &str,
        fault: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let injected_us = self.crowd.shared.book.now_us();
        say(&format!("{}: {name}", self.name));
        fault(self).map_err(|cause| format!("{name}: {cause}"))?;
        let healed_us = self.crowd.shared.book.now_us();
        self.faults.push(Fault { name: name.to_owned(), injected_us, healed_us });
        std::thread::sleep(SETTLE);
        let held = self.nodes.iter().map(Node::memory_kib).max().unwrap_or_default();
        self.memory_kib = self.memory_kib.max(held);
        Ok(())
    }

    /// Kills a node and starts it again.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn kill_and_restart(&mut self, index: usize, away: Duration) -> Result<(), String> {
        let node = self.nodes.get_mut(index).ok_or("no such node")?;
        node.kill()?;
        std::thread::sleep(away);
        node.restart()?;
        self.crowd.shared.moved(index, &node.public);
        Ok(())
    }

    /// Ends the scene and judges it.
    pub(crate) fn end(mut self) -> Outcome {
        self.crowd.tell(Phase::Draining);
        std::thread::sleep(DRAIN);
        let mut troubles = Vec::new();
        let (records, sent) = self.crowd.shared.book.close();
        troubles.extend(self.crowd.end().err());
        troubles.extend(self.leftovers());
        for node in &mut self.nodes {
            troubles.extend(node.end().err());
        }
        if self.memory_kib > MEMORY_KIB_MAX {
            let text = "a node held {} KiB, more than the line of these scenes";
            troubles.push(text.replace("{}", &self.memory_kib.to_string()));
        }
        let shared = &self.crowd.shared;
        let facts = Facts {
            rooms: shared.rooms.clone(),
            members: shared.members.clone(),
            records,
            sent,
            faults: std::mem::take(&mut self.faults),
            drains: std::mem::take(&mut self.drains),
        };
        let verdict = check(&facts);
        Outcome {
            name: self.name,
            verdict,
            memory_kib: self.memory_kib,
            troubles,
            notes: Vec::new(),
        }
    }

    /// What nodes keep of clients that are gone (INV-11).
    fn leftovers(&self) -> Vec<String> {
        let gauges = [
            "roomcast_connections_open",
            "roomcast_sessions_open",
            "roomcast_rooms_memberships",
            "roomcast_outboxes_waiting_bytes",
            "roomcast_lanes_queue_bytes",
            "roomcast_lanes_stuck",
        ];
        let mut left = Vec::new();
        for _ in 0..200 {
            left.clear();
            for (number, node) in (1..).zip(&self.nodes) {
                let over = gauges.iter().map(|gauge| (gauge, node.figure(gauge)));
                let over = over.filter(|(_, value)| *value > 0.0);
                left.extend(over.map(|(gauge, value)| {
                    format!("node{number} still says {gauge} {value} without clients")
                }));
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        left
    }
}

fn addresses(node: &Node) -> Addresses {
    Addresses { public: node.public.clone(), internal: node.internal.clone() }
}

/// Rules of the rooms of all scenes.
pub(crate) const RULES: &str = r#"
[[rooms]]
match = "kept-{id:int}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 5000, bytes_max = "8 MiB", ttl = "10m" }

[[rooms]]
match = "short-{id:int}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 20, bytes_max = "64 KiB", ttl = "1m" }

[[rooms]]
match = "safe-{id:int}"
join = "true"
publish = "user.kind == 'backend'"
history = { size = 5000, bytes_max = "8 MiB", ttl = "10m" }
durability = "replicated"

[[rooms]]
match = "loose-{id:int}"
join = "true"
publish = "user.kind == 'backend'"
"#;

/// Rooms of one kind: `kept` means that they have a history.
pub(crate) fn rooms(of: &[(&str, usize)]) -> Vec<Room> {
    let named = |(kind, count): &(&str, usize)| {
        let (kind, kept) = ((*kind).to_owned(), *kind != "loose");
        (0..*count).map(move |number| Room { name: format!("{kind}-{number}"), kept })
    };
    of.iter().flat_map(named).collect()
}

/// Members of two rooms each, evenly; every other one holds the permission.
pub(crate) fn members(count: usize, rooms: usize) -> Vec<Member> {
    let member = |index: usize| {
        let first = index % rooms;
        let second = (first + 1 + (index / rooms) % (rooms - 1)) % rooms;
        Member { rooms: vec![first, second], vip: index.is_multiple_of(2), travels: false }
    };
    (0..count).map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spread_evenly_and_are_in_two_rooms() {
        let members = members(180, 20);
        for room in 0..20 {
            let count = members.iter().filter(|member| member.rooms.contains(&room)).count();
            assert_eq!(count, 18, "{room}");
        }
        assert!(members.iter().all(|member| member.rooms[0] != member.rooms[1]));
        let rooms = rooms(&[("kept", 2), ("loose", 1)]);
        let named: Vec<_> = rooms.iter().map(|room| (room.name.as_str(), room.kept)).collect();
        assert_eq!(named, [("kept-0", true), ("kept-1", true), ("loose-0", false)]);
    }
}
