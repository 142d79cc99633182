//! Rooms: the built-in table, a user's rules, attack rows 21 to 23.

use roomcast_protocol::guard::Policy;
use roomcast_protocol::inbox::CursorOf;
use roomcast_protocol::position::Keep;
use roomcast_protocol::presence::PresenceMode;

use super::*;

#[test]
fn built_in_rooms_are_joined_by_permission_alone() {
    let nobody = user(json!({}));
    let all =
        user(json!({ "permissions": ["view_system", "view_agents", "view_tasks", "view_groups"] }));
    for name in ["system", "alerts", "agents", "agent-7", "tasks", "task-7", "group-7", "agent-0"] {
        check(&nobody, name, "");
        check(&all, name, "join");
    }
    check(&nobody, "maintenance", "join");
    for (permission, theirs, other) in [
        ("view_agent:7", "agent-7", "agent-77"),
        ("view_task:7", "task-7", "task-70"),
        ("view_group:7", "group-7", "group-1"),
    ] {
        let one = user(json!({ "permissions": [permission] }));
        check(&one, theirs, "join");
        check(&one, other, "");
        check(&one, "agents", "");
        check(&one, "tasks", "");
    }
    let member = user(json!({ "teams": ["red"], "roles": ["admin"] }));
    check(&member, "team-red", "join");
    check(&member, "role-admin", "join");
    for name in ["team-redder", "team-re", "team-admin", "role-red", "team-", "role-", "team-Red"] {
        check(&member, name, "");
    }
}

#[test]
fn a_room_without_a_rule_is_refused_like_one_without_a_right() {
    let all =
        user(json!({ "permissions": ["view_system", "view_agents", "view_tasks", "view_groups"] }));
    for name in [
        "news",
        "agent-",
        "agent-x",
        "agent-07",
        "agent--7",
        "agent-9223372036854775808",
        "groups",
        "demo",
        "demo-1",
        "user",
        "session",
        "Agents",
        "agents-",
        "System",
        "agent-７",
    ] {
        check(&all, name, "");
        check(&user(json!({ "kind": "backend" })), name, "");
    }
}

#[test]
fn back_ends_publish_in_every_built_in_room_but_private_ones_and_users_in_none() {
    let shop = user(json!({ "kind": "backend" }));
    let nobody = user(json!({}));
    for name in [
        "system",
        "alerts",
        "agents",
        "agent-7",
        "tasks",
        "task-7",
        "group-7",
        "team-red",
        "role-admin",
        "user-7",
        "session-7",
        "user-gs:7",
    ] {
        check(&shop, name, "publish");
        check(&backend("shop"), name, "publish");
        check(&nobody, name, "");
    }
    check(&shop, "maintenance", "join publish");
    check(&nobody, "maintenance", "join");
    for name in ["dialog-1:2", "chat-7"] {
        check(&shop, name, "");
        check(&backend("shop"), name, "");
    }
}

#[test]
fn an_agent_publishes_as_itself_alone() {
    let agent = user(json!({ "agent_id": 7 }));
    check(&agent, "agents", "own-agent");
    check(&agent, "agent-7", "publish");
    for name in ["agent-77", "agent-70", "agent-0", "system", "tasks", "user-7"] {
        check(&agent, name, "");
    }
    check(&user(json!({ "agent_id": "07" })), "agent-7", "");
}

#[test]
fn attack_23_rooms_of_others_are_refused_whether_they_exist_or_not() {
    let alice = user(json!({ "sub": "user-1" }));
    let one = user(json!({ "sub": "1" }));
    check(&one, "user-1", "join");
    check(&alice, "user-user-1", "join");
    for name in [
        "user-10",
        "user-",
        "user-2",
        "user-1 ",
        "User-1",
        "user-01",
        "session-1",
        "session-00000000000000000000000000000001",
        "dialog-1:2",
        "dialog-2:1",
        "chat-1",
    ] {
        let Ok(name) = RoomName::parse(name) else { continue };
        check(&one, name.as_str(), "");
        check(&alice, name.as_str(), "");
    }
    // An API key's name is never a user's.
    assert_eq!(backend("1").user_key(), "api:1");
    check(&backend("1"), "user-1", "publish");
}

