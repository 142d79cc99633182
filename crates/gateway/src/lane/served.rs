//! The dialects that a node serves, each with its path, its pages and who its clients are, as the configuration says.

use std::sync::Arc;

use hyper::StatusCode;
use roomcast_dialects::chat::CHAT;
use roomcast_dialects::roadrunner::RoadRunner;
use roomcast_protocol::dialect::Dialect;

use super::refused::Origins;
use crate::config::{Config, Identity};

/// A dialect that is served.
pub(crate) struct Served {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) path: Box<str>,
    pub(super) origins: Origins,
    /// What pages of other origins get.
    pub(super) bad_origin: StatusCode,
    /// What an operator does about it.
    pub(super) origin_mend: &'static str,
    pub(super) identity: Identity,
}

/// All of them.
pub(super) fn served(config: &Config) -> Arc<[Served]> {
    let origins = |listed| Origins { listed, loopback: config.dev };
    let always = roomcast_dialects::ALL.iter().map(|dialect| (*dialect, dialect.path()));
    let chat = config.dialects.chat.iter().map(|it| (&CHAT as &'static dyn Dialect, &*it.path));
    let by_token = always.chain(chat).map(|(dialect, path)| Served {
        dialect,
        path: path.into(),
        origins: origins(config.origins.allow.clone()),
        bad_origin: StatusCode::FORBIDDEN,
        origin_mend: "adds it to origins.allow",
        identity: Identity::Token,
    });
    let roadrunner = config.dialects.roadrunner.iter().map(|it| {
        // For as long as the process: formats of rooms name their dialect. One for each start of a node.
        let joins_by_call = matches!(it.identity, Identity::Call(_));
        let dialect = RoadRunner::new(config.dialects.brokers.clone(), joins_by_call);
        let dialect = Box::leak(Box::new(dialect));
        let own = it.allowed_origin.iter().cloned().collect();
        let listed = if it.allowed_origin.is_some() { own } else { config.origins.allow.clone() };
        Served {
            dialect,
            path: it.path.clone(),
            origins: origins(listed),
            // As the origin answers.
            bad_origin: StatusCode::METHOD_NOT_ALLOWED,
            origin_mend: "names it as dialects.roadrunner.allowed_origin",
            identity: it.identity,
        }
    });
    by_token.chain(roadrunner).collect()
}
