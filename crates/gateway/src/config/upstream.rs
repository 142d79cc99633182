//! `[upstream]`: the application's back-ends, the calls that are made to them, and which requests of clients become
//! such calls.

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Method, Uri};
use ipnet::IpNet;

use super::Secret;
use super::raw::{RawCall, RawRequests, RawTarget, RawUpstream, Scalar};
use super::read::{Reader, SecretKeys};

/// Targets, calls, and tables of requests that one configuration may have, of each.
pub(super) const TABLES_MAX: usize = 64;

/// Longest name of a target or a call, and longest pattern of methods. Units: bytes.
const NAME_BYTES_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 255;

/// Shortest secret that signs. Units: bytes.
const SECRET_BYTES_MIN: usize = 16;

/// Networks of this machine, which `--dev` opens.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// `[upstream]`.
#[derive(Clone, Debug, Default)]
pub struct UpstreamConfig {
    /// `[[upstream.targets]]`.
    pub targets: Vec<TargetConfig>,
    /// `[[upstream.calls]]`.
    pub calls: Vec<CallConfig>,
    /// `[[upstream.requests]]`, in order.
    pub requests: Vec<RequestsConfig>,
}

/// `[[upstream.targets]]`: where a back-end is.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// How calls name it.
    pub name: Box<str>,
    /// Connections are encrypted.
    pub https: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the header `Host` has them.
    pub authority: HeaderValue,
    /// What all paths begin with; empty, or without a slash at its end.
    path: String,
    /// Networks that are not of the internet and may be connected to.
    pub allow_private: Vec<IpNet>,
    /// Signs the bodies; `None`: nothing does.
    pub secret: Option<Secret>,
    /// The header `Authorization`.
    pub authorization: Option<HeaderValue>,
    /// The certificates that it is checked with, in PEM; `None`: the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// `[[upstream.calls]]`: how a back-end is called.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// How others name it; also a label of metrics.
    pub name: Box<str>,
    /// Which target, by its place.
    pub target: usize,
    /// A method that has a body.
    pub method: Method,
    /// Path and query, the target's own path in front.
    pub uri: Uri,
    /// More headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long all of it may take. Units: milliseconds.
    pub timeout_ms: u64,
    /// Requests under way.
    pub concurrency: usize,
    /// Calls that may wait for their turn.
    pub queue: u32,
    /// The largest answer. Units: bytes.
    pub response_bytes: usize,
    /// Failures in a row after which the back-end is left alone.
    pub breaker_failures: u32,
    /// For how long. Units: milliseconds.
    pub breaker_open_ms: u64,
    /// How long answers are kept, and how many; `None`: none is.
    pub cache: Option<CacheConfig>,
}

/// What a call keeps of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How long an answer is as good as a new one. Units: milliseconds.
    pub fresh_ms: u64,
    /// How much longer it is served, marked as stale, while the breaker is open. Units: milliseconds.
    pub stale_ms: u64,
    /// Answers.
    pub entries_max: usize,
    /// All of them. Units: bytes.
    pub bytes_max: usize,
}

/// `[[upstream.requests]]`: which requests of clients become a call.
#[derive(Clone, Debug)]
pub struct RequestsConfig {
    /// Which.
    pub methods: Vec<MethodPattern>,
    /// Which call, by its place.
    pub call: usize,
}

/// A method of requests, or with `*` at its end all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodPattern {
    start: Box<str>,
    is_open: bool,
}

impl MethodPattern {
    /// Reads a pattern; `None`: it is empty, too long, or has its `*` elsewhere than at the end.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, is_open) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        let is_sound = !text.is_empty() && text.len() <= PATTERN_BYTES_MAX && !start.contains('*');
        is_sound.then(|| Self { start: start.into(), is_open })
    }

    /// Whether a method is meant.
    #[must_use]
    pub fn fits(&self, method: &str) -> bool {
        if self.is_open { method.starts_with(&*self.start) } else { *method == *self.start }
    }
}

