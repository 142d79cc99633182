//! Calls to a real HTTP server of the tests' own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::authorize::Verdict;
use super::*;
use crate::config::{Config, LoadOptions};

/// How a back-end answers one request.
#[derive(Clone)]
enum Reply {
    /// With status, headers and body.
    Say(u16, &'static str, String),
    /// Not at all, but the connection stays.
    Silence,
    /// The connection ends.
    HangUp,
    /// Once it is told to.
    When(Rc<Notify>),
}

fn ok(body: &str) -> Reply {
    Reply::Say(200, "Content-Type: application/json\r\n", body.to_owned())
}

/// A back-end: what it was sent, and how it answers; the last reply is for all that follow.
struct Server {
    address: SocketAddr,
    heard: RefCell<Vec<String>>,
    replies: RefCell<VecDeque<Reply>>,
    connections: std::cell::Cell<usize>,
}

impl Server {
    async fn start(replies: Vec<Reply>) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            heard: RefCell::default(),
            replies: RefCell::new(replies.into()),
            connections: std::cell::Cell::default(),
        });
        let accepting = Rc::clone(&server);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.set(accepting.connections.get() + 1);
                spawn_local(Rc::clone(&accepting).serve(stream));
            }
        });
        server
    }

    async fn serve(self: Rc<Self>, mut stream: TcpStream) {
        while let Some(request) = read_request(&mut stream).await {
            self.heard.borrow_mut().push(request);
            let reply = {
                let mut replies = self.replies.borrow_mut();
                let first = replies.front().cloned().unwrap();
                if replies.len() > 1 {
                    replies.pop_front();
                }
                first
            };
            let (status, headers, body) = match reply {
                Reply::Say(status, headers, body) => (status, headers, body),
                Reply::Silence => std::future::pending().await,
                Reply::HangUp => return,
                Reply::When(told) => {
                    told.notified().await;
                    (200, "Content-Type: application/json\r\n", "\"at last\"".to_owned())
                }
            };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn say(&self, replies: Vec<Reply>) {
        *self.replies.borrow_mut() = replies.into();
    }

    fn count(&self) -> usize {
        self.heard.borrow().len()
    }

    fn last(&self) -> String {
        self.heard.borrow().last().unwrap().clone()
    }
}

/// Head and body, or nothing at the connection's end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |it| it.parse().unwrap()) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A configuration with one target `app` at `url`, with these lines, and one call `ask`, with those.
fn config(url: &str, target: &str, call: &str, dev: bool) -> UpstreamConfig {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("roomcast-upstream-{}-{count}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let text = format!(
        "[[upstream.targets]]\nname = \"app\"\nurl = \"{url}\"\n{target}\n\
         [[upstream.calls]]\nname = \"ask\"\ntarget = \"app\"\npath = \"/ask?x=1\"\n{call}\n\
         [[upstream.requests]]\nmethods = [\"report.*\", \"who\"]\ncall = \"ask\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let options = LoadOptions { file: Some(file.clone()), dev, ..LoadOptions::default() };
    let config = Config::load(&options);
    std::fs::remove_file(&file).unwrap();
    config.unwrap().upstream
}

const ASK: CallIndex = CallIndex(0);

/// The way to a server, with one call of these lines.
fn to(server: &Server, target: &str, call: &str) -> Upstream {
    let config = config(&format!("http://{}/base/", server.address), target, call, true);
    begin(&config, Resolver::System)
}

fn begin(config: &UpstreamConfig, resolver: Resolver) -> Upstream {
    let (upstream, worker) = upstream(config, Clock::new());
    spawn_local(run(Worker { resolver, ..worker }));
    upstream
}

fn input(body: &str) -> CallInput {
    CallInput { body: Bytes::copy_from_slice(body.as_bytes()), key: None }
}

fn keyed(body: &str) -> CallInput {
    CallInput { key: Some(body.as_bytes().into()), ..input(body) }
}

/// An answer in a few words.
async fn ask(upstream: &Upstream, input: CallInput) -> String {
    match upstream.call(ASK, input).await {
        Ok(answer) => {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            format!("{}{} {body}", if answer.stale { "stale " } else { "" }, answer.status)
        }
        Err(CallError::Open { .. }) => "open".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn figure(upstream: &Upstream, of: fn(&CallStats) -> &std::sync::atomic::AtomicU64) -> u64 {
    of(&upstream.stats()[0]).load(Ordering::Relaxed)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), LocalSet::new().run_until(future)).await.unwrap()
}

#[tokio::test]
async fn a_call_is_what_its_configuration_says_and_signed() {
    within(async {
        let server = Server::start(vec![ok("{\"fine\":true}")]).await;
        let target = "secret = \"sixteen bytes and more\"\nauthorization = \"Bearer b\"";
        let call = "method = \"PUT\"\nheaders = [\"X-App: shop\"]";
        let upstream = to(&server, target, call);
        assert_eq!(ask(&upstream, input("{\"a\":1}")).await, "200 {\"fine\":true}");
        let heard = server.last();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("PUT /base/ask?x=1 HTTP/1.1\r\n"), "{head}");
        let of = |name: &str| head.lines().find_map(|it| it.strip_prefix(&format!("{name}: ")));
        assert_eq!(of("host"), Some(&*server.address.to_string()));
        assert_eq!(of("content-type"), Some("application/json"));
        assert_eq!((of("authorization"), of("x-app")), (Some("Bearer b"), Some("shop")));
        assert_eq!(body, "{\"a\":1}");
        let unix_s = of("roomcast-timestamp").unwrap().parse().unwrap();
        assert!(crate::clock::unix_ms() / 1_000 - unix_s < 10);
        let signer = sign::Signer::new(b"sixteen bytes and more");
        assert_eq!(of("roomcast-signature"), Some(&*signer.sign(unix_s, body.as_bytes())));
    })
    .await;
}

#[tokio::test]
async fn one_connection_serves_calls_that_follow_each_other() {
    within(async {
        let server = Server::start(vec![ok("1")]).await;
        let upstream = to(&server, "", "");
        for _ in 0..5 {
            assert_eq!(ask(&upstream, input("{}")).await, "200 1");
        }
        assert_eq!((server.count(), server.connections.get()), (5, 1));
        assert!(!server.last().contains("roomcast-signature"), "nothing signs without a secret");
    })
    .await;
}

#[tokio::test]
async fn the_breaker_opens_serves_stale_answers_and_half_open_recovers() {
    within(async {
        let server = Server::start(vec![ok("\"old\"")]).await;
        let call = "breaker_open = \"300ms\"\ncache = \"10ms\"";
        let upstream = to(&server, "", call);
        assert_eq!(ask(&upstream, keyed("a")).await, "200 \"old\"");
        server.say(vec![Reply::HangUp]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..5 {
            assert!(ask(&upstream, keyed("a")).await.starts_with("it gave no answer"));
        }
        let count = server.count();
        assert_eq!(ask(&upstream, keyed("a")).await, "stale 200 \"old\"");
        assert_eq!(ask(&upstream, keyed("b")).await, "open");
        assert_eq!(ask(&upstream, input("a")).await, "open");
        assert_eq!(server.count(), count, "the back-end is left alone");
        assert_eq!(figure(&upstream, |it| &it.open), 1);
        tokio::time::sleep(Duration::from_millis(320)).await;
        assert!(ask(&upstream, keyed("b")).await.starts_with("it gave no answer"), "half open");
        assert_eq!(ask(&upstream, keyed("a")).await, "stale 200 \"old\"", "open again");
        server.say(vec![ok("\"new\"")]);
        tokio::time::sleep(Duration::from_millis(320)).await;
        assert_eq!(ask(&upstream, keyed("a")).await, "200 \"new\"");
        assert_eq!(ask(&upstream, keyed("b")).await, "200 \"new\"");
        assert_eq!(figure(&upstream, |it| &it.open), 0);
        let figures = [
            figure(&upstream, |it| &it.failed),
            figure(&upstream, |it| &it.stale),
            figure(&upstream, |it| &it.shut_out),
            figure(&upstream, |it| &it.answered),
        ];
        assert_eq!(figures, [6, 2, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_status_of_500_or_more_is_a_failure_and_any_other_is_not() {
    within(async {
        let server = Server::start(vec![Reply::Say(404, "", "no".to_owned())]).await;
        let upstream = to(&server, "", "breaker_failures = 2");
        for _ in 0..5 {
            assert_eq!(ask(&upstream, input("{}")).await, "404 no");
        }
        server.say(vec![Reply::Say(503, "", "down".to_owned())]);
        assert_eq!(ask(&upstream, input("{}")).await, "503 down");
        assert_eq!(ask(&upstream, input("{}")).await, "503 down");
        assert_eq!(ask(&upstream, input("{}")).await, "open");
    })
    .await;
}

#[tokio::test]
async fn a_fresh_answer_is_given_again_and_a_bad_one_is_not_kept() {
    within(async {
        let server = Server::start(vec![Reply::Say(404, "", "no".to_owned()), ok("1")]).await;
        let upstream = to(&server, "", "cache = \"10s\"");
        assert_eq!(ask(&upstream, keyed("a")).await, "404 no");
        for _ in 0..3 {
            assert_eq!(ask(&upstream, keyed("a")).await, "200 1");
        }
        assert_eq!((server.count(), figure(&upstream, |it| &it.cached)), (2, 2));
        assert_eq!(ask(&upstream, keyed("b")).await, "200 1");
        assert_eq!(ask(&upstream, input("a")).await, "200 1");
        assert_eq!(server.count(), 4, "other keys, and none at all, are asked for");
    })
    .await;
}

#[tokio::test]
async fn who_asks_the_same_meanwhile_shares_one_request() {
    within(async {
        let told = Rc::new(Notify::new());
        let server = Server::start(vec![Reply::When(Rc::clone(&told))]).await;
        let upstream = to(&server, "", "cache = \"10s\"\nqueue = 3");
        let all: Vec<_> = (0..5)
            .map(|_| {
                let upstream = upstream.clone();
                spawn_local(async move { ask(&upstream, keyed("a")).await })
            })
            .collect();
        while server.count() == 0 || figure(&upstream, |it| &it.refused) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        told.notify_one();
        let mut answers = Vec::new();
        for one in all {
            answers.push(one.await.unwrap());
        }
        let last = answers.pop().unwrap();
        assert!(answers.iter().all(|it| it == "200 \"at last\""), "{answers:?}");
        assert_eq!(last, "too many calls wait", "three may share, the fourth may not");
        assert_eq!((server.count(), figure(&upstream, |it| &it.shared)), (1, 3));
        assert_eq!(figure(&upstream, |it| &it.waiting), 0);
    })
    .await;
}

#[tokio::test]
async fn calls_up_to_the_queue_wait_and_one_more_is_refused() {
    within(async {
        let told = Rc::new(Notify::new());
        let server = Server::start(vec![Reply::When(Rc::clone(&told))]).await;
        let upstream = to(&server, "", "concurrency = 1\nqueue = 2");
        let all: Vec<_> = (0..4)
            .map(|at| {
                let upstream = upstream.clone();
                spawn_local(async move { ask(&upstream, input(&at.to_string())).await })
            })
            .collect();
        while server.count() == 0 || figure(&upstream, |it| &it.refused) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(figure(&upstream, |it| &it.waiting), 2);
        assert_eq!((figure(&upstream, |it| &it.under_way), server.count()), (1, 1));
        let mut answers = Vec::new();
        for (at, one) in all.into_iter().enumerate() {
            if at < 3 {
                told.notify_one();
            }
            answers.push(one.await.unwrap());
        }
        assert_eq!(answers[3], "too many calls wait");
        assert!(answers[..3].iter().all(|it| it == "200 \"at last\""), "{answers:?}");
        assert_eq!(figure(&upstream, |it| &it.under_way), 0);
    })
    .await;
}

#[tokio::test]
async fn whose_turn_does_not_come_in_time_is_told_so_and_nothing_of_it_leaves() {
    within(async {
        let server = Server::start(vec![Reply::Silence]).await;
        let upstream = to(&server, "", "concurrency = 1\ntimeout = \"100ms\"");
        let first = upstream.clone();
        let first = spawn_local(async move { ask(&first, input("1")).await });
        while server.count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let began = std::time::Instant::now();
        // It gets its turn when the first has timed out, or is late itself; either way its own timeout holds.
        let second = ask(&upstream, input("2")).await;
        assert!(began.elapsed() < Duration::from_millis(1_000));
        assert!(second.contains("within the timeout"), "{second}");
        assert_eq!(first.await.unwrap(), "it did not answer within the timeout");
    })
    .await;
}

#[tokio::test]
async fn an_answer_up_to_its_bound_is_taken_and_one_byte_more_is_not() {
    within(async {
        let body = |bytes: usize| Reply::Say(200, "", "x".repeat(bytes));
        let server = Server::start(vec![body(1_024), body(1_025)]).await;
        let upstream = to(&server, "", "response_bytes = \"1 KiB\"");
        assert_eq!(ask(&upstream, input("{}")).await.len(), 1_028);
        let told = ask(&upstream, input("{}")).await;
        assert_eq!(told, "its answer has more than 1024 bytes, see response_bytes of the call");
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_a_length_is_bounded_as_well() {
    within(async {
        let chunked = "Transfer-Encoding: chunked\r\nX-Ignored: ";
        let chunk = format!("\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n", 1_025, "x".repeat(1_025));
        let headers: &'static str = Box::leak(format!("{chunked}{chunk}").into_boxed_str());
        let server = Server::start(vec![Reply::Say(200, headers, String::new())]).await;
        let upstream = to(&server, "", "response_bytes = \"1 KiB\"");
        let told = ask(&upstream, input("{}")).await;
        assert_eq!(told, "its answer has more than 1024 bytes, see response_bytes of the call");
    })
    .await;
}

#[tokio::test]
async fn bodies_up_to_their_bound_wait_and_one_byte_more_is_refused() {
    within(async {
        let server = Server::start(vec![ok("1")]).await;
        let upstream = to(&server, "", "");
        let held = Weight::take(&upstream.shared.bodies, BODIES_BYTES_MAX - 2).unwrap();
        assert_eq!(ask(&upstream, input("{}")).await, "200 1");
        assert_eq!(ask(&upstream, input("{ }")).await, "too many calls wait");
        drop(held);
        assert_eq!(ask(&upstream, input("{ }")).await, "200 1");
        assert_eq!(upstream.shared.bodies.load(Ordering::Relaxed), 0);
    })
    .await;
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    within(async {
        let elsewhere = Server::start(vec![ok("\"secret\"")]).await;
        let headers = format!("Location: http://{}/\r\n", elsewhere.address);
        let headers: &'static str = Box::leak(headers.into_boxed_str());
        let server = Server::start(vec![Reply::Say(307, headers, String::new())]).await;
        let upstream = to(&server, "", "");
        assert_eq!(ask(&upstream, input("{}")).await, "307 ");
        assert_eq!(elsewhere.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_address_of_this_machine_is_refused_unless_it_is_listed() {
    within(async {
        let server = Server::start(vec![ok("1")]).await;
        let url = format!("http://localhost:{}", server.address.port());
        let closed = begin(&config(&url, "", "", false), Resolver::System);
        let told = ask(&closed, input("{}")).await;
        assert!(told.contains("is not one of the internet; list its network"), "{told}");
        assert_eq!(server.connections.get(), 0);
        let listed = "allow_private = [\"127.0.0.1\"]";
        let open = begin(&config(&url, listed, "", false), Resolver::System);
        assert_eq!(ask(&open, input("{}")).await, "200 1");
    })
    .await;
}

#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_connected_to() {
    within(async {
        let server =
            Server::start(vec![Reply::Say(200, "Connection: close\r\n", "1".into())]).await;
        let url = format!("http://app.example.com:{}", server.address.port());
        let good = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        let bad = SocketAddr::from(([127, 0, 0, 2], server.address.port()));
        // The name means something else at each look: one look a connection, and only what is listed is connected to.
        let answers = vec![vec![good], vec![bad], vec![bad, good]];
        let resolver = Resolver::Fixed(Arc::new(std::sync::Mutex::new(answers)));
        let listed = "allow_private = [\"127.0.0.1\"]";
        let upstream = begin(&config(&url, listed, "", false), resolver);
        assert_eq!(ask(&upstream, input("{}")).await, "200 1");
        let told = ask(&upstream, input("{}")).await;
        assert!(told.starts_with("its address 127.0.0.2 is not one of the internet"), "{told}");
        assert_eq!(ask(&upstream, input("{}")).await, "200 1");
        assert!(server.last().contains("host: app.example.com"));
    })
    .await;
}

#[tokio::test]
async fn who_is_not_there_fails_without_waiting() {
    within(async {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let config = config(&format!("http://127.0.0.1:{port}"), "", "", true);
        let upstream = begin(&config, Resolver::System);
        let told = ask(&upstream, input("{}")).await;
        assert!(told.starts_with("it cannot be connected to"), "{told}");
        assert_eq!(figure(&upstream, |it| &it.failed), 1);
    })
    .await;
}

#[tokio::test]
async fn permission_is_given_by_status_200_alone_and_never_kept() {
    within(async {
        let headers = "X-Why: closed\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
        let denied = |status| Reply::Say(status, headers, "no".to_owned());
        let replies = vec![ok("1"), denied(403), denied(204), denied(302), denied(500)];
        let server = Server::start(replies).await;
        let upstream = to(&server, "", "cache = \"10s\"");
        let json = || Bytes::from_static(b"{}");
        let verdict = upstream.authorize(ASK, json()).await.unwrap();
        assert!(matches!(verdict, Verdict::Allowed));
        for status in [403, 204, 302, 500] {
            let verdict = upstream.authorize(ASK, json()).await.unwrap();
            let Verdict::Denied(answer) = verdict else { panic!("{status} allowed") };
            assert_eq!(answer.status, status);
            assert_eq!(answer.headers.get("x-why").unwrap(), "closed");
            for gone in ["connection", "x-hop", "content-length"] {
                assert!(!answer.headers.contains_key(gone), "{gone} is about the connection");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn methods_find_their_call() {
    let config = config("http://app.example.com", "", "", false);
    let (upstream, _worker) = upstream(&config, Clock::new());
    for (method, serves) in [
        ("report.daily", true),
        ("report.", true),
        ("who", true),
        ("whom", false),
        ("report", false),
    ] {
        assert_eq!(upstream.serving(method), serves.then_some(ASK), "{method}");
    }
}
