//! `[dialects]`: which foreign dialects are served, where, and to whom. Owns that clients without a token are let in only
//! where somebody said so, and that two dialects have two paths.

use roomcast_dialects::roadrunner::{Alias, Brokers};
use roomcast_protocol::conversation::{DIALOG, GROUP};
use roomcast_protocol::guard::Policy;
use roomcast_protocol::room::RoomName;

use super::parse::is_origin;
use super::raw::{RawBrokerName, RawChat, RawDialects, RawRoadRunner, Scalar};
use super::read::Reader;
use super::upstream::place;
use crate::guard::Pattern;

/// Names of brokers. Source: far more than an application has drivers.
const BROKERS_MAX: usize = 64;

const ROADRUNNER_PATH: &str = "dialects.roadrunner.path";

/// `[dialects]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectsConfig {
    /// `[dialects.chat]`; `None`: it is not served.
    pub chat: Option<ChatConfig>,
    /// `[dialects.roadrunner]`; `None`: it is not served.
    pub roadrunner: Option<RoadRunnerConfig>,
    /// What RoadRunner's clients and back-ends call brokers.
    pub brokers: Brokers,
}

/// `[dialects.chat]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatConfig {
    /// Where clients connect.
    pub path: Box<str>,
}

/// `[dialects.roadrunner]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoadRunnerConfig {
    /// Where clients connect.
    pub path: Box<str>,
    /// Pages that may connect, one origin with at most one `*` in it; `None`: those of `origins.allow`.
    pub allowed_origin: Option<Box<str>>,
    /// Who its clients are.
    pub identity: Identity,
}

/// Who the clients of a dialect are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Whom their tokens name.
    Token,
    /// Nobody in particular: whoever connects is let in, and the rules of rooms decide.
    Open,
    /// Nobody in particular: whom the application lets in. It is asked by this call, by its place, also at each join.
    Call(usize),
}

/// Reads the section. `calls` are the names of `[[upstream.calls]]`; `None`: they are wrong themselves.
pub(super) fn dialects(
    raw: &RawDialects,
    calls: Option<&[&str]>,
    dev: bool,
    r: &mut Reader<'_>,
) -> DialectsConfig {
    let chat = chat(&raw.chat, r);
    let raw = &raw.roadrunner;
    let brokers = brokers(raw, r);
    let enabled = r.flag("dialects.roadrunner.enabled", &raw.enabled);
    let path = path(ROADRUNNER_PATH, &raw.path, "/roadrunner", r);
    if enabled && chat.as_ref().is_some_and(|chat| chat.path == path) {
        r.problem(ROADRUNNER_PATH, format!("is {path:?}, where chat is served; choose another"));
    }
    let allowed_origin = raw.allowed_origin.as_ref().and_then(|value| origin(value, r));
    if enabled && !dev && raw.identity.is_none() {
        let text = "needs dialects.roadrunner.identity: RoadRunner's clients bring no token. Say \"call\" to ask the \
                    application, or \"open\" to let in whoever connects, as `user.kind == 'anonymous'`; the rules of \
                    rooms then decide who joins what";
        r.problem("dialects.roadrunner.enabled", text);
    }
    let identity = identity(raw, calls, r).unwrap_or(Identity::Open);
    let roadrunner = RoadRunnerConfig { path, allowed_origin, identity };
    DialectsConfig { chat, roadrunner: enabled.then_some(roadrunner), brokers }
}

fn chat(raw: &RawChat, r: &mut Reader<'_>) -> Option<ChatConfig> {
    let enabled = r.flag("dialects.chat.enabled", &raw.enabled);
    let path = path("dialects.chat.path", &raw.path, "/chat", r);
    enabled.then_some(ChatConfig { path })
}

