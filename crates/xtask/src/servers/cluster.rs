//! A small Redis Cluster of masters, whose slots can be moved, and of which a replica can take the place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Redis, Reply, free_port, until};

/// Hash slots of every Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// How long the masters may take to agree.
const LIMIT: Duration = Duration::from_secs(60);

/// Silence after which a master counts as failed. Units: milliseconds.
const NODE_TIMEOUT_MS: &str = "2000";

/// Keys moved at once.
const KEYS_MAX: &str = "100";

/// Masters that share all slots evenly, without replicas but for those that are asked for.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    /// The replica of each master that has one.
    replicas: BTreeMap<usize, Redis>,
}

impl Cluster {
    /// Starts `masters` of them, at least 1 (a Cluster that shall survive one has 3), and waits until they agree.
    ///
    /// # Errors
    /// A server does not start, or they do not agree within 60 s.
    pub fn start(masters: u16) -> Result<Self, String> {
        let mut cluster = Self { nodes: Vec::new(), replicas: BTreeMap::new() };
        let mut bus_ports = Vec::new();
        for number in 0..masters {
            let (node, bus_port) = start_node()?;
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            let (first, last) = (share(number, masters), share(number + 1, masters) - 1);
            let range = [first.to_string(), last.to_string()];
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
            cluster.nodes.push(node);
            bus_ports.push(bus_port);
        }
        let (first, others) = cluster.nodes.split_first().ok_or("a Cluster has a master")?;
        for (node, bus_port) in others.iter().zip(bus_ports.iter().skip(1)) {
            let (port, bus_port) = (node.port().to_string(), bus_port.to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port])?;
        }
        until("the masters agree", LIMIT, || cluster.agrees())?;
        Ok(cluster)
    }

    /// Whether each master sees all masters, all slots, and a state that is good.
    fn agrees(&self) -> Result<(), String> {
        let wanted = [
            "cluster_state:ok\r\n".to_owned(),
            format!("cluster_slots_ok:{SLOTS}\r\n"),
            format!("cluster_known_nodes:{}\r\n", self.nodes.len() + self.replicas.len()),
            format!("cluster_size:{}\r\n", self.nodes.len()),
        ];
        for node in &self.nodes {
            let info = node.command(&["CLUSTER", "INFO"])?.text();
            if let Some(lack) = wanted.iter().find(|line| !info.contains(*line)) {
                return Err(format!("no {lack:?} at {}", node.port()));
            }
        }
        Ok(())
    }

    /// Starts a replica of a master, and waits until it follows and all know it.
    ///
    /// # Errors
    /// It does not start, or does not follow within 60 s.
    pub fn replicate(&mut self, index: usize) -> Result<(), String> {
        let (replica, bus_port) = start_node()?;
        let master = self.nodes.get(index).ok_or_else(|| format!("no master {index}"))?;
        let (port, bus_port) = (replica.port().to_string(), bus_port.to_string());
        master.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port])?;
        let master_id = id(master)?;
        // It has yet to hear of its master.
        let follow = ["CLUSTER", "REPLICATE", &master_id];
        until("the replica knows its master", LIMIT, || replica.command(&follow).map(drop))?;
        until("the replica follows", LIMIT, || replicates(&replica, "master_link_status:up"))?;
        self.replicas.insert(index, replica);
        until("all know the replica", LIMIT, || self.agrees())
    }

    /// From now on the replica of a master takes over nothing more of what that does.
    ///
    /// # Errors
    /// It has none, or that still follows after 60 s.
    pub fn hold_back(&self, index: usize) -> Result<(), String> {
        let replica = self.replicas.get(&index).ok_or("this master has no replica")?;
        // The master knows no password, so nobody who gives one is let in.
        replica.command(&["CONFIG", "SET", "masterauth", "none"])?;
        replica.command(&["CLIENT", "KILL", "TYPE", "master"])?;
        until("the replica stays behind", LIMIT, || replicates(replica, "master_link_status:down"))
    }

    /// Kills a master that has a replica, and waits until that has taken its place, in [`Cluster::nodes`] too.
    ///
    /// # Errors
    /// It has none, or that is no master within 60 s.
    pub fn fail_over(&mut self, index: usize) -> Result<(), String> {
        let replica = self.replicas.remove(&index).ok_or("this master has no replica")?;
        let master = self.nodes.get_mut(index).ok_or_else(|| format!("no master {index}"))?;
        master.kill()?;
        *master = replica;
        let promoted = &*master;
        until("the replica is a master", LIMIT, || replicates(promoted, "role:master"))?;
        promoted.command(&["CONFIG", "SET", "masterauth", ""])?;
        let is_well = |node: &Redis| {
            let info = node.command(&["CLUSTER", "INFO"])?.text();
            let well = info.contains("cluster_state:ok\r\n");
            if well { Ok(()) } else { Err(format!("{} is not well", node.port())) }
        };
        until("all know the new master", LIMIT, || self.nodes.iter().try_for_each(is_well))
    }

    /// Where the masters listen on 127.0.0.1.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(Redis::port).collect()
    }

    /// The masters, to look into them.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// One master, to freeze, kill or restart it. A restarted one has forgotten nothing: `nodes.conf` is kept.
    pub fn node(&mut self, index: usize) -> Option<&mut Redis> {
        self.nodes.get_mut(index)
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// The first master is down.
    pub fn slot_of(&self, key: &str) -> Result<u16, String> {
        let first = self.nodes.first().ok_or("a Cluster has a master")?;
        let slot = first.command(&["CLUSTER", "KEYSLOT", key])?.text();
        slot.parse().map_err(|_| format!("no slot: {slot:?}"))
    }

    /// Which master owns a slot, by its index.
    ///
    /// # Errors
    /// A master is down, or nobody owns the slot.
    pub fn owner(&self, slot: u16) -> Result<usize, String> {
        for (index, node) in self.nodes.iter().enumerate() {
            let shards = node.command(&["CLUSTER", "SLOTS"])?;
            for shard in shards.items() {
                let number =
                    |at: usize| shard.items().get(at).and_then(|it| it.text().parse().ok());
                let port = shard.items().get(2).and_then(|it| it.items().get(1)).map(Reply::text);
                let (Some(first), Some(last)) = (number(0), number(1)) else { continue };
                let range: std::ops::RangeInclusive<u16> = first..=last;
                if range.contains(&slot) && port.as_deref() == Some(&node.port().to_string()) {
                    return Ok(index);
                }
            }
        }
        Err(format!("nobody owns slot {slot}"))
    }

    /// Moves a slot with its keys to another master, as `redis-cli --cluster reshard` does, and waits until all know.
    ///
    /// # Errors
    /// A master is down or refuses.
    pub fn move_slot(&self, slot: u16, to: usize) -> Result<(), String> {
        let from = self.owner(slot)?;
        let get = |index: usize| self.nodes.get(index).ok_or_else(|| format!("no master {index}"));
        let (source, target) = (get(from)?, get(to)?);
        if from == to {
            return Ok(());
        }
        let (source_id, target_id) = (id(source)?, id(target)?);
        let slot_text = slot.to_string();
        target.command(&["CLUSTER", "SETSLOT", &slot_text, "IMPORTING", &source_id])?;
        source.command(&["CLUSTER", "SETSLOT", &slot_text, "MIGRATING", &target_id])?;
        loop {
            let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot_text, KEYS_MAX])?;
            if keys.items().is_empty() {
                break;
            }
            let port = target.port().to_string();
            let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let mut move_keys = head.map(str::to_owned).to_vec();
            move_keys.extend(keys.items().iter().map(Reply::text));
            source.command(&move_keys)?;
        }
        // The target first: it raises its epoch, so that the others believe it.
        for node in [target, source].into_iter().chain(&self.nodes) {
            node.command(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &target_id])?;
        }
        until("the slot has moved", LIMIT, || match self.owner(slot)? {
            owner if owner == to => self.agrees(),
            owner => Err(format!("master {owner} has it")),
        })
    }
}

