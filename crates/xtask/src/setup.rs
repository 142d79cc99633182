//! Installs what the tests need and the machine lacks: a browser and servers from Debian, packages from npm's lock
//! file. Says what it does, may be repeated, puts nothing into the clone, and leaves no service running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{self, say};
use crate::{paths, python};

/// Debian's browser, and where it is.
pub(crate) const CHROMIUM: &str = "/usr/bin/chromium";

/// Debian's balancers and Prometheus, and where they are.
pub(crate) const HAPROXY: &str = "/usr/sbin/haproxy";
pub(crate) const NGINX: &str = "/usr/sbin/nginx";
pub(crate) const PROMETHEUS: &str = "/usr/bin/prometheus";
pub(crate) const PROMTOOL: &str = "/usr/bin/promtool";

/// What is installed from Debian, and what each package brings.
const PACKAGES: [(&str, &str); 6] = [
    ("chromium", CHROMIUM),
    ("redis-server", "/usr/bin/redis-server"),
    ("haproxy", HAPROXY),
    ("nginx-light", NGINX),
    ("prometheus", PROMETHEUS),
    ("openssl", "/usr/bin/openssl"),
];

/// Installs a package without starting its service, now or at the next boot: a Redis, a web server and a balancer that
/// nobody asked for would take well-known ports. A policy that the machine has already is left as it is. Arguments:
/// the package, its service or nothing.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$1"
if [ -n "$2" ] && command -v systemctl > /dev/null; then
    systemctl disable --quiet "$2"
fi
"#;

/// The oldest major version of Node.js that runs the scripts.
const NODE_MIN: u32 = 20;
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
const LOCK: &str = include_str!("../e2e/package-lock.json");
const NPM_FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// PyPI's client for Redis, for the seed's `RedisMessageBus`.
const REDIS_PY: &str = "8.1.0";

/// What the end-to-end scripts are given.
pub(crate) struct Tools {
    /// The folder with their npm packages.
    pub(crate) modules: PathBuf,
    /// A Python that has `redis`.
    pub(crate) python: PathBuf,
}

/// Installs everything and tells where the scripts find it.
///
/// Errors: what could not be installed, and the mend.
pub(crate) fn all() -> Result<Tools, String> {
    node()?;
    packages()?;
    let package = format!("redis=={REDIS_PY}");
    let python = python::environment("redis", REDIS_PY, &[&package])?.join("bin/python");
    Ok(Tools { modules: node_modules()?, python })
}

/// Installs what of [`PACKAGES`] is not there.
///
/// Errors: no Debian, no network, or no right to install.
pub(crate) fn packages() -> Result<(), String> {
    PACKAGES.iter().try_for_each(|(name, file)| debian(name, Path::new(file)))
}

/// The folder with the scripts' npm packages, installed if it is not there.
///
/// Errors: no Node.js, or npm fails.
fn node_modules() -> Result<PathBuf, String> {
    let folder = paths::tool("e2e", &fingerprint(LOCK))?;
    let modules = folder.join("node_modules");
    if modules.is_dir() {
        say(&format!("setup: npm packages are there ({})", folder.display()));
        return Ok(modules);
    }
    say(&format!("setup: installing npm packages into {}", folder.display()));
    // Installed beside and renamed, so that an interrupted install is never taken for a whole one.
    let fresh = folder.with_extension(format!("new{}", std::process::id()));
    let files = paths::root().join("crates/xtask/e2e");
    std::fs::create_dir_all(&fresh).map_err(|cause| told(&fresh, &cause))?;
    for name in NPM_FILES {
        let to = fresh.join(name);
        std::fs::copy(files.join(name), &to).map_err(|cause| told(&to, &cause))?;
    }
    let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    process::run(&mut process::command("npm", &args, &fresh), INSTALL_LIMIT)?;
    match std::fs::rename(&fresh, &folder) {
        Ok(()) => Ok(modules),
        // Somebody else installed the same in the meantime.
        Err(_) if modules.is_dir() => {
            std::fs::remove_dir_all(&fresh).map_err(|cause| told(&fresh, &cause))?;
            Ok(modules)
        }
        Err(cause) => Err(told(&folder, &cause)),
    }
}

/// Installs the Debian package `name` unless `file` is there.
///
/// Errors: no Debian, no network, or no right to install.
pub(crate) fn debian(name: &str, file: &Path) -> Result<(), String> {
    if file.exists() {
        say(&format!("setup: {name} is there ({})", file.display()));
        return Ok(());
    }
    say(&format!("setup: installing Debian's {name}"));
    let root = process::output(&mut process::command("id", &["-u"], Path::new("/")))? == "0";
    let mut args = vec!["-c", INSTALL, "install", name, service_of(name)];
    if !root {
        args.insert(0, "sh");
    }
    let program = if root { "sh" } else { "sudo" };
    process::run(&mut process::command(program, &args, Path::new("/")), INSTALL_LIMIT)
        .map_err(|cause| format!("{cause}; install the Debian package {name} by hand"))?;
    if file.exists() { Ok(()) } else { Err(format!("{name} brought no {}", file.display())) }
}

/// The service that a package starts; empty where it has none.
fn service_of(name: &str) -> &str {
    match name {
        "chromium" | "openssl" => "",
        "nginx-light" => "nginx",
        other => other,
    }
}

fn node() -> Result<(), String> {
    let mend = format!("install Node.js {NODE_MIN} or later, with npm");
    let version = process::output(&mut process::command("node", &["--version"], Path::new("/")))
        .map_err(|cause| format!("{cause}; {mend}"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|it| it.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MIN) {
        return Err(format!("node is {version}; {mend}"));
    }
    say(&format!("setup: node is there ({version})"));
    Ok(())
}

/// A name for one content of the lock file (FNV-1a, 64 bits: no adversary here, only versions to tell apart).
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn told(path: &Path, cause: &std::io::Error) -> String {
    format!("{}: {cause}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_lock_file_gets_another_folder() {
        assert_eq!(fingerprint(""), "cbf29ce484222325");
        assert_eq!(fingerprint("a"), "af63dc4c8601ec8c");
        assert_ne!(fingerprint(LOCK), fingerprint(&LOCK.replacen('8', "9", 1)));
    }

    #[test]
    fn the_lock_file_names_versions_and_no_host() {
        let lock: serde_json::Value = serde_json::from_str(LOCK).unwrap();
        let packages = lock["packages"].as_object().unwrap();
        assert!(packages.len() > 1);
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].is_string(), "{name} has no checksum");
            assert!(package.get("resolved").is_none(), "{name} names a host");
        }
    }
}
