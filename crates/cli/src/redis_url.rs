//! `--redis URL`: an address as Redis' own tools write it, as the configuration's keys. A URL may hold a password, so
//! none of its parts is ever written out.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::failure::Failure;

const FORMS: &str = "write redis://host:port, redis-sentinel://host:port,host:port/service or \
                     redis-cluster://host:port,host:port, with rediss for TLS and user:password@ before the hosts \
                     where they ask";

/// A URL as it was given; looked at by [`RedisUrl::overrides`], so that no error of the command line quotes it.
#[derive(Clone)]
pub(crate) struct RedisUrl(String);

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(********)")
    }
}

impl FromStr for RedisUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl RedisUrl {
    /// The keys and values that it stands for.
    pub(crate) fn overrides(&self) -> Result<Vec<(String, String)>, Failure> {
        parse(&self.0).map_err(|text| Failure::Usage(format!("--redis: {text}; {FORMS}")))
    }
}

fn parse(url: &str) -> Result<Vec<(String, String)>, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("this is no URL")?;
    let (topology, port, tls) = match scheme {
        "redis" => ("standalone", 6_379, false),
        "rediss" => ("standalone", 6_379, true),
        "redis-sentinel" => ("sentinel", 26_379, false),
        "rediss-sentinel" => ("sentinel", 26_379, true),
        "redis-cluster" => ("cluster", 6_379, false),
        "rediss-cluster" => ("cluster", 6_379, true),
        _ => return Err("the URL's scheme is unknown"),
    };
    if rest.contains(['?', '#']) {
        return Err("the URL has parameters, which have keys of their own (--set redis...)");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err("the URL's password has a / in it, which is written %2F");
    }
    let (userinfo, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(info, hosts)| (Some(info), hosts));
    let servers: Option<Vec<_>> = hosts.split(',').map(|host| with_port(host, port)).collect();
    let servers = servers.ok_or("the URL has a host or port that cannot be one")?;
    if topology == "standalone" && servers.len() > 1 {
        return Err("redis:// is one server; several are Sentinels or a cluster");
    }
    let mut found = vec![
        ("broker.kind", "redis".to_owned()),
        ("redis.topology", topology.to_owned()),
        ("redis.servers", servers.join(",")),
        ("redis.tls", tls.to_string()),
    ];
    match (topology, path) {
        ("sentinel", "") => return Err("the master's name is missing behind the Sentinels"),
        ("sentinel", service) => found.push(("redis.sentinel_service", service.to_owned())),
        (_, "" | "0") => {}
        _ => return Err("the URL names a database, but channels have none: leave it out"),
    }
    if let Some(info) = userinfo {
        let (user, password) = info.split_once(':').ok_or(
            "the URL has a user without a password; a password alone is written :password@",
        )?;
        let plain = |text| decoded(text).ok_or("the URL has a % that is no two digits of a byte");
        if !user.is_empty() {
            found.push(("redis.username", plain(user)?));
        }
        found.push(("redis.password", plain(password)?));
    }
    Ok(found.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A host with its port, the usual one where none is given.
fn with_port(host: &str, usual: u16) -> Option<String> {
    let end = host.rfind(']').unwrap_or(0);
    let (name, port) = match host.rfind(':').filter(|at| *at > end || end == 0) {
        Some(at) => {
            let (name, port) = host.split_at(at);
            (name, port.strip_prefix(':')?.parse::<u16>().ok().filter(|port| *port != 0)?)
        }
        None => (host, usual),
    };
    let is_sound = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    let is_v6 = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_sound = match is_v6 {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(is_sound),
    };
    is_sound.then(|| format!("{name}:{port}"))
}

/// `%40` as `@`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys and values of a URL, one a line, but for `broker.kind`, which all have.
    #[track_caller]
    fn check(url: &str, expected: &str) {
        let found = url.parse::<RedisUrl>().unwrap().overrides().unwrap();
        let lines: Vec<_> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(lines[0], "broker.kind=redis");
        let lines = lines[1..].join(" ").replace("redis.", "");
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_url_is_a_short_form_of_keys() {
        check("redis://a:1", "topology=standalone servers=a:1 tls=false");
        check("redis://a/0", "topology=standalone servers=a:6379 tls=false");
        check("rediss://[::1]", "topology=standalone servers=[::1]:6379 tls=true");
        check(
            "redis://:p%40ss%3A@[::1]:7",
            "topology=standalone servers=[::1]:7 tls=false password=p@ss:",
        );
        check(
            "redis-sentinel://u:p:q@a,b:2/main",
            "topology=sentinel servers=a:26379,b:2 tls=false sentinel_service=main username=u password=p:q",
        );
        check("rediss-cluster://a:1,b:2", "topology=cluster servers=a:1,b:2 tls=true");
    }

    #[test]
    fn a_bad_url_is_refused_with_its_mend_and_never_quoted() {
        for (url, told) in [
            ("hunter2", "no URL"),
            ("http://:hunter2@a:1", "scheme"),
            ("redis://", "a host"),
            ("redis://:hunter2@", "a host"),
            ("redis://hunter2:x", "a host"),
            ("redis://hunter2:0", "a host"),
            ("redis://hunter2:65536", "a host"),
            ("redis://::1", "a host"),
            ("redis://hunter2!:1", "a host"),
            ("redis://hunter2,b:1", "one server"),
            ("redis://hunter2/1", "database"),
            ("redis-cluster://hunter2/1", "database"),
            ("redis-sentinel://hunter2", "master's name"),
            ("redis://hunter2@a:1", "without a password"),
            ("redis://:hunter2/@a:1", "%2F"),
            ("redis://:hunter2%@a:1", "%"),
            ("redis://:hunter2%zz@a:1", "%"),
            ("redis://:hunter2%ff@a:1", "%"),
            ("redis://a:1?password=hunter2", "parameters"),
        ] {
            let given = url.parse::<RedisUrl>().unwrap();
            assert!(!format!("{given:?}").contains("hunter2"));
            let failure = given.overrides().unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)));
            let text = failure.to_string();
            assert!(text.starts_with("--redis: ") && text.contains(told), "{url}: {text}");
            assert!(
                text.contains("write redis://host:port") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }
}