/// A rule for rooms in which people talk, where chat is served: nobody is in them by name, and they have to keep what is
/// said, and what was read. `key` is the rule's.
pub(super) fn conversations(
    key: &str,
    pattern: Option<&Pattern>,
    policy: Policy,
    r: &mut Reader<'_>,
) -> Policy {
    let begins = |pattern: &Pattern| [DIALOG, GROUP].iter().any(|it| pattern.begins_with(it));
    if !pattern.is_some_and(begins) {
        return policy;
    }
    if policy.history.is_none() || !policy.receipts {
        let mend = "write `history = { size = 10000, bytes_max = \"64 MiB\", ttl = \"720h\" }` and `receipts = true`, or \
                    leave the rule out";
        let text = "reaches rooms in which clients of chat talk, which keep what is said and what was read";
        r.problem(&format!("{key}.match"), format!("{text}; {mend}"));
    }
    Policy { conversation: true, by_call: false, ..policy }
}

fn identity(raw: &RawRoadRunner, calls: Option<&[&str]>, r: &mut Reader<'_>) -> Option<Identity> {
    let (key, authorize) = ("dialects.roadrunner.identity", "dialects.roadrunner.authorize");
    let text = raw.identity.as_ref().map(|value| r.text(key, value));
    let named = raw.authorize.as_ref();
    match text {
        Some(Some(text)) if text == "call" => match named {
            Some(value) => {
                let name = r.text(authorize, value)?;
                place(authorize, &name, calls, r).map(Identity::Call)
            }
            None => {
                let mend = "name the call of [[upstream.calls]] that asks the application, for example \"join\"";
                r.problem(authorize, format!("is missing, but {key} is \"call\": {mend}"));
                None
            }
        },
        Some(Some(text)) if text != "open" => {
            let mend = "write \"call\" to ask the application who may connect and join, or \"open\" to let in everybody";
            r.problem(key, format!("is {text:?}; {mend}"));
            None
        }
        Some(None) => None,
        Some(Some(_)) | None => {
            if named.is_some() {
                let mend = "write identity = \"call\", or leave this out";
                r.problem(authorize, format!("is given, but nobody asks by it; {mend}"));
            }
            Some(Identity::Open)
        }
    }
}

fn path(key: &str, value: &Scalar, example: &str, r: &mut Reader<'_>) -> Box<str> {
    let path = r.text(key, value).unwrap_or_default();
    let sound = |it: u8| it.is_ascii_alphanumeric() || b"/-._~".contains(&it);
    if !path.starts_with('/') || path.len() < 2 || !path.bytes().all(sound) {
        let mend = "letters, digits and - . _ ~ / alone";
        r.problem(key, format!("is {path:?}; write it as {example:?}: {mend}"));
    }
    let taken = roomcast_dialects::ALL.iter().find(|dialect| dialect.path() == path);
    if let Some(dialect) = taken {
        r.problem(key, format!("is {path:?}, where {} is served; choose another", dialect.name()));
    }
    path.into()
}

fn origin(value: &Scalar, r: &mut Reader<'_>) -> Option<Box<str>> {
    let key = "dialects.roadrunner.allowed_origin";
    let text = r.text(key, value)?;
    if text != "*" && !is_origin(&text.replacen('*', "0", 1)) {
        let mend = "write one origin as browsers send it (scheme://host or scheme://host:port), with `*` for one part \
                    of it if need be, or \"*\" alone";
        r.problem(key, format!("is {text:?}; {mend}"));
    } else if let Some(start) = text.strip_suffix('*')
        && !(start.is_empty() || start.ends_with(['/', ':']))
    {
        let mend = "let the host's end stand behind it, as in https://*.example.com";
        r.problem(key, format!("is {text:?}, which means {start}.evil as well; {mend}"));
    }
    Some(text.into())
}

