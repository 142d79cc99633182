//! Plain requests to the public port: in `--dev` the demo page, a token for it, and where the node is; otherwise
//! nothing, so that figures and the server API are never found there (attack 29).

mod assets;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use roomcast_protocol::guard::Kind;
use roomcast_protocol::ids::NodeId;
use roomcast_protocol::room::RoomName;
use serde::Serialize;

use crate::api::access::is_loopback_host;
use crate::api::answer;
use crate::api::problem::Problem;
use crate::api::route::decode;
use crate::clock::unix_ms;
use crate::config::{Config, DEV_ISSUER, DEV_SECRET};
use crate::tokens::{self, MintOptions};
use assets::Asset;

/// What the pages may load and reach: the node they come from.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a development token permits where nobody says what it should: to hear every built-in room.
const VIEWER: [&str; 4] = ["view_system", "view_agents", "view_tasks", "view_groups"];

/// Permissions in one development token.
const PERMISSIONS_MAX: usize = 32;

/// Bytes of one permission.
const PERMISSION_BYTES_MAX: usize = 128;

/// How long a development token is good; pages fetch the next one in time. Units: milliseconds.
const TTL_MS: u64 = 3_600_000;

/// A development token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Minted {
    pub(crate) token: String,
    /// Its `exp`. Units: seconds since the Unix epoch.
    pub(crate) expires_unix_s: u64,
}

/// Makes a token for a subject with permissions; `None` where it cannot be signed.
pub(crate) type Minter = Box<dyn Fn(&str, &[String]) -> Option<Minted> + Send + Sync>;

/// What the development pages tell.
pub(crate) struct DevSite {
    pub(crate) node: NodeId,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) mint: Minter,
}

/// What the public port answers to requests that are no upgrade.
pub(crate) struct Site {
    dev: Option<DevSite>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("dev", &self.dev.is_some()).finish()
    }
}

/// What a node's public port answers, by its configuration and where it listens.
pub(crate) fn site(
    config: &Config,
    public: SocketAddr,
    internal: SocketAddr,
    node: NodeId,
) -> Site {
    if config.dev {
        Site::dev(DevSite { node, public, internal, mint: Box::new(mint) })
    } else {
        Site::none()
    }
}

/// A token for the secret that every development node accepts.
fn mint(sub: &str, permissions: &[String]) -> Option<Minted> {
    let now_unix_ms = unix_ms();
    let minted = tokens::mint(&MintOptions {
        secret: DEV_SECRET.as_bytes(),
        kid: None,
        issuer: DEV_ISSUER,
        audience: DEV_ISSUER,
        subject: sub,
        kind: Kind::User,
        permissions,
        roles: &[],
        teams: &[],
        agent_id: None,
        now_unix_ms,
        ttl_ms: TTL_MS,
    });
    match minted {
        Ok(token) => Some(Minted { token, expires_unix_s: (now_unix_ms + TTL_MS).div_ceil(1_000) }),
        Err(error) => {
            tracing::error!(%error, "a development token could not be made");
            None
        }
    }
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    sub: &'a str,
    expires: u64,
}

#[derive(Serialize)]
struct Info {
    public: String,
    internal: String,
    version: &'static str,
    node: String,
}

impl Site {
    /// Production: nothing but the dialects is served.
    pub(crate) const fn none() -> Self {
        Self { dev: None }
    }

    /// Development: the demo page, and tokens for whoever is on this machine.
    pub(crate) const fn dev(dev: DevSite) -> Self {
        Self { dev: Some(dev) }
    }

    /// Answers a request. `host` is its `Host` header.
    pub(crate) fn respond(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        host: Option<&str>,
    ) -> Response<Full<Bytes>> {
        let Some(dev) = &self.dev else { return Problem::not_found().response() };
        let page = assets::find(path);
        if page.is_none() && path != "/dev/token" && path != "/dev/info" {
            return Problem::not_found().response();
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Problem::method("GET, HEAD").response();
        }
        let mut response = match page {
            Some(asset) => shown(asset),
            None if path == "/dev/info" => answer::json(StatusCode::OK, &dev.info()),
            None => dev.token(query, host).unwrap_or_else(|problem| problem.response()),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        response
    }
}

fn shown(asset: &Asset) -> Response<Full<Bytes>> {
    let body = Bytes::from_static(asset.content);
    let mut response = answer::with_type(StatusCode::OK, asset.content_type(), body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl DevSite {
    fn info(&self) -> Info {
        Info {
            public: reachable(self.public),
            internal: reachable(self.internal),
            version: env!("CARGO_PKG_VERSION"),
            node: self.node.to_string(),
        }
    }

    /// `GET /dev/token?sub=demo&permissions=a,b`. Only for requests meant for this machine: else any name that is
    /// pointed here would give its pages a token (DNS rebinding).
    fn token(&self, query: &str, host: Option<&str>) -> Result<Response<Full<Bytes>>, Problem> {
        if !host.is_some_and(is_loopback_host) {
            let text = "Tokens are only for this machine: use 127.0.0.1, [::1] or localhost";
            return Err(Problem::new(StatusCode::FORBIDDEN, text.into()));
        }
        let asked = Asked::parse(query)
            .map_err(|text| Problem::new(StatusCode::BAD_REQUEST, text.into()))?;
        let minted = (self.mint)(&asked.sub, &asked.permissions).ok_or_else(|| {
            let text = "The token could not be signed";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text.into())
        })?;
        let expires = minted.expires_unix_s;
        let body = Token { token: &minted.token, sub: &asked.sub, expires };
        Ok(answer::json(StatusCode::OK, &body))
    }
}

/// An address to connect to; where the node listens on all of them, the loopback one.
fn reachable(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address.to_string()
}

/// For whom a development token shall be.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    sub: String,
    permissions: Vec<String>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut asked =
            Self { sub: "demo".to_owned(), permissions: VIEWER.map(str::to_owned).to_vec() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                decode(&value.replace('+', " ")).ok_or("A %-escape of the query is broken")?;
            match name {
                "sub" => asked.sub = value,
                "permissions" => {
                    let listed = value.split(',').map(str::trim).filter(|it| !it.is_empty());
                    asked.permissions = listed.map(str::to_owned).collect();
                }
                _ => return Err("The parameters are `sub` and `permissions`"),
            }
        }
        // Whoever connects is put into the room of that name.
        if asked.sub.is_empty() || RoomName::parse(&format!("user-{}", asked.sub)).is_err() {
            return Err("`sub` must be 1 to 250 bytes without spaces or control characters");
        }
        let fits = |permission: &String| permission.len() <= PERMISSION_BYTES_MAX;
        if asked.permissions.len() > PERMISSIONS_MAX || !asked.permissions.iter().all(fits) {
            return Err(
                "`permissions` is a list with commas of at most 32, of at most 128 bytes each",
            );
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests;
