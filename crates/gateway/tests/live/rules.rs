//! Rules for rooms of an operator's own, as clients of a running node meet them.

use roomcast_protocol::codes::Refusal;
use serde_json::{Value, json};

use crate::common::Live;
use crate::common::ws::Ws;

const RULES: &str = r#"
[[rooms]]
match = "shop-{id:int}"
join = "('view_shop:' + id) in user.permissions"
publish = "user.id == 'seller-' + id"
types = ["shop_opened", "shop_closed"]

[[rooms]]
match = "levels-{level}"
join = "user.claims.level == level"
priority = "low"

[[rooms]]
match = "broken"
join = "user.claims.missing.deeper == 1"
publish = "user.claims.missing.deeper == 1"

[[rooms]]
match = "agents"
join = "false"

[[rooms]]
match = "{any}"
join = "'root' in user.roles"
"#;

#[track_caller]
fn refused(ws: &mut Ws, message: &Value, refusal: Refusal) {
    ws.tell(message);
    ws.expect_refusal(refusal);
}

fn join(room: &str) -> Value {
    json!({ "type": "subscribe", "data": { "room": room } })
}

#[test]
fn a_rule_opens_its_rooms_to_those_it_names() {
    let live = Live::with_file(RULES);
    let buyer = json!({ "sub": "buyer", "permissions": ["view_shop:7"] });
    let mut buyer = live.enter(&live.token_of(&buyer));
    buyer.join("shop-7");
    refused(&mut buyer, &join("shop-8"), Refusal::PermissionDenied);
    refused(&mut buyer, &join("shop-07"), Refusal::PermissionDenied);
    let mut seller = live.enter(&live.token_of(&json!({ "sub": "seller-7" })));
    let opened = |room: &str| json!({ "type": "shop_opened", "room": room, "id": "o", "data": {} });
    refused(&mut buyer, &opened("shop-7"), Refusal::PermissionDenied);
    refused(&mut seller, &opened("shop-8"), Refusal::PermissionDenied);
    seller.tell(&opened("shop-7"));
    assert_eq!(buyer.json()["id"], "o");
    // Its types are the only ones.
    let other = json!({ "type": "shop_burnt", "room": "shop-7", "data": {} });
    refused(&mut seller, &other, Refusal::Schema);
}

#[test]
fn a_rule_sees_claims_and_one_that_fails_means_no() {
    let live = Live::with_file(RULES);
    let mut ws = live.enter(&live.token_of(&json!({ "sub": "ann", "level": "gold" })));
    ws.join("levels-gold");
    refused(&mut ws, &join("levels-silver"), Refusal::PermissionDenied);
    refused(&mut ws, &join("broken"), Refusal::PermissionDenied);
    let note = json!({ "type": "note", "room": "broken", "data": {} });
    refused(&mut ws, &note, Refusal::PermissionDenied);
}

#[test]
fn own_rules_come_first_and_never_open_what_is_private() {
    let live = Live::with_file(RULES);
    let root = json!({ "sub": "root", "roles": ["root"], "permissions": ["view_agents"] });
    let mut root = live.enter(&live.token_of(&root));
    root.join("anything-else");
    root.join("system");
    refused(&mut root, &join("agents"), Refusal::PermissionDenied);
    for private in ["user-ann", "session-0", "dialog-a:b", "chat-1"] {
        refused(&mut root, &join(private), Refusal::PermissionDenied);
    }
    root.join("user-root");
}
