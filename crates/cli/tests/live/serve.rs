//! `serve`, `check-config`, `config` and `token` as a person meets them.

use crate::common::{Node, fresh_path, output, roomcast};
use rustix::process::Signal;

#[test]
fn a_node_says_where_it_is_and_stops_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(&[]);
        assert_eq!(node.ready["pid"].as_u64().unwrap().to_string(), node.pid());
        assert!(node.ready["open_files"].as_u64().unwrap() > 0);
        let token = node.ready["token"].as_str().unwrap();
        let verified = output(roomcast().args(["token", "verify", "--dev", token]));
        assert!(verified.status.success(), "{verified:?}");
        node.signal(signal);
        assert_eq!(node.ended().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_taken_address_is_named_with_its_mend() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = output(roomcast().args(["serve", "--dev", "--internal", &address]));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains(&address) && text.contains("listen.internal"), "{text}");
}

#[test]
fn the_example_is_a_good_configuration() {
    let example = output(roomcast().args(["config", "example"]));
    assert!(example.status.success(), "{example:?}");
    let file = fresh_path("example.toml");
    std::fs::write(&file, &example.stdout).unwrap();
    for args in [["check-config"].as_slice(), &["config", "print"]] {
        let checked = output(roomcast().args(args).arg("--config").arg(&file));
        assert!(checked.status.success(), "{args:?}: {checked:?}");
        assert!(!checked.stdout.is_empty());
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_the_right_spelling() {
    let file = fresh_path("bad.toml");
    std::fs::write(&file, "[limits]\nconnections_per_pi = 5\n").unwrap();
    let refused = output(roomcast().args(["check-config", "--dev", "--config"]).arg(&file));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("connections_per_ip"), "{text}");
    assert!(text.contains("bad.toml:2"), "{text}");
}

#[test]
fn effective_values_show_overrides_and_hide_secrets() {
    let mut print = roomcast();
    print.args(["config", "print", "--dev", "--set", "limits.connections_per_ip=77"]);
    let printed = output(&mut print);
    assert!(printed.status.success(), "{printed:?}");
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("77"), "{text}");
    assert!(!text.contains("roomcast-development-only-secret"), "{text}");
}

#[test]
fn a_forged_token_is_refused_with_the_check_that_failed() {
    let secret = "another-secret-of-at-least-32-bytes";
    let minted = output(roomcast().args(["token", "mint", "--secret", secret]));
    let token = String::from_utf8(minted.stdout).unwrap();
    let refused = output(roomcast().args(["token", "verify", "--dev", token.trim()]));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("signature"));
    let named = "ROOMCAST_TOKEN_SECRET";
    let minted = output(roomcast().args(["token", "mint"]).env(named, secret));
    let token = String::from_utf8(minted.stdout).unwrap();
    let verified = output(roomcast().args(["token", "verify", token.trim()]).env(named, secret));
    assert!(verified.status.success(), "{verified:?}");
    let dev = output(roomcast().args(["token", "mint", "--dev"]).env(named, secret));
    let token = String::from_utf8(dev.stdout).unwrap();
    let verified = output(roomcast().args(["token", "verify", "--dev", "--json", token.trim()]));
    assert!(verified.status.success(), "{verified:?}");
    let short = output(roomcast().args(["token", "mint", "--secret", "short"]));
    assert_eq!(short.status.code(), Some(2), "{short:?}");
}