#[test]
fn attack_22_lookalikes_of_a_room_have_no_rule_and_no_right() {
    let all = user(json!({ "permissions": ["view_agents", "view_system"], "roles": ["admin"] }));
    for name in
        ["Agents", "ａgents", "аgents", "agents\u{33f}", "AGENTS", "role-Admin", "role-ａdmin"]
    {
        check(&all, name, "");
    }
    for name in ["agents\u{200b}", "\u{202e}agents", "agents\n", "agents\0", "agents ", "e\u{301}"]
    {
        assert!(RoomName::parse(name).is_err(), "{name:?}");
    }
}

#[test]
fn attack_21_no_character_of_a_room_is_a_wildcard() {
    let all = user(json!({ "permissions": ["view_agents", "view_agent:*", "view_agent:[0-9]"] }));
    for name in
        ["agent-*", "agent-?", "agent-[0-9]", "*", "?", "[a]", "{}", "agent-{id}", "a:b", "agent*"]
    {
        check(&all, name, "");
    }
    check(&user(json!({ "permissions": ["view_agent:*", "view_agent:"] })), "agent-7", "");
}

fn ruled() -> RuleGuard {
    guard(
        r#"
[[rooms]]
match = "agents"
join = "false"
types = ["agent_status", "agent_alert"]
priority = "high"

[[rooms]]
match = "shop-{id:int}"
join = "('view_shop:' + id) in user.permissions && node == 'node-1'"
publish = "user.claims.level >= 3"

[[rooms]]
match = "user-{id}"
join = "user.id == id || 'support' in user.roles"

[[rooms]]
match = "{any}"
join = "true"
publish = "true"
priority = "low"
"#,
    )
}

#[track_caller]
fn check_ruled(who: &Principal, name: &str, expected: &str) {
    assert_eq!(rights(&ruled(), who, name), expected, "{} in {name}", who.id);
}

#[test]
fn a_users_rule_comes_before_the_built_in_one() {
    let viewer = user(json!({ "permissions": ["view_agents", "view_shop:7"] }));
    check_ruled(&viewer, "agents", "");
    check_ruled(&backend("shop"), "agents", "publish");
    check_ruled(&viewer, "shop-7", "join");
    check_ruled(&viewer, "shop-70", "");
    check_ruled(&user(json!({ "level": 3 })), "shop-7", "publish");
    check_ruled(&user(json!({ "level": "3" })), "shop-7", "");
    // Not a number: the next rule that matches is the catch-all.
    check_ruled(&viewer, "shop-x", "join publish");
    let guard = ruled();
    let policy = |name: &str| guard.policy(guard.rule(&room(name)).unwrap()).clone();
    assert_eq!(policy("agents").priority, Priority::High);
    assert_eq!(policy("agents").types, ["agent_status", "agent_alert"].map(Box::<str>::from));
    assert_eq!(policy("anything").priority, Priority::Low);
    assert_eq!(policy("session-1").priority, Priority::Normal);
}

#[test]
fn a_catch_all_never_opens_rooms_that_belong_to_somebody() {
    let alice = user(json!({}));
    check_ruled(&alice, "news", "join publish");
    for name in ["session-1", "dialog-1:2", "chat-1"] {
        check_ruled(&alice, name, "");
    }
    check_ruled(&alice, "user-bob", "");
    check_ruled(&alice, "user-alice", "join");
    check_ruled(&user(json!({ "roles": ["support"] })), "user-bob", "join");
}

