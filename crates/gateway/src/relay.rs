//! From the configuration to the broker that it names, and the one place that knows how a room is relayed.

use std::collections::BTreeSet;
use std::sync::Arc;

use roomcast_broker::redis::{ModeOf, RedisBroker, RedisOptions};
use roomcast_broker::{AnyBroker, MemoryBroker};
use roomcast_dialects::relay::Envelopes;
use roomcast_protocol::guard::Guard;
use roomcast_protocol::relay::{RelayMode, keyed_hash};
use roomcast_protocol::room::RoomName;
use roomcast_router::messages::Ticket;

use crate::config::{BrokerKind, Config};
use crate::guard::{RoomRule, RuleGuard};

/// Makes the digest another one than that of anything else.
const DIGEST_KEY: &[u8] = b"roomcast relay modes 1";

/// The broker that a configuration names; Redis connects once a node is attached.
pub(crate) fn broker(config: &Config, guard: &Arc<RuleGuard>) -> AnyBroker<Ticket> {
    match config.broker.kind {
        BrokerKind::Memory => AnyBroker::Memory(MemoryBroker::new()),
        BrokerKind::Redis => AnyBroker::Redis(RedisBroker::new(options(config, guard))),
    }
}

/// What a Redis broker is made with.
fn options(config: &Config, guard: &Arc<RuleGuard>) -> RedisOptions {
    let (redis, relay) = (&config.redis, &config.relay);
    let modes = modes(relay.mode, &config.rooms);
    RedisOptions {
        servers: redis.servers.clone(),
        credentials: redis.credentials.clone(),
        sentinel_credentials: redis.sentinel_credentials.clone(),
        tls: redis.tls.clone(),
        command_timeout_ms: redis.command_timeout_ms,
        connect_timeout_ms: redis.connect_timeout_ms,
        pending_bytes_max: redis.pending_bytes,
        dedup_ttl_ms: redis.dedup_ttl_ms,
        dedup_max: redis.dedup_max,
        replicas_min: redis.replicas_min,
        wait_timeout_ms: redis.wait_timeout_ms,
        codec: Arc::new(Envelopes {
            format: relay.format,
            message_bytes_max: config.limits.message_bytes,
            depth_max: config.limits.decode.depth_max,
        }),
        keys: relay.keys.clone(),
        mode: relay.mode,
        mode_of: mode_of(relay.mode, modes.len() > 1, guard),
        modes,
        modes_digest: modes_digest(config),
        outsiders: relay.outsiders,
    }
}

/// Every mode that a room may have.
fn modes(default: RelayMode, rules: &[RoomRule]) -> Vec<RelayMode> {
    let named = rules.iter().filter_map(|rule| rule.policy.relay);
    named.chain([default]).collect::<BTreeSet<_>>().into_iter().collect()
}

/// How a room is relayed: as its rule says, the first that matches; built-in rules say nothing.
fn mode_of(default: RelayMode, several: bool, guard: &Arc<RuleGuard>) -> Arc<ModeOf> {
    if !several {
        // Asked for every publication, and rules are tried one by one.
        return Arc::new(move |_| default);
    }
    let guard = Arc::clone(guard);
    Arc::new(move |room: &RoomName| {
        let named = guard.rule(room).and_then(|rule| guard.policy(rule).relay);
        named.unwrap_or(default)
    })
}

