//! The rows about what the application is told; the labels are the webhook's call, which the configuration names, and the
//! kind of event. The last part of the table.

use super::table::{Read, Row, counter, gauge};

/// These rows, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    counter(
        "roomcast_webhooks_delivered_total",
        "Events that the application has taken",
        Read::Webhook(|it| it.delivered),
    ),
    counter(
        "roomcast_webhooks_tries_failed_total",
        "Tries to tell the application of an event that failed; what an open breaker kept back is none",
        Read::Webhook(|it| it.failed),
    ),
    counter(
        "roomcast_webhooks_dead_letters_total",
        "Events that became dead letters: refused, over their time, or without a place",
        Read::Webhook(|it| it.dead),
    ),
    gauge(
        "roomcast_node_webhooks_waiting",
        "Events that the application has not taken yet",
        Read::Webhook(|it| it.waiting),
    ),
    gauge(
        "roomcast_node_webhooks_oldest_seconds",
        "How long the oldest of them has waited",
        Read::WebhookMs(|it| it.oldest_ms),
    ),
    gauge(
        "roomcast_node_webhooks_bytes",
        "What the events weigh that wait, of all webhooks",
        Read::Node(|seen| seen.webhooks.bytes),
    ),
    gauge(
        "roomcast_node_webhooks_letters",
        "Dead letters that wait for the broker to keep them",
        Read::Node(|seen| seen.webhooks.letters),
    ),
    gauge(
        "roomcast_node_webhooks_letters_bytes",
        "What they weigh",
        Read::Node(|seen| seen.webhooks.letters_bytes),
    ),
    counter(
        "roomcast_webhooks_letters_lost_total",
        "Dead letters that are kept nowhere, because too many waited for the broker",
        Read::Node(|seen| seen.webhooks.lost),
    ),
];