fn brokers(raw: &RawRoadRunner, r: &mut Reader<'_>) -> Brokers {
    let prefix = |key: &str, value: &Scalar, r: &mut Reader<'_>| -> Box<str> {
        if matches!(value, Scalar::Text(text) if text.is_empty()) {
            return Box::default();
        }
        let text = r.text(key, value).unwrap_or_default();
        if let Err(bad) = RoomName::parse(&text) {
            r.problem(key, format!("is {text:?}, with which no room's name can begin: {bad}"));
        }
        text.into()
    };
    let default_prefix = prefix("dialects.roadrunner.default_prefix", &raw.default_prefix, r);
    if raw.brokers.is_empty() {
        let alias = |name: &str| Alias { name: name.into(), prefix: default_prefix.clone() };
        let aliases = ["memory", "redis"].map(alias).into();
        return Brokers::new(default_prefix, aliases);
    }
    if raw.brokers.len() > BROKERS_MAX {
        let has = raw.brokers.len();
        r.problem("dialects.roadrunner.brokers", format!("are {has}, allowed are {BROKERS_MAX}"));
    }
    let mut aliases: Vec<Alias> = Vec::new();
    for (at, RawBrokerName { name, prefix: own }) in raw.brokers.iter().enumerate() {
        let key = format!("dialects.roadrunner.brokers[{at}]");
        let Some(name) = r.required(&format!("{key}.name"), name.as_ref()) else { continue };
        if aliases.iter().any(|alias| *alias.name == *name) {
            r.problem(&format!("{key}.name"), format!("{name:?} is used twice"));
        }
        let own = own.as_ref().map(|value| prefix(&format!("{key}.prefix"), value, r));
        aliases.push(Alias { name: name.into(), prefix: own.unwrap_or_default() });
    }
    Brokers::new(default_prefix, aliases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, LoadOptions};

    fn loaded(dev: bool, keys: &[(&str, &str)]) -> Result<DialectsConfig, String> {
        let set =
            |(key, value): &(&str, &str)| (format!("dialects.roadrunner.{key}"), (*value).into());
        let overrides = keys.iter().map(set).collect();
        let options = LoadOptions { overrides, dev, ..LoadOptions::default() };
        Config::load(&options).map(|config| config.dialects).map_err(|errors| errors.to_string())
    }

    #[test]
    fn no_foreign_dialect_is_served_unless_somebody_says_so() {
        for dev in [false, true] {
            let dialects = loaded(dev, &[]).unwrap();
            assert_eq!((dialects.chat, dialects.roadrunner), (None, None));
            assert_eq!(dialects.brokers, Brokers::default());
        }
    }

    #[test]
    fn who_its_clients_are_must_be_said_but_in_dev() {
        let problem = loaded(false, &[("enabled", "true")]).unwrap_err();
        assert!(problem.contains("dialects.roadrunner.identity"), "{problem}");
        let open = [("enabled", "true"), ("identity", "open")];
        for served in [loaded(true, &[("enabled", "true")]), loaded(false, &open)] {
            let served = served.unwrap().roadrunner.unwrap();
            assert_eq!((&*served.path, served.identity), ("/roadrunner", Identity::Open));
        }
        let problem = loaded(true, &[("identity", "token")]).unwrap_err();
        assert!(problem.contains("write \"call\" to ask the application"), "{problem}");
    }

    /// With a call `join` behind another one.
    fn asked(keys: &[(&str, &str)], rules: &str) -> Result<DialectsConfig, String> {
        let lines: String = keys.iter().map(|(key, it)| format!("{key} = \"{it}\"\n")).collect();
        let call = |name| {
            format!("[[upstream.calls]]\nname = \"{name}\"\ntarget = \"app\"\npath = \"/\"\n")
        };
        let text = format!(
            "[dialects.roadrunner]\nenabled = true\n{lines}\
             [[upstream.targets]]\nname = \"app\"\nurl = \"http://127.0.0.1:1\"\n{}{}{rules}",
            call("reports"),
            call("join"),
        );
        written(&text).map(|config| config.dialects)
    }

    fn written(text: &str) -> Result<Config, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("roomcast-dialects-{}-{count}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        let options = LoadOptions { file: Some(file.clone()), dev: true, ..LoadOptions::default() };
        let loaded = Config::load(&options).map_err(|errors| errors.to_string());
        std::fs::remove_file(file).unwrap();
        loaded
    }

    #[test]
    fn the_application_is_asked_by_a_call_that_is_there() {
        let call = ("identity", "call");
        let served = asked(&[call, ("authorize", "join")], "").unwrap().roadrunner.unwrap();
        assert_eq!(served.identity, Identity::Call(1));
        for (keys, said) in [
            (
                &[call][..],
                "authorize is missing, but dialects.roadrunner.identity is \"call\": name the call",
            ),
            (
                &[call, ("authorize", "joins")],
                "\"joins\", which is not configured; known are: reports, join",
            ),
            (
                &[("identity", "open"), ("authorize", "join")],
                "nobody asks by it; write identity = \"call\"",
            ),
            (&[("authorize", "join")], "nobody asks by it"),
        ] {
            let problem = asked(keys, "").unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn a_rule_leaves_it_to_the_application_only_where_that_is_asked() {
        let rule = "[[rooms]]\nmatch = \"a\"\njoin = \"call\"\n";
        let asks = [("identity", "call"), ("authorize", "join")];
        assert!(asked(&asks, rule).is_ok());
        let problem = asked(&[("identity", "open")], rule).unwrap_err();
        assert!(problem.contains("rooms.join is \"call\", but nobody asks"), "{problem}");
    }

    const CHAT: &str = "[dialects.chat]\nenabled = true\n";

    #[test]
    fn chat_is_served_where_its_path_says_and_no_two_dialects_on_one() {
        let served = |text: &str| written(text).map(|config| config.dialects);
        assert_eq!(&*served(CHAT).unwrap().chat.unwrap().path, "/chat");
        let path = |path: &str| format!("{CHAT}path = {path:?}\n");
        assert_eq!(&*served(&path("/talk/v1")).unwrap().chat.unwrap().path, "/talk/v1");
        let both = |enabled| {
            format!("{}[dialects.roadrunner]\nenabled = {enabled}\n", path("/roadrunner"))
        };
        assert!(served(&both(false)).is_ok(), "one that is not served has no path");
        for (text, said) in [
            (both(true), "dialects.roadrunner.path is \"/roadrunner\", where chat is served"),
            (path("/ws"), "dialects.chat.path is \"/ws\", where native is served"),
            (path("chat"), "write it as \"/chat\": letters, digits"),
        ] {
            let problem = served(&text).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn a_rule_for_rooms_of_conversations_keeps_what_they_need() {
        let rule =
            |more: &str| format!("[[rooms]]\nmatch = \"dialog-{{a}}\"\njoin = \"true\"\n{more}");
        let with = |text: &str, rule: &str| written(&format!("{text}{rule}"));
        let kept = "history = { size = 5 }\nreceipts = true\n";
        let policy = |config: Config| config.rooms[0].policy.clone();
        assert!(policy(with(CHAT, &rule(kept)).unwrap()).conversation);
        assert!(!policy(with("", &rule(kept)).unwrap()).conversation, "nobody talks in them");
        assert!(with("", &rule("")).is_ok());
        for lacks in ["", "history = {}\n"] {
            let problem = with(CHAT, &rule(lacks)).unwrap_err();
            assert!(
                problem.contains("rooms.match reaches rooms in which clients of chat talk"),
                "{problem}"
            );
            assert!(problem.contains("write `history = "), "{problem}");
        }
        let other = rule("").replace("dialog-", "user-");
        assert!(!policy(with(CHAT, &other).unwrap()).conversation);
    }

    #[test]
    fn what_is_no_path_or_no_origin_is_told_with_its_mend() {
        for (key, value, said) in [
            ("path", "roadrunner", "write it as \"/roadrunner\""),
            ("path", "/", "write it as"),
            ("path", "/a?b", "write it as"),
            ("path", "/ws", "where native is served"),
            ("allowed_origin", "example.com", "as browsers send it"),
            ("allowed_origin", "https://*.*.example.com", "as browsers send it"),
            ("allowed_origin", "https://*.example.com/", "as browsers send it"),
            ("allowed_origin", "https://good.example*", "means https://good.example.evil as well"),
            ("default_prefix", "\u{7}", "no room's name can begin"),
        ] {
            let problem = loaded(true, &[(key, value)]).unwrap_err();
            assert!(problem.contains(said), "{value}: {problem}");
        }
        for origin in [
            "*",
            "https://good.example",
            "https://*.good.example",
            "http://localhost:*",
            "https://*",
        ] {
            assert!(loaded(true, &[("allowed_origin", origin)]).is_ok(), "{origin}");
        }
    }
}
