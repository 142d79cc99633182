//! `make demo`: a node and an agent that publishes this machine's own figures, until Ctrl-C.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::paths;
use crate::process::{self, say};

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Where the node listens unless that is taken.
const PUBLIC: &str = "127.0.0.1:8080";
const INTERNAL: &str = "127.0.0.1:9090";

/// Runs until either program ends; Ctrl-C ends both, because both are tied to this one. `args` go to `serve`.
///
/// Errors: the binary does not compile, the node does not start, or one of the two ends by itself.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    say("demo: building roomcast (a few minutes the first time)");
    let binary = paths::roomcast()?;
    let ready = std::env::temp_dir().join(format!("roomcast-demo-{}.json", std::process::id()));
    let mut node = start_node(&binary, &ready, args)?;
    let public = wait_for(&ready, &mut node);
    if ready.exists() {
        std::fs::remove_file(&ready).map_err(|cause| format!("{}: {cause}", ready.display()))?;
    }
    let public = public?;
    let mut agent = start_agent(&binary, &public).inspect_err(|_| {
        process::stop(&mut node, STOP_LIMIT);
    })?;
    say(&format!("demo: open http://{public}/ in a browser; Ctrl-C stops it"));
    let cause = first_end([("the node", &mut node), ("the agent", &mut agent)]);
    process::stop(&mut agent, STOP_LIMIT);
    process::stop(&mut node, STOP_LIMIT);
    Err(cause)
}

fn start_node(binary: &Path, ready: &Path, args: &[String]) -> Result<Child, String> {
    let ready = ready.to_string_lossy();
    let (public, internal) = (free(PUBLIC), free(INTERNAL));
    let mut all = vec!["serve", "--dev", "--ready-file", &ready];
    let has = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
    if !has("--public") {
        all.extend(["--public", &public]);
    }
    if !has("--internal") {
        all.extend(["--internal", &internal]);
    }
    all.extend(args.iter().map(String::as_str));
    spawn("the node", binary, &all)
}

fn start_agent(binary: &Path, public: &str) -> Result<Child, String> {
    let url = format!("ws://{public}/ws");
    let args = ["agent", "--dev", "--url", &url];
    spawn("the agent", binary, &args)
}

/// In a process group of its own: Ctrl-C ends this program, whose end is then the one signal that the other gets. A
/// second one would make the node quit without closing its connections.
fn spawn(name: &str, binary: &Path, args: &[&str]) -> Result<Child, String> {
    let mut command = process::tied_command(binary, args, &paths::root());
    command.process_group(0).spawn().map_err(|cause| format!("cannot start {name}: {cause}"))
}

/// `wanted` if nobody listens there, else any free port of the same address.
fn free(wanted: &str) -> String {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted.to_owned(),
        Err(cause) => {
            say(&format!("demo: {wanted}: {cause}; taking another port"));
            "127.0.0.1:0".to_owned()
        }
    }
}

/// The node's public address, as soon as it says that it is ready.
fn wait_for(ready: &Path, node: &mut Child) -> Result<String, String> {
    let deadline = Instant::now() + READY_LIMIT;
    while Instant::now() < deadline {
        if let Some(public) = std::fs::read_to_string(ready).ok().and_then(|text| public_of(&text))
        {
            return Ok(public);
        }
        if let Ok(Some(status)) = node.try_wait() {
            return Err(format!("the node ended with {status}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    process::stop(node, STOP_LIMIT);
    Err(format!("the node was not ready after {} s", READY_LIMIT.as_secs()))
}

fn public_of(text: &str) -> Option<String> {
    let ready: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(ready.get("public")?.as_str()?.to_owned())
}

fn first_end(mut programs: [(&str, &mut Child); 2]) -> String {
    loop {
        for (name, child) in &mut programs {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return format!("{name} ended with {status}"),
                Err(cause) => return format!("cannot wait for {name}: {cause}"),
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_any_free_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().to_string();
        assert_eq!(free(&taken), "127.0.0.1:0");
    }

    #[test]
    fn the_address_is_read_from_a_whole_ready_file_only() {
        let text = r#"{"public":"127.0.0.1:4000","internal":"127.0.0.1:4001","pid":1}"#;
        assert_eq!(public_of(text).as_deref(), Some("127.0.0.1:4000"));
        assert_eq!(public_of(&text[..20]), None);
    }
}
