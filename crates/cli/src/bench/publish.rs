//! `roomcast bench publish`: what publications over HTTP cost a node that is kept busy, one a request against many, on
//! both brokers. Nobody hears the rooms, so that only publishing is measured.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::node::Node;
use super::proc::Cpu;
use super::redis::Redis;
use super::report::Table;
use crate::api::http::Http;
use crate::failure::Failure;
use crate::{output, units};

/// `roomcast bench publish`.
#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// Connections that publish without pause
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    connections: u16,
    /// Publications of a batch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// Size of each `data`
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    payload_bytes: u32,
    /// How long each of the four runs is measured
    #[arg(long, default_value = "5s", value_parser = units::duration)]
    duration: Duration,
    /// How long it runs before
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    warmup: Duration,
    /// The memory broker alone: without a Redis
    #[arg(long)]
    memory_only: bool,
}

/// What one run found.
#[derive(Debug, Serialize)]
struct Figures {
    job: &'static str,
    broker: &'static str,
    /// Publications of one request.
    batch: u16,
    connections: u16,
    published_per_s: f64,
    requests_per_s: f64,
    /// Processor time of the node for each publication. Units: microseconds.
    node_us: f64,
    /// The same of its core thread, which is one.
    core_us: f64,
    /// The same of Redis; `None`: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis_us: Option<f64>,
}

/// Runs it.
pub(crate) fn run(args: &Publish, json: bool) -> Result<(), Failure> {
    let mut figures = Vec::new();
    let most = format!("limits.api_batch={}", args.batch.max(100));
    let settings = ["--set", &most, "--set", "limits.api_batch_bytes=64 MiB"];
    let settings = settings.map(str::to_owned);
    {
        let node = Node::serve(&settings)?;
        both(args, "memory", &node, None, &mut figures)?;
    }
    if !args.memory_only {
        let redis = Redis::start()?;
        let more = ["--redis".to_owned(), redis.url()];
        let node = Node::serve(&[&settings[..], &more].concat())?;
        redis.wait_for_feeds(1)?;
        both(args, "redis", &node, Some(redis.pid()), &mut figures)?;
    }
    if json {
        for figures in &figures {
            output::json_line(figures)?;
        }
        return Ok(());
    }
    for line in table(&figures) {
        output::line(&line)?;
    }
    Ok(())
}

fn both(
    args: &Publish,
    broker: &'static str,
    node: &Node,
    redis: Option<u32>,
    figures: &mut Vec<Figures>,
) -> Result<(), Failure> {
    for batch in [1, args.batch] {
        figures.push(one(args, broker, batch, node, redis)?);
    }
    Ok(())
}

fn one(
    args: &Publish,
    broker: &'static str,
    batch: u16,
    node: &Node,
    redis: Option<u32>,
) -> Result<Figures, Failure> {
    let address = node.internal()?.to_string();
    let begin = Instant::now() + args.warmup;
    let end = begin + args.duration;
    let cpu = || -> Result<(Cpu, Cpu), Failure> {
        Ok((Cpu::of(node.pid())?, redis.map_or_else(|| Ok(Cpu::default()), Cpu::of)?))
    };
    let (requests, node_cpu, redis_cpu) = std::thread::scope(|scope| {
        let publish = |number| {
            let (address, request) = (&address, Request::new(number, batch, args.payload_bytes));
            scope.spawn(move || request.repeat(address, begin, end))
        };
        let publishers: Vec<_> = (0..args.connections).map(publish).collect();
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let before = cpu();
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let after = cpu();
        let mut requests = 0_u64;
        for publisher in publishers {
            let gone = |_| Failure::Failed("a publisher ended early".to_owned());
            requests += publisher.join().map_err(gone)??;
        }
        let (before, after) = (before?, after?);
        Ok::<_, Failure>((requests, after.0.since(&before.0), after.1.since(&before.1)))
    })?;
    #[allow(clippy::cast_precision_loss, reason = "figures to be printed, far below 2^52")]
    let per = |ns: u64, count: u64| ns as f64 / 1_000.0 / count.max(1) as f64;
    let published = requests * u64::from(batch);
    let core_ns = node_cpu.threads.get("roomcast-core").copied().unwrap_or(0);
    #[allow(clippy::cast_precision_loss, reason = "figures to be printed, far below 2^52")]
    let rate = |count: u64| count as f64 / args.duration.as_secs_f64();
    Ok(Figures {
        job: "publish",
        broker,
        batch,
        connections: args.connections,
        published_per_s: rate(published),
        requests_per_s: rate(requests),
        node_us: per(node_cpu.total_ns, published),
        core_us: per(core_ns, published),
        redis_us: redis.map(|_| per(redis_cpu.total_ns, published)),
    })
}

/// What one connection sends again and again.
struct Request {
    path: &'static str,
    body: String,
    batch: u16,
}

impl Request {
    fn new(number: u16, batch: u16, payload_bytes: u32) -> Self {
        let text = "x".repeat(usize::try_from(payload_bytes).unwrap_or(usize::MAX).max(8) - 8);
        let room = format!("{}{}", super::ROOM_PREFIX, u32::from(number) + 1);
        let one = json!({"room": room, "type": "note", "data": {"t": text}});
        if batch == 1 {
            return Self { path: "/api/v1/publish", body: one.to_string(), batch };
        }
        let body = json!({"publications": vec![one; usize::from(batch)]}).to_string();
        Self { path: "/api/v1/batch", body, batch }
    }

    /// Publishes without pause; says how many requests were answered in the time that counts.
    fn repeat(&self, address: &str, begin: Instant, end: Instant) -> Result<u64, Failure> {
        let mut http = Http::connect(address)?;
        let mut answered = 0;
        while Instant::now() < end {
            let answer = http.ask("POST", self.path, &[], self.body.as_bytes())?;
            let text = String::from_utf8_lossy(&answer.body);
            // Every publication has to be accepted: refusals would be cheap.
            let accepted = text.matches("\"level\":\"accepted\"").count();
            if answer.status != 200 || accepted != usize::from(self.batch) {
                let text = text.chars().take(300).collect::<String>();
                return Err(Failure::Failed(format!(
                    "the node answered {}: {text}",
                    answer.status
                )));
            }
            let now = Instant::now();
            answered += u64::from(now >= begin && now < end);
        }
        Ok(answered)
    }
}

fn table(figures: &[Figures]) -> Vec<String> {
    let header =
        ["broker", "batch", "publications/s", "requests/s", "node us", "core us", "redis us"];
    let mut table = Table::new(&header);
    for it in figures {
        table.row(vec![
            it.broker.to_owned(),
            it.batch.to_string(),
            format!("{:.0}", it.published_per_s),
            format!("{:.0}", it.requests_per_s),
            format!("{:.1}", it.node_us),
            format!("{:.1}", it.core_us),
            it.redis_us.map_or("-".to_owned(), |us| format!("{us:.1}")),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_as_many_publications_as_it_says() {
        let single = Request::new(0, 1, 200);
        assert_eq!(
            (single.path, single.body.matches("\"room\":\"task-1\"").count()),
            ("/api/v1/publish", 1)
        );
        let many = Request::new(7, 100, 200);
        assert_eq!(
            (many.path, many.body.matches("\"room\":\"task-8\"").count()),
            ("/api/v1/batch", 100)
        );
        let value: serde_json::Value = serde_json::from_str(&single.body).unwrap();
        assert_eq!(value["data"].to_string().len(), 200);
    }
}
