//! `[rpc]`: where back-ends call by RPC. Owns that nobody but this machine is listened to unless somebody said so.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::raw::RawRpc;
use super::read::Reader;

/// Longest path of a unix socket. Units: bytes. Source: unix(7), without the zero at its end.
const PATH_BYTES_MAX: usize = 107;

/// `[rpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// Where it listens; empty: nowhere.
    pub listen: Vec<RpcPlace>,
    /// Open connections.
    pub connections_max: usize,
    /// The service `websockets` is served as well.
    pub websockets: bool,
}

/// A place where RPC is listened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcPlace {
    /// `tcp://address:port`.
    Tcp(SocketAddr),
    /// `unix:///path`.
    Unix(PathBuf),
}

impl fmt::Display for RpcPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

pub(super) fn rpc(raw: &RawRpc, dev: bool, r: &mut Reader<'_>) -> RpcConfig {
    let allow_remote = r.flag("rpc.allow_remote", &raw.allow_remote);
    let mut listen = Vec::new();
    for text in r.texts("rpc.listen", &raw.listen) {
        match place(&text) {
            Ok(place) => {
                if let RpcPlace::Tcp(address) = &place {
                    check_reach(*address, allow_remote, dev, r);
                }
                if listen.contains(&place) {
                    r.problem("rpc.listen", format!("has {text:?} twice"));
                }
                listen.push(place);
            }
            Err(mend) => r.problem("rpc.listen", format!("has {text:?}; {mend}")),
        }
    }
    let connections_max = r.count("rpc.connections_max", &raw.connections_max, 1..=65_536);
    RpcConfig {
        listen,
        connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
        websockets: r.flag("rpc.websockets", &raw.websockets),
    }
}

fn place(text: &str) -> Result<RpcPlace, String> {
    if let Some(address) = text.strip_prefix("tcp://") {
        return address.parse().map(RpcPlace::Tcp).map_err(|_| {
            "write an IP address and a port, for example \"tcp://127.0.0.1:6001\"".to_owned()
        });
    }
    match text.strip_prefix("unix://") {
        Some(path) if path.len() > PATH_BYTES_MAX => {
            Err(format!("a socket's path has at most {PATH_BYTES_MAX} bytes: choose a shorter one"))
        }
        Some(path) if path.len() > 1 && path.starts_with('/') && !path.ends_with('/') => {
            Ok(RpcPlace::Unix(path.into()))
        }
        Some(_) => {
            Err("write the whole path, for example \"unix:///run/roomcast/rpc.sock\"".into())
        }
        None => Err("write \"tcp://127.0.0.1:6001\" or \"unix:///run/roomcast/rpc.sock\"".into()),
    }
}

/// RPC has no authentication, so who may reach it must have been said.
fn check_reach(address: SocketAddr, allow_remote: bool, dev: bool, r: &mut Reader<'_>) {
    if address.ip().is_loopback() {
        return;
    }
    let port = address.port();
    let why = if dev {
        format!("but --dev is for this machine alone: use tcp://127.0.0.1:{port}")
    } else if allow_remote {
        return;
    } else {
        format!(
            "which other machines can reach, and RPC has no authentication: whoever reaches it may publish \
             everywhere. Use tcp://127.0.0.1:{port} or a unix socket, or say rpc.allow_remote = true where a \
             firewall guards it"
        )
    };
    r.problem("rpc.listen", format!("has tcp://{address}, {why}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, LoadOptions};

    fn loaded(dev: bool, keys: &[(&str, &str)]) -> Result<RpcConfig, String> {
        let set = |(key, value): &(&str, &str)| (format!("rpc.{key}"), (*value).to_owned());
        let overrides = keys.iter().map(set).collect();
        let options = LoadOptions { overrides, dev, ..LoadOptions::default() };
        Config::load(&options).map(|config| config.rpc).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_is_listened_for_unless_somebody_says_so() {
        let rpc = loaded(false, &[]).unwrap();
        assert_eq!(rpc, RpcConfig { listen: vec![], connections_max: 256, websockets: true });
    }

    #[test]
    fn loopback_addresses_and_sockets_are_taken() {
        let text = "tcp://127.0.0.1:6001,tcp://[::1]:0, unix:///run/roomcast/rpc.sock";
        let places: Vec<_> = loaded(true, &[("listen", text)]).unwrap().listen;
        let shown: Vec<_> = places.iter().map(RpcPlace::to_string).collect();
        assert_eq!(
            shown,
            ["tcp://127.0.0.1:6001", "tcp://[::1]:0", "unix:///run/roomcast/rpc.sock"]
        );
    }

    #[test]
    fn addresses_that_others_reach_must_be_allowed_by_hand_and_never_in_dev() {
        for address in ["tcp://0.0.0.0:6001", "tcp://[::]:6001", "tcp://192.168.0.1:6001"] {
            let problem = loaded(false, &[("listen", address)]).unwrap_err();
            for said in ["no authentication", "tcp://127.0.0.1:6001", "rpc.allow_remote = true"] {
                assert!(problem.contains(said), "{problem}");
            }
            let allowed = [("listen", address), ("allow_remote", "true")];
            assert_eq!(loaded(false, &allowed).unwrap().listen.len(), 1);
            assert!(loaded(true, &allowed).unwrap_err().contains("--dev is for this machine"));
        }
    }

    #[test]
    fn what_is_no_place_is_told_with_its_mend() {
        let long = format!("unix:///{}", "x".repeat(PATH_BYTES_MAX));
        for (text, said) in [
            ("127.0.0.1:6001", "tcp://127.0.0.1:6001"),
            ("tcp://localhost:6001", "an IP address and a port"),
            ("unix://rpc.sock", "the whole path"),
            ("unix:///", "the whole path"),
            (&long, "at most 107 bytes"),
            ("tcp://127.0.0.1:1,tcp://127.0.0.1:1", "twice"),
        ] {
            let problem = loaded(true, &[("listen", text)]).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
        let longest = format!("unix:///{}", "x".repeat(PATH_BYTES_MAX - 1));
        assert!(loaded(true, &[("listen", &longest)]).is_ok());
    }
}
