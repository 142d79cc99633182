//! `make load`: k6 with the scripts in `loadtest/` against a cluster on loopback. A script passes when all its
//! thresholds hold; they ask for every delivery, once and in order, and for latencies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{self, Cluster};
use crate::process::{self, say};
use crate::{Tally, paths};

const K6: &str = "1.8.1";

/// Building k6 takes about 9 minutes on two cores that have other work.
const INSTALL_LIMIT: Duration = Duration::from_secs(1_800);

/// How long one script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(240);

const SCRIPTS: [&str; 3] = ["connect", "fanout", "publish"];

/// Each of k6's virtual users gets an address of these, because the balancer chooses nodes by clients' addresses. All
/// of them are this machine.
const ADDRESSES: &str = "127.0.1.0/24";

/// Connections of one user or address on a node. More than any run has, so that k6 meets no limit.
const CONNECTIONS: &str = "100000";

const USAGE: &str = "usage: make load [CLIENTS=500] [ARGS='[connect|fanout|publish ..] [-- OPTIONS OF k6 run]'], such \
                     as ARGS='fanout -- -e ROOMS=10'";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    scripts: Vec<String>,
    k6: Vec<String>,
}

/// Runs all scripts, or those named; counts those whose thresholds hold.
///
/// Errors: a wrong argument, no Go to build k6 with, or the cluster does not start.
pub(crate) fn run(args: &[String]) -> Result<Tally, String> {
    let options = options(args)?;
    let k6 = k6()?;
    let cluster = cluster::for_load(&[
        "--set",
        &format!("limits.connections_per_ip={CONNECTIONS}"),
        "--set",
        &format!("limits.connections_per_user={CONNECTIONS}"),
    ])?;
    let mut sum = Tally::default();
    for script in &options.scripts {
        say(&format!("--- {script}"));
        let held = one(script, &k6, &cluster, &options.k6);
        say(&match &held {
            Ok(()) => format!("load: {script}: all thresholds hold"),
            Err(cause) => format!("load: {script}: {cause}"),
        });
        sum = sum.plus(Tally::one(held.is_ok()));
    }
    cluster.stop().map_err(|cause| format!("the cluster: {cause}"))?;
    Ok(sum)
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut args = args.iter();
    let scripts: Vec<String> = args.by_ref().take_while(|arg| *arg != "--").cloned().collect();
    if let Some(other) = scripts.iter().find(|name| !SCRIPTS.contains(&name.as_str())) {
        return Err(format!("no script {other:?}; {USAGE}"));
    }
    let all = || SCRIPTS.map(str::to_owned).to_vec();
    let scripts = if scripts.is_empty() { all() } else { scripts };
    Ok(Options { scripts, k6: args.cloned().collect() })
}

/// One script to its end. k6's own figures are printed.
fn one(script: &str, k6: &Path, cluster: &Cluster, more: &[String]) -> Result<(), String> {
    let root = paths::root();
    let mut command = process::tied_command(k6, &["run", "--no-usage-report", "--quiet"], &root);
    command.args(["--local-ips", ADDRESSES]).args(more);
    command.arg(root.join("loadtest").join(format!("{script}.js")));
    let apis: Vec<_> = cluster.internals().iter().map(|it| format!("http://{it}")).collect();
    command.env("ROOMCAST_URL", format!("ws://{}/ws", cluster.address()));
    command.env("ROOMCAST_APIS", apis.join(","));
    process::run(&mut command, SCRIPT_LIMIT)
}

/// k6, built from Go's module proxy if it is not there.
fn k6() -> Result<PathBuf, String> {
    let folder = paths::tool("k6", K6)?;
    let program = folder.join("k6");
    if program.is_file() {
        say(&format!("load: k6 is there ({})", folder.display()));
        return Ok(program);
    }
    say(&format!("load: building k6 {K6} into {} (about 10 minutes)", folder.display()));
    // Built beside and renamed, so that an interrupted build is never taken for a whole one.
    let fresh = folder.with_extension(format!("new{}", std::process::id()));
    let module = format!("go.k6.io/k6@v{K6}");
    let mut install = process::command("go", &["install", &module], Path::new("/"));
    process::run(install.env("GOBIN", &fresh), INSTALL_LIMIT)
        .map_err(|cause| format!("{cause}; install Go 1.25 or later"))?;
    let told = |cause: std::io::Error| format!("{}: {cause}", folder.display());
    std::fs::create_dir_all(&folder).map_err(told)?;
    std::fs::rename(fresh.join("k6"), &program).map_err(told)?;
    std::fs::remove_dir_all(&fresh).map_err(told)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn read(args: &[&str]) -> Result<Options, String> {
        options(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn scripts_and_options_of_k6_are_read_and_wrong_names_told() {
        let all = read(&[]).unwrap();
        assert_eq!((all.scripts.len(), all.k6.len()), (SCRIPTS.len(), 0));
        let one = read(&["fanout", "--", "-e", "ROOMS=10"]).unwrap();
        assert_eq!(
            (one.scripts, one.k6),
            (vec!["fanout".to_owned()], vec!["-e".into(), "ROOMS=10".into()])
        );
        assert_eq!(read(&["--", "--verbose"]).unwrap().scripts.len(), SCRIPTS.len());
        assert!(read(&["fan"]).unwrap_err().contains("no script \"fan\""));
    }

    #[test]
    fn every_script_is_run_and_exists() {
        let folder = paths::root().join("loadtest");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let scripts = files.filter(|path| path.extension() == Some("js".as_ref()));
        let names: BTreeSet<_> =
            scripts.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, SCRIPTS.map(str::to_owned).into());
    }
}