#[test]
fn demo_rooms_exist_with_dev_alone() {
    let dev = Config::load(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
    let dev = RuleGuard::new(&dev, "n").unwrap();
    let alice = user(json!({}));
    for name in ["demo", "demo-1", "demo-a-b", "demo-team", "demo-team-1"] {
        assert_eq!(rights(&dev, &alice, name), "join publish", "{name}");
        assert_eq!(rights(&issuers(), &alice, name), "", "{name}");
    }
    let tells = |name: &str| {
        let rule = dev.rule(&RoomName::parse(name).unwrap()).unwrap();
        let policy = dev.policy(rule);
        (policy.presence == PresenceMode::Members, policy.receipts, policy.history.is_some())
    };
    assert_eq!(tells("demo-team"), (true, true, true));
    assert_eq!(tells("demo-team-1"), (false, false, false));
    assert_eq!(rights(&dev, &alice, "demo-"), "");
    assert_eq!(rights(&dev, &alice, "demos"), "");
}

#[test]
fn keys_of_a_publication_are_found_by_the_rules_paths() {
    let guard = guard(
        r#"
[[rooms]]
match = "shop-{id}"
join = "true"
history = {}
conflate = "data.agent_id"
collapse = "data.place.name"
"#,
    );
    let of = |name: &str, json: &str| {
        let publication = Publication::bare(room(name), Content::Json(json.to_owned().into()));
        let rule = guard.rule(&room(name)).unwrap();
        let conflate = guard.conflate_key(rule, &publication);
        (conflate, guard.collapse_key(rule, &publication))
    };
    let one = of("shop-1", r#"{"agent_id":7,"place":{"name":"left"}}"#);
    assert_eq!(one.1.as_deref(), Some("left"));
    // The text "7" and the number 7 name the same agent.
    assert_eq!(one.0, of("shop-2", r#"{"x":0,"agent_id":"7"}"#).0);
    assert_ne!(one.0, of("shop-1", r#"{"agent_id":8}"#).0);
    assert!(one.0.is_some());
    assert_eq!(of("shop-1", r#"{"place":7}"#), (None, None));
    assert_eq!(of("agents", r#"{"agent_id":7,"place":{"name":"left"}}"#), (None, None));
}

#[test]
fn rule_indices_of_nowhere_deny() {
    use roomcast_protocol::guard::RuleIndex;
    let guard = issuers();
    let alice = user(json!({ "permissions": ["view_system"] }));
    let nowhere = RuleIndex(u16::MAX);
    assert!(!guard.may_join(nowhere, &room("system"), &alice));
    assert_eq!(guard.may_publish(nowhere, &room("system"), &alice), PublishRight::No);
    assert_eq!(guard.policy(nowhere).priority, Priority::Normal);
}

/// What the rule of a room says: what is kept, whose cursors count, and whether people talk there.
fn kept(guard: &RuleGuard, name: &str) -> (Option<Keep>, Option<CursorOf>, bool) {
    let rule = guard.rule(&RoomName::parse(name).unwrap()).unwrap();
    let Policy { history, cursor, conversation, receipts, .. } = guard.policy(rule);
    assert_eq!(conversation, receipts, "{name}");
    (*history, *cursor, *conversation)
}

#[test]
fn where_chat_is_served_dialogs_are_kept_and_each_device_has_its_place() {
    let (plain, chat) = (guard(""), guard("[dialects.chat]\nenabled = true\n"));
    assert_eq!(kept(&plain, "dialog-a:b"), (None, None, false));
    let dialog = Keep {
        size: 10_000,
        bytes_max: 64 << 20,
        ttl_ms: 365 * 86_400_000,
        replicated: false,
        inbox: None,
    };
    assert_eq!(kept(&chat, "dialog-a:b"), (Some(dialog), None, true));
    assert_eq!(kept(&plain, "chat-7"), (None, None, false));
    assert_eq!(kept(&chat, "chat-7"), (Some(dialog), None, true));
    for (guard, of) in [(&plain, CursorOf::User), (&chat, CursorOf::Device)] {
        let (history, cursor, conversation) = kept(guard, "user-a");
        assert_eq!((cursor, conversation), (Some(of), false));
        let keep = history.unwrap();
        assert_eq!((keep.inbox, keep.size, keep.ttl_ms), (Some(of), 1_000, 7 * 86_400_000));
    }
}

#[test]
fn nobody_is_in_a_dialog_by_name_whatever_a_rule_says() {
    let rule = "[[rooms]]\nmatch = \"{any}\"\njoin = \"true\"\npublish = \"true\"\n\
                [[rooms]]\nmatch = \"dialog-{a}\"\njoin = \"true\"\npublish = \"true\"\n\
                history = { size = 5 }\nreceipts = true\n";
    let chat = guard(&format!("[dialects.chat]\nenabled = true\n{rule}"));
    assert_eq!(kept(&chat, "dialog-a:b").0.unwrap().size, 5, "one's own rule keeps what it says");
    assert!(kept(&chat, "dialog-a:b").2, "but people talk there all the same");
    let room = RoomName::parse("dialog-a:b").unwrap();
    for guard in [
        chat,
        guard("[dialects.chat]\nenabled = true\n[[rooms]]\nmatch = \"{any}\"\njoin = \"true\"\n"),
    ] {
        let rule = guard.rule(&room).unwrap();
        for who in
            [user(json!({ "sub": "a" })), backend("shop"), user(json!({ "kind": "backend" }))]
        {
            assert!(!guard.may_join(rule, &room, &who));
            assert_eq!(guard.may_publish(rule, &room, &who), PublishRight::No);
        }
    }
}