/// Reads the section.
pub(super) fn upstream(raw: &RawUpstream, dev: bool, r: &mut Reader<'_>) -> UpstreamConfig {
    let tables = [
        ("targets", raw.targets.len()),
        ("calls", raw.calls.len()),
        ("requests", raw.requests.len()),
    ];
    for (name, count) in tables {
        if count > TABLES_MAX {
            r.problem(
                &format!("upstream.{name}"),
                format!("are {count}, allowed are {TABLES_MAX}"),
            );
        }
    }
    let before = r.problems.len();
    let mut config = UpstreamConfig::default();
    for (at, it) in raw.targets.iter().enumerate() {
        let key = format!("upstream.targets[{at}]");
        let Some(target) = target(&key, it, dev, r) else { continue };
        if config.targets.iter().any(|other| other.name == target.name) {
            r.problem(&format!("{key}.name"), "is used twice");
        }
        config.targets.push(target);
    }
    // A call of a target that is wrong itself would be told as unknown.
    let targets_are_sound = r.problems.len() == before;
    for (at, it) in raw.calls.iter().enumerate() {
        let key = format!("upstream.calls[{at}]");
        let targets = targets_are_sound.then_some(&*config.targets);
        let Some(call) = call(&key, it, targets, r) else { continue };
        if config.calls.iter().any(|other| other.name == call.name) {
            r.problem(&format!("{key}.name"), "is used twice");
        }
        config.calls.push(call);
    }
    let calls_are_sound = r.problems.len() == before;
    for (at, it) in raw.requests.iter().enumerate() {
        let key = format!("upstream.requests[{at}]");
        let names: Vec<&str> = config.calls.iter().map(|call| &*call.name).collect();
        config.requests.extend(requests(&key, it, calls_are_sound.then_some(&*names), r));
    }
    config
}

/// A name, as metrics may have it for a label.
fn name(key: &str, value: Option<&Scalar>, r: &mut Reader<'_>) -> Option<String> {
    let name = r.required(key, value)?;
    let is_sound =
        |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'_' | b'.');
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_sound) {
        let mend = "lower-case letters, digits, `-`, `_` and `.`, at most 64 of them";
        r.problem(key, format!("is {name:?}; write {mend}"));
        return None;
    }
    Some(name)
}

/// The place of a name among others; `None` for the others: they are not known.
pub(super) fn place(
    key: &str,
    name: &str,
    of: Option<&[&str]>,
    r: &mut Reader<'_>,
) -> Option<usize> {
    let names = of?;
    let found = names.iter().position(|it| *it == name);
    if found.is_none() {
        let known = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
        r.problem(key, format!("is {name:?}, which is not configured; known are: {known}"));
    }
    found
}

fn target(key: &str, raw: &RawTarget, dev: bool, r: &mut Reader<'_>) -> Option<TargetConfig> {
    let of = |name: &str| format!("{key}.{name}");
    let name = name(&of("name"), raw.name.as_ref(), r);
    let url = r.required(&of("url"), raw.url.as_ref());
    let url = url.and_then(|text| {
        let read = Url::read(&text);
        if read.is_none() {
            // Not quoted: it may hold a password.
            let text = "is no address of a back-end; write for example \"https://app.example.com\" or \
                        \"http://10.1.2.3:8000/hooks\", without user, query or fragment";
            r.problem(&of("url"), text);
        }
        read
    });
    let mut allow_private = networks(&of("allow_private"), raw.allow_private.as_ref(), r);
    if dev {
        allow_private.extend(LOOPBACK.iter().filter_map(|it| it.parse::<IpNet>().ok()));
    }
    let secret = SecretKeys {
        name: "secret",
        value: raw.secret.as_ref(),
        env: raw.secret_env.as_ref(),
        file: raw.secret_file.as_ref(),
        bytes_min: SECRET_BYTES_MIN,
    };
    let secret = r.optional_secret(key, &secret);
    let authorization = SecretKeys {
        name: "authorization",
        value: raw.authorization.as_ref(),
        env: raw.authorization_env.as_ref(),
        file: raw.authorization_file.as_ref(),
        bytes_min: 1,
    };
    let authorization = r.optional_secret(key, &authorization).and_then(|secret| {
        let value = HeaderValue::from_bytes(secret.expose());
        let mut value = value
            .map_err(|_| r.problem(&of("authorization"), "has characters that no header has"))
            .ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let ca_pem = raw.tls_ca_file.as_ref().and_then(|file| r.certificates(&of("tls_ca_file"), file));
    let Url { https, host, port, authority, path } = url?;
    if ca_pem.is_some() && !https {
        let text = "is given, but url begins with http:; write https:, or leave this out";
        r.problem(&of("tls_ca_file"), text);
    }
    Some(TargetConfig {
        name: name?.into(),
        https,
        host,
        port,
        authority,
        path,
        allow_private,
        secret,
        authorization,
        ca_pem,
    })
}

/// An address of a back-end.
struct Url {
    https: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: String,
}

impl Url {
    fn read(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (https, default_port) = match uri.scheme_str()? {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
            return None;
        }
        let host = authority.host();
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let port = match authority.as_str().strip_prefix(host)? {
            "" => default_port,
            port => port.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self {
            https,
            port,
            authority: HeaderValue::from_str(authority.as_str()).ok()?,
            path: uri.path().trim_end_matches('/').to_owned(),
            host: inner.unwrap_or(host).to_owned(),
        })
    }
}

fn networks(key: &str, value: Option<&Scalar>, r: &mut Reader<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in value.map(|value| r.texts(key, value)).unwrap_or_default() {
        let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or(address) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let mend = "write an address or a network, for example \"10.0.0.0/8\"";
                r.problem(key, format!("has {text:?}; {mend}"));
            }
        }
    }
    networks
}

