use http_body_util::BodyExt;
use serde_json::{Value, json};

use roomcast_protocol::guard::Guard;

use super::assets::ASSETS;
use super::*;
use crate::config::LoadOptions;
use crate::guard::RuleGuard;

const LOCAL: Option<&str> = Some("127.0.0.1:8080");

fn dev() -> Site {
    let mint: Minter = Box::new(|sub, permissions| {
        let token = format!("{sub}|{}", permissions.join("|"));
        (sub != "unsigned").then_some(Minted { token, expires_unix_s: 1_700_000_000 })
    });
    let site = DevSite {
        node: NodeId(7),
        public: SocketAddr::from(([0, 0, 0, 0], 8080)),
        internal: SocketAddr::from(([127, 0, 0, 1], 9090)),
        mint,
    };
    Site::dev(site)
}

fn get(site: &Site, path: &str, query: &str) -> Response<Full<Bytes>> {
    site.respond(&Method::GET, path, query, LOCAL)
}

fn bytes_of(response: Response<Full<Bytes>>) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
}

fn json_of(response: Response<Full<Bytes>>) -> Value {
    serde_json::from_slice(&bytes_of(response)).unwrap()
}

#[test]
fn outside_development_nothing_is_served() {
    let site = Site::none();
    for path in
        ["/", "/index.html", "/dev/token", "/dev/info", "/metrics", "/livez", "/api/v1/publish"]
    {
        let response = get(&site, path, "");
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

#[test]
fn the_internal_ports_paths_are_not_found_in_development_either() {
    for path in
        ["/metrics", "/livez", "/readyz", "/api/v1/publish", "/../Cargo.toml", "/%2e%2e/x", "//"]
    {
        assert_eq!(get(&dev(), path, "").status(), 404, "{path}");
    }
}

#[test]
fn the_page_and_all_its_files_are_served_with_their_types() {
    let site = dev();
    assert_eq!(bytes_of(get(&site, "/", "")), bytes_of(get(&site, "/index.html", "")));
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let response = get(&site, path, "");
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], content_type);
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'self'; connect-src 'self' ws: wss:; "),
            "{policy}"
        );
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    }
}

#[test]
fn every_file_of_the_folder_is_embedded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let embedded: Vec<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
    assert_eq!(embedded, names, "list them in src/public/assets.rs");
    let octets = "application/octet-stream";
    assert!(ASSETS.iter().all(|asset| asset.content_type() != octets && !asset.content.is_empty()));
}

#[test]
fn pages_load_only_what_is_served() {
    let page = String::from_utf8(bytes_of(get(&dev(), "/", "")).to_vec()).unwrap();
    for attribute in ["src=\"", "href=\""] {
        for rest in page.split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            if !target.starts_with('#') {
                assert_eq!(get(&dev(), &format!("/{target}"), "").status(), 200, "{target}");
            }
        }
    }
}

#[test]
fn other_methods_are_refused() {
    for path in ["/", "/app.js", "/dev/token", "/dev/info"] {
        let response = dev().respond(&Method::POST, path, "", LOCAL);
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
        assert_eq!(dev().respond(&Method::HEAD, path, "", LOCAL).status(), 200, "{path}");
    }
}

#[test]
fn a_token_is_minted_for_whom_and_what_is_asked() {
    let site = dev();
    let body = json_of(get(&site, "/dev/token", "sub=al%20ice%2F1&permissions=a"));
    assert_eq!(body["status"], 400, "a space: {body}");
    let body = json_of(get(&site, "/dev/token", "sub=alice%2F1&permissions=view_agents,+b%3A7,"));
    let expected = json!({
        "token": "alice/1|view_agents|b:7", "sub": "alice/1", "expires": 1_700_000_000_u64
    });
    assert_eq!(body, expected);
    let body = json_of(get(&site, "/dev/token", ""));
    assert_eq!(body["token"], "demo|view_system|view_agents|view_tasks|view_groups");
    assert_eq!(json_of(get(&site, "/dev/token", "permissions="))["token"], "demo|");
}

#[test]
fn a_token_is_never_cached_nor_given_to_another_site() {
    let response = get(&dev(), "/dev/token", "");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
    for host in
        [None, Some("evil.example"), Some("evil.example:8080"), Some("127.0.0.1.evil.example")]
    {
        let response = dev().respond(&Method::GET, "/dev/token", "", host);
        assert_eq!(response.status(), 403, "{host:?}");
    }
    for host in ["localhost", "localhost:1", "[::1]:8080", "127.0.0.1"] {
        let response = dev().respond(&Method::GET, "/dev/token", "", Some(host));
        assert_eq!(response.status(), 200, "{host}");
    }
}

#[test]
fn bad_wishes_for_a_token_are_refused_with_the_reason() {
    let long = "p".repeat(PERMISSION_BYTES_MAX + 1);
    let many = vec!["p"; PERMISSIONS_MAX + 1].join(",");
    for query in [
        "sub=",
        "sub=%0a",
        "sub=%",
        "role=x",
        &format!("sub={}", "s".repeat(251)),
        &format!("permissions={long}"),
        &format!("permissions={many}"),
    ] {
        assert_eq!(get(&dev(), "/dev/token", query).status(), 400, "{query}");
    }
    for query in [
        &format!("sub={}", "s".repeat(250)),
        &format!("permissions={}", &long[1..]),
        &format!("permissions={}", &many[2..]),
    ] {
        assert_eq!(get(&dev(), "/dev/token", query).status(), 200, "{query}");
    }
    assert_eq!(get(&dev(), "/dev/token", "sub=unsigned").status(), 500);
}

#[test]
fn the_page_learns_where_the_node_is() {
    let body = json_of(get(&dev(), "/dev/info", ""));
    let expected = json!({
        "public": "127.0.0.1:8080", "internal": "127.0.0.1:9090",
        "version": env!("CARGO_PKG_VERSION"), "node": "0000000000000007"
    });
    assert_eq!(body, expected);
}

#[test]
fn a_development_nodes_own_token_is_one_it_accepts() {
    let config = Config::load(&LoadOptions { dev: true, ..LoadOptions::default() }).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let site = site(&config, address, address, NodeId(7));
    let body = json_of(get(&site, "/dev/token", "sub=7&permissions=view_agents"));
    let guard = RuleGuard::new(&config, "node").unwrap();
    let who = guard.verify(body["token"].as_str().unwrap(), unix_ms()).unwrap();
    assert_eq!((&*who.id, who.kind, who.holds("view_agents")), ("7", Kind::User, true));
    assert_eq!(who.expires_unix_ms, body["expires"].as_u64().unwrap() * 1_000);
}

#[test]
fn a_node_outside_development_has_no_pages() {
    let config = Config::load(&LoadOptions::default()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(get(&site(&config, address, address, NodeId(7)), "/", "").status(), 404);
}
