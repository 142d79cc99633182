//! `[[webhooks]]`: what a configuration of them means, and what makes none.

use super::*;
use crate::config::{EventKind, WebhookConfig};

/// A configuration whose one webhook has one more line.
pub(super) fn hook(line: &str) -> String {
    upstream::call(&format!("[[webhooks]]\ncall = \"ask\"\n{line}"))
}

#[test]
fn a_webhook_is_told_of_all_for_an_hour() {
    let config = load(&hook(""), &[], &[]).unwrap().webhooks;
    let told = WebhookConfig {
        name: "ask".into(),
        call: 0,
        concurrency: 64,
        events: EventKind::ALL.to_vec(),
        retry_for_ms: 3_600_000,
    };
    assert_eq!(config.hooks, [told]);
    assert_eq!((config.events_max, config.bytes_max), (10_000, 16 << 20));
    assert!(EventKind::ALL.into_iter().all(|kind| config.wants(kind)));
}

#[test]
fn nothing_is_wanted_but_what_a_webhook_names() {
    let of = |text: &str| load(text, &[], &[]).unwrap().webhooks;
    assert!(!of("").wants(EventKind::Connected));
    let config = of(&hook("events = [\"vacated\", \"connected\"]"));
    let wanted = EventKind::ALL.into_iter().filter(|kind| config.wants(*kind));
    let wanted: Vec<_> = wanted.map(EventKind::name).collect();
    assert_eq!(wanted, ["connected", "vacated"]);
}

#[test]
fn names_that_are_none_are_told_with_those_that_are() {
    refused(
        &hook("events = [\"conected\"]"),
        "roomcast.toml:10:1: webhooks.events has \"conected\", which is none; known are: connected, disconnected, \
         occupied, vacated, delivery_failed, security_event",
    );
    refused(
        &hook("events = []"),
        "roomcast.toml:10:1: webhooks.events is empty; leave it out to be told of all",
    );
    refused(
        &hook("").replace("call = \"ask\"", "call = \"aks\""),
        "roomcast.toml:9:1: webhooks.call is \"aks\", which is not configured; known are: ask",
    );
    refused(
        &hook("[[webhooks]]\ncall = \"ask\""),
        "roomcast.toml:11:1: webhooks.call is used twice; name all of its events in one table, or make a second call",
    );
}

#[test]
fn sixty_four_webhooks_are_taken_and_one_more_is_not() {
    let with = |count: usize| {
        let call = "[[upstream.calls]]\ntarget = \"app\"\npath = \"/\"\n";
        let mut text = upstream::call("");
        for at in 1..count.min(64) {
            text.push_str(&format!("{call}name = \"c{at}\"\n"));
        }
        for at in 0..count {
            let name = if at == 0 { "ask".to_owned() } else { format!("c{}", at % 64) };
            text.push_str(&format!("[[webhooks]]\ncall = \"{name}\"\n"));
        }
        load(&text, &[], &[])
    };
    assert_eq!(with(64).unwrap().webhooks.hooks.len(), 64);
    let told = with(65).unwrap_err().to_string();
    assert!(told.contains("webhooks are 65, allowed are 64"), "{told}");
}