/// Says whether `INFO replication` holds this line.
fn replicates(node: &Redis, line: &str) -> Result<(), String> {
    let info = node.command(&["INFO", "replication"])?.text();
    if info.contains(line) { Ok(()) } else { Err(format!("no {line:?} at {}", node.port())) }
}

fn start_node() -> Result<(Redis, u16), String> {
    let bus_port = free_port()?;
    let bus = bus_port.to_string();
    let options = [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus],
        ["--cluster-config-file", "nodes.conf"],
        ["--cluster-node-timeout", NODE_TIMEOUT_MS],
    ];
    Ok((Redis::start(&options.concat())?, bus_port))
}

/// The first slot of share `number` of `all`.
fn share(number: u16, all: u16) -> u16 {
    let first = u32::from(SLOTS) * u32::from(number) / u32::from(all.max(1));
    u16::try_from(first).unwrap_or(SLOTS)
}

fn id(node: &Redis) -> Result<String, String> {
    Ok(node.command(&["CLUSTER", "MYID"])?.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_leave_no_slot_out() {
        assert_eq!([0, 1, 2, 3].map(|number| share(number, 3)), [0, 5_461, 10_922, SLOTS]);
    }

    #[test]
    fn a_slot_moves_with_its_keys() {
        let cluster = Cluster::start(3).unwrap();
        assert_eq!(cluster.ports().len(), 3);
        let slot = cluster.slot_of("{rc}:a").unwrap();
        let from = cluster.owner(slot).unwrap();
        cluster.nodes()[from].command(&["SET", "{rc}:a", "1"]).unwrap();
        let to = (from + 1) % 3;
        cluster.move_slot(slot, to).unwrap();
        assert_eq!(cluster.owner(slot), Ok(to));
        assert_eq!(cluster.nodes()[to].command(&["GET", "{rc}:a"]).unwrap().text(), "1");
        let moved = cluster.nodes()[from].command(&["GET", "{rc}:a"]).unwrap_err();
        assert!(moved.contains("MOVED"), "{moved}");
    }

    #[test]
    fn a_replica_takes_the_place_of_its_master_with_the_data() {
        let mut cluster = Cluster::start(3).unwrap();
        assert!(cluster.fail_over(0).is_err(), "it has no replica");
        let owner = cluster.owner(cluster.slot_of("{rc}:a").unwrap()).unwrap();
        cluster.replicate(owner).unwrap();
        cluster.nodes()[owner].command(&["SET", "{rc}:a", "1"]).unwrap();
        // A replica that has just come may take longer than one WAIT.
        let arrived = || cluster.nodes()[owner].command(&["WAIT", "1", "5000"]).unwrap();
        assert!((0..6).any(|_| arrived().text() == "1"), "the replica has not come");
        cluster.hold_back(owner).unwrap();
        cluster.nodes()[owner].command(&["SET", "{rc}:a", "2"]).unwrap();
        let before = cluster.ports();
        cluster.fail_over(owner).unwrap();
        assert_ne!(cluster.ports()[owner], before[owner]);
        assert_eq!(cluster.nodes()[owner].command(&["GET", "{rc}:a"]).unwrap().text(), "1");
    }
}