fn call(
    key: &str,
    raw: &RawCall,
    targets: Option<&[TargetConfig]>,
    r: &mut Reader<'_>,
) -> Option<CallConfig> {
    let of = |name: &str| format!("{key}.{name}");
    let name = name(&of("name"), raw.name.as_ref(), r);
    let target = r.required(&of("target"), raw.target.as_ref());
    let names: Option<Vec<&str>> = targets.map(|it| it.iter().map(|it| &*it.name).collect());
    let target = target.and_then(|it| place(&of("target"), &it, names.as_deref(), r));
    let base = targets.zip(target).and_then(|(targets, at)| targets.get(at)).map(|it| &*it.path);
    let uri = uri(&of("path"), raw.path.as_ref(), base.unwrap_or_default(), r);
    let methods = [("POST", Method::POST), ("PUT", Method::PUT), ("PATCH", Method::PATCH)];
    let method = method(&of("method"), raw.method.as_ref(), &methods, r);
    let mut count = |name: &str, value: &Option<Scalar>, default: u32, max: u64| {
        let value = value.as_ref().map(|it| r.count(&of(name), it, 1..=max));
        value.map_or(default, |it| u32::try_from(it).unwrap_or(u32::MAX))
    };
    let concurrency = count("concurrency", &raw.concurrency, 64, 1_024);
    let queue = count("queue", &raw.queue, 1_024, 65_536);
    let breaker_failures = count("breaker_failures", &raw.breaker_failures, 5, 1_000);
    let mut time = |name: &str, value: &Option<Scalar>, default_ms: u64, max_ms: u64| {
        let value = value.as_ref().map(|it| r.time(&of(name), it, 10..=max_ms));
        value.unwrap_or(default_ms)
    };
    let timeout_ms = time("timeout", &raw.timeout, 2_000, 60_000);
    let breaker_open_ms = time("breaker_open", &raw.breaker_open, 60_000, 3_600_000);
    let response_bytes = raw.response_bytes.as_ref();
    let response_bytes = response_bytes.map(|it| r.size(&of("response_bytes"), it, KIB..=16 * MIB));
    let headers = headers(&of("headers"), raw.headers.as_ref(), r);
    let cache = cache(key, raw, r);
    Some(CallConfig {
        name: name?.into(),
        target: target?,
        method: method?,
        uri: uri?,
        headers,
        timeout_ms,
        concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
        queue,
        response_bytes: response_bytes.unwrap_or(256 << 10),
        breaker_failures,
        breaker_open_ms,
        cache,
    })
}

