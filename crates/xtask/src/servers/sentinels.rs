//! A master, a replica and Sentinels that watch them, with short timeouts.

use std::time::Duration;

use super::{Client, Folder, Redis, Server, free_port, until};

/// What the Sentinels call the master.
const SERVICE: &str = "roomcast-test";

/// When a silent master counts as down, and how long a failover may take. Units: milliseconds.
const DOWN_AFTER_MS: u32 = 1_000;
const FAILOVER_MS: u32 = 3_000;

/// How long the set-up and a promotion may take. Votes that are split are repeated after twice [`FAILOVER_MS`].
const LIMIT: Duration = Duration::from_secs(45);

/// A master, a replica and their Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Sentinel>,
    redises: [Redis; 2],
}

#[derive(Debug)]
struct Sentinel {
    server: Server,
    // Dropped after the server that writes into it.
    _folder: Folder,
    port: u16,
}

impl Sentinels {
    /// Starts a master and a replica with more options, and `count` Sentinels, 1 or 3; waits until each Sentinel knows
    /// the replica and the others.
    ///
    /// # Errors
    /// A server does not start, or they do not find one another.
    pub fn start(count: usize, extra_args: &[&str]) -> Result<Self, String> {
        let master = Redis::start(&[&["--repl-diskless-sync-delay", "0"], extra_args].concat())?;
        let port = master.port().to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let replica = Redis::start(&[&follow[..], extra_args].concat())?;
        until("the replica follows", LIMIT, || {
            let info = replica.command(&["INFO", "replication"])?.text();
            if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        })?;
        // Sentinels find replicas in the master's INFO, which they read at once and then every 10 s.
        let quorum = count / 2 + 1;
        let sentinels = (0..count).map(|_| Sentinel::start(master.port(), quorum));
        let all =
            Self { sentinels: sentinels.collect::<Result<_, _>>()?, redises: [master, replica] };
        for sentinel in &all.sentinels {
            until("the Sentinels know one another", LIMIT, || all.is_known_to(sentinel))?;
        }
        Ok(all)
    }

    fn is_known_to(&self, sentinel: &Sentinel) -> Result<(), String> {
        let master = Client::connect(sentinel.port)?.command(&["SENTINEL", "MASTER", SERVICE])?;
        let others = (self.sentinels.len() - 1).to_string();
        let known = |key: &str, wanted: &str| master.field(key).as_deref() == Some(wanted);
        if known("num-slaves", "1") && known("num-other-sentinels", &others) {
            Ok(())
        } else {
            Err(format!(
                "{:?}, {:?}",
                master.field("num-slaves"),
                master.field("num-other-sentinels")
            ))
        }
    }

    /// The name under which Sentinels know the master.
    #[must_use]
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// Where the Sentinels listen on 127.0.0.1.
    #[must_use]
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    /// The master's port, as the first Sentinel says.
    ///
    /// # Errors
    /// The Sentinel does not answer.
    pub fn master_port(&self) -> Result<u16, String> {
        let sentinel = self.sentinels.first().ok_or("there is no Sentinel")?;
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        let address = Client::connect(sentinel.port)?.command(&ask)?;
        let port = address.items().get(1).map(super::Reply::text).unwrap_or_default();
        port.parse().map_err(|_| format!("no port: {address:?}"))
    }

    /// The Redis that is master now, to freeze it or to look into it.
    ///
    /// # Errors
    /// The Sentinel does not answer.
    pub fn master(&mut self) -> Result<&mut Redis, String> {
        let port = self.master_port()?;
        let master = self.redises.iter_mut().find(|redis| redis.port() == port);
        master.ok_or_else(|| format!("{port} is none of ours"))
    }

    /// The Redis that follows the master now, to look into it.
    ///
    /// # Errors
    /// The Sentinel does not answer.
    pub fn replica(&self) -> Result<&Redis, String> {
        let port = self.master_port()?;
        let replica = self.redises.iter().find(|redis| redis.port() != port);
        replica.ok_or_else(|| "there is no replica".to_owned())
    }

    /// Kills the master and gives its port; [`Sentinels::promoted`] waits for the other.
    ///
    /// # Errors
    /// The Sentinel does not answer.
    pub fn kill_master(&mut self) -> Result<u16, String> {
        let master = self.master()?;
        master.kill()?;
        Ok(master.port())
    }

    /// Starts the one that was killed again; the Sentinels make it a replica.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self, port: u16) -> Result<(), String> {
        let redis = self.redises.iter_mut().find(|redis| redis.port() == port);
        redis.ok_or_else(|| format!("{port} is none of ours"))?.restart()
    }

    /// Waits until every Sentinel names another master than `old`, and that one takes writes; gives its port.
    ///
    /// # Errors
    /// No promotion within 45 s.
    pub fn promoted(&self, old: u16) -> Result<u16, String> {
        until("a replica is promoted", LIMIT, || {
            let port = self.master_port()?;
            if port == old {
                return Err(format!("{old} is still the master"));
            }
            let redis = self.redises.iter().find(|redis| redis.port() == port);
            let redis = redis.ok_or_else(|| format!("{port} is none of ours"))?;
            let role = redis.command(&["ROLE"])?;
            match role.items().first().map(super::Reply::text).as_deref() {
                Some("master") => Ok(port),
                _ => Err(format!("{role:?}")),
            }
        })
    }
}

impl Sentinel {
    fn start(master: u16, quorum: usize) -> Result<Self, String> {
        let folder = Folder::new("sentinel")?;
        let port = free_port()?;
        // Sentinels keep their state in their configuration, so each needs a file that it may write.
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {SERVICE} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE} {FAILOVER_MS}\n",
            folder.path().display()
        );
        std::fs::write(&file, text).map_err(|cause| format!("{}: {cause}", file.display()))?;
        let args = [file.to_string_lossy().into_owned(), "--sentinel".to_owned()];
        let server = Server::start("redis-server", &args, folder.path())?;
        let mut sentinel = Self { server, _folder: folder, port };
        until("a Sentinel answers", LIMIT, || match sentinel.server.lives() {
            Ok(()) => Client::connect(port)?.command(&["PING"]).map(|_| Ok(())),
            Err(ended) => Ok(Err(ended)),
        })??;
        Ok(sentinel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_promoted_when_the_master_is_killed() {
        let mut all = Sentinels::start(3, &[]).unwrap();
        assert_eq!(all.sentinel_ports().len(), 3);
        all.master().unwrap().command(&["SET", "a", "1"]).unwrap();
        let old = all.kill_master().unwrap();
        let new = all.promoted(old).unwrap();
        assert_ne!(old, new);
        assert_eq!(all.master().unwrap().port(), new);
        assert_eq!(all.master().unwrap().command(&["GET", "a"]).unwrap().text(), "1");
        all.restart(old).unwrap();
        assert_eq!(all.master_port(), Ok(new));
    }

    #[test]
    fn one_sentinel_is_enough() {
        let mut all = Sentinels::start(1, &[]).unwrap();
        let old = all.kill_master().unwrap();
        assert_ne!(all.promoted(old).unwrap(), old);
    }
}