/// A hash of what all nodes of a cluster must say alike: how rooms are relayed, and which keep a history. Rules behind
/// the last that differs from the default change nothing, so they do not count.
fn modes_digest(config: &Config) -> u64 {
    let (default, outsiders, rules) = (config.relay.mode, config.relay.outsiders, &config.rooms);
    let mode = |rule: &RoomRule| rule.policy.relay.unwrap_or(default);
    let keeps = |rule: &RoomRule| rule.policy.history.is_some();
    let differs = |rule: &RoomRule| mode(rule) != default || keeps(rule);
    let counted = rules.iter().rposition(differs).map_or(0, |at| at + 1);
    // Patterns hold no line ends: names have none.
    let mut text = format!("{}\n{outsiders}\n", default.name());
    // The built-in rules say that dialogs are kept.
    text.push_str(if config.dialects.chat.is_some() { "\nchat\n" } else { "" });
    for rule in rules.iter().take(counted) {
        let history = if keeps(rule) { " history" } else { "" };
        text.push_str(&format!("{}\n{}{history}\n", rule.pattern.as_str(), mode(rule).name()));
    }
    u64::from_be_bytes(keyed_hash(DIGEST_KEY, "", &[text.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use roomcast_broker::redis::Servers;
    use roomcast_protocol::relay::{RelayFormat, RelayKeys};

    use super::*;
    use crate::config::LoadOptions;

    /// A configuration from a file's text.
    fn config(text: &str) -> Config {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("roomcast-relay-{}-{count}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        let options = LoadOptions { file: Some(file.clone()), ..LoadOptions::default() };
        let config = Config::load(&options);
        std::fs::remove_file(file).unwrap();
        config.unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn options_of(text: &str) -> RedisOptions {
        let config = config(text);
        options(&config, &Arc::new(RuleGuard::new(&config, "node").unwrap()))
    }

    /// A rule for each word: `pattern` or `pattern=mode`.
    fn rules(words: &str) -> String {
        let rule = |word: &str| {
            let (pattern, mode) = word.split_once('=').unwrap_or((word, ""));
            let relay = if mode.is_empty() { "" } else { &format!("relay = {mode:?}\n") };
            format!("[[rooms]]\nmatch = {pattern:?}\njoin = \"true\"\n{relay}")
        };
        words.split(' ').filter(|word| !word.is_empty()).map(rule).collect()
    }

    #[test]
    fn the_broker_is_the_one_that_the_configuration_names() {
        let named = |text: &str| {
            let config = config(text);
            broker(&config, &Arc::new(RuleGuard::new(&config, "node").unwrap()))
        };
        assert!(matches!(named(""), AnyBroker::Memory(_)));
        assert!(matches!(named("[broker]\nkind = \"redis\"\n"), AnyBroker::Redis(_)));
    }

    #[test]
    fn options_hold_what_the_configuration_says() {
        let options = options_of(
            "[broker]\nkind = \"redis\"\n\
             [redis]\ntopology = \"sentinel\"\nservers = [\"a:1\", \"[::1]:2\"]\nsentinel_service = \"main\"\n\
             username = \"u\"\npassword = \"p\"\nsentinel_password = \"s\"\ntls = true\ncommand_timeout = \"300ms\"\n\
             connect_timeout = \"400ms\"\npending_bytes = \"1 MiB\"\ndedup_ttl = \"3m\"\ndedup_max = 5000\n\
             replicas_min = 2\nwait_timeout = \"700ms\"\n\
             [relay]\nmode = \"exact\"\nformat = \"json\"\noutsiders = false\nkey = \"0123456789abcdef\"\n\
             previous_key = \"fedcba9876543210\"\n",
        );
        let sentinels = vec![("a".to_owned(), 1), ("::1".to_owned(), 2)];
        assert_eq!(options.servers, Servers::Sentinel { sentinels, service: "main".into() });
        let credentials = &options.credentials;
        assert_eq!(credentials.username.as_deref(), Some("u"));
        assert_eq!(credentials.password.as_deref(), Some("p"));
        assert_eq!(options.sentinel_credentials.username, None);
        assert_eq!(options.sentinel_credentials.password.as_deref(), Some("s"));
        assert_eq!(options.tls.as_ref().unwrap().ca_pem, None);
        assert_eq!((options.command_timeout_ms, options.connect_timeout_ms), (300, 400));
        assert_eq!((options.pending_bytes_max, options.dedup_max), (1 << 20, 5_000));
        assert_eq!((options.replicas_min, options.wait_timeout_ms), (2, 700));
        assert_eq!((options.dedup_ttl_ms, options.outsiders), (180_000, false));
        assert_eq!((options.mode, &options.modes[..]), (RelayMode::Exact, &[RelayMode::Exact][..]));
        let keys = RelayKeys {
            current: (*b"0123456789abcdef").into(),
            previous: Some((*b"fedcba9876543210").into()),
        };
        assert!(options.keys == Some(keys));
        assert_eq!(config("[relay]\nformat = \"json\"\n").relay.format, RelayFormat::Json);
    }

    #[test]
    fn a_room_is_relayed_as_the_first_rule_that_matches_says() {
        let options = options_of(&rules("a-{x}=exact a-{x}-{y}=sharded b {any}=sharded"));
        assert_eq!(options.modes, RelayMode::ALL);
        for (room, mode) in [
            ("a-1", RelayMode::Exact),
            ("a-1-2", RelayMode::Exact),
            ("b", RelayMode::Pattern),
            ("c", RelayMode::Sharded),
            // Only a rule that names it literally reaches a room that belongs to somebody.
            ("user-1", RelayMode::Pattern),
        ] {
            assert_eq!((options.mode_of)(&RoomName::parse(room).unwrap()), mode, "{room}");
        }
        let plain = options_of("[relay]\nmode = \"sharded\"\n");
        assert_eq!(plain.modes, [RelayMode::Sharded]);
        assert_eq!((plain.mode_of)(&RoomName::parse("system").unwrap()), RelayMode::Sharded);
    }

    #[test]
    fn nodes_that_relay_alike_have_the_same_digest_and_others_another() {
        let digest = |text: &str| options_of(text).modes_digest;
        let plain = digest("");
        assert_eq!(plain, digest("[relay]\nformat = \"json\"\nkey = \"0123456789abcdef\"\n"));
        assert_eq!(plain, digest(&rules("a b=pattern")), "rules that change nothing");
        let exact = digest(&rules("a b=exact"));
        assert_eq!(exact, digest(&rules("a=pattern b=exact c d=pattern")));
        let mut all = vec![plain, exact];
        for words in ["a b=sharded", "b=exact a", "b=exact c=exact", "a=exact b=exact", "ab=exact"]
        {
            all.push(digest(&rules(words)));
        }
        let kept = |more: &str| digest(&format!("{}history = {{{more}}}\n", rules("a")));
        assert_eq!(kept(""), kept("size = 5"), "how much a node asks to keep is its own affair");
        all.push(kept(""));
        all.push(digest("[relay]\nmode = \"exact\"\n"));
        all.push(digest("[relay]\noutsiders = false\n"));
        all.push(digest("[dialects.chat]\nenabled = true\n"));
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn the_digest_is_the_same_in_every_build() {
        // Nodes of two versions compare them. `printf '<key>pattern\ntrue\n<key>' | sha1sum`, the first 16 digits.
        assert_eq!(options_of("").modes_digest, 0x6b10_a325_5b32_01b3);
    }
}