fn method(
    key: &str,
    value: Option<&Scalar>,
    methods: &[(&str, Method)],
    r: &mut Reader<'_>,
) -> Option<Method> {
    let Some(value) = value else { return Some(Method::POST) };
    let text = r.text(key, value)?;
    let found = methods.iter().find(|(name, _)| *name == text).map(|(_, method)| method.clone());
    if found.is_none() {
        let mend = "write \"POST\", \"PUT\" or \"PATCH\": the body says what is asked";
        r.problem(key, format!("is {text:?}; {mend}"));
    }
    found
}

fn uri(key: &str, value: Option<&Scalar>, base: &str, r: &mut Reader<'_>) -> Option<Uri> {
    let text = r.required(key, value)?;
    let whole = format!("{base}{text}");
    let uri = Some(whole).filter(|_| text.starts_with('/') && !text.contains('#'));
    let uri = uri.and_then(|it| it.parse::<Uri>().ok()).filter(|it| it.authority().is_none());
    if uri.is_none() {
        r.problem(key, "is no path; write for example \"/hooks/reports\"");
    }
    uri
}

fn headers(
    key: &str,
    value: Option<&Scalar>,
    r: &mut Reader<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for text in value.map(|value| r.texts(key, value)).unwrap_or_default() {
        let read = text.split_once(':').and_then(|(name, value)| {
            let name = name.trim().parse::<HeaderName>().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = read else {
            r.problem(key, "has an entry that is no header; write for example \"X-App: shop\"");
            continue;
        };
        let ours = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION];
        if name == AUTHORIZATION {
            let mend = "give it as authorization of the target, where it is never written out";
            r.problem(key, format!("has {name}; {mend}"));
        } else if ours.contains(&name) || name.as_str().starts_with("roomcast-") {
            r.problem(key, format!("has {name}, which the node says itself; leave it out"));
        } else {
            headers.push((name, value));
        }
    }
    headers
}

fn cache(key: &str, raw: &RawCall, r: &mut Reader<'_>) -> Option<CacheConfig> {
    let of = |name: &str| format!("{key}.{name}");
    let Some(fresh) = &raw.cache else {
        let others = [
            ("cache_stale", &raw.cache_stale),
            ("cache_entries", &raw.cache_entries),
            ("cache_bytes", &raw.cache_bytes),
        ];
        for (name, value) in others {
            if value.is_some() {
                let mend = "say with cache how long answers are kept, or leave this out";
                r.problem(&of(name), format!("is given without cache; {mend}"));
            }
        }
        return None;
    };
    let day = 86_400_000;
    let fresh_ms = r.time(&of("cache"), fresh, 10..=day);
    let stale_ms = raw.cache_stale.as_ref().map(|it| r.time(&of("cache_stale"), it, 0..=day));
    let entries = raw.cache_entries.as_ref();
    let entries = entries.map(|it| r.count(&of("cache_entries"), it, 1..=1_000_000));
    let bytes = raw.cache_bytes.as_ref();
    let bytes = bytes.map(|it| r.size(&of("cache_bytes"), it, KIB..=1_024 * MIB));
    Some(CacheConfig {
        fresh_ms,
        stale_ms: stale_ms.unwrap_or(3_600_000),
        entries_max: usize::try_from(entries.unwrap_or(1_000)).unwrap_or(usize::MAX),
        bytes_max: bytes.unwrap_or(4 << 20),
    })
}

fn requests(
    key: &str,
    raw: &RawRequests,
    calls: Option<&[&str]>,
    r: &mut Reader<'_>,
) -> Option<RequestsConfig> {
    let of = |name: &str| format!("{key}.{name}");
    let mut methods = Vec::new();
    let texts = raw.methods.as_ref().map(|value| r.texts(&of("methods"), value));
    for text in texts.unwrap_or_default() {
        match MethodPattern::parse(&text) {
            Some(pattern) => methods.push(pattern),
            None => {
                let mend =
                    "write a method, or how methods begin and `*` at the end, at most 255 bytes";
                r.problem(&of("methods"), format!("has {text:?}; {mend}"));
            }
        }
    }
    if raw.methods.is_none() {
        r.required(&of("methods"), None);
    }
    let call = r.required(&of("call"), raw.call.as_ref());
    let call = call.and_then(|it| place(&of("call"), &it, calls, r))?;
    Some(RequestsConfig { methods, call })
}
