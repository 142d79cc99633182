//! This machine's own figures, from /proc and the file system. Reading and computing are apart: the readers of texts
//! are pure, so that they are tested on known ones.

use std::fs;
use std::io;
use std::time::Instant;

use serde::Serialize;

/// Counters since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    busy_ticks: u64,
    total_ticks: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

/// Network traffic, by the seed's names and as rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct NetworkIo {
    /// Since boot, without loopback.
    pub(crate) bytes_sent: u64,
    /// Since boot, without loopback.
    pub(crate) bytes_received: u64,
    /// Units: bytes per second since the last report.
    pub(crate) sent_per_s: f64,
    /// Units: bytes per second since the last report.
    pub(crate) received_per_s: f64,
}

/// What the machine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Units: percent of all processors since the last report.
    pub(crate) cpu_usage: f64,
    /// Units: percent of memory that is not available.
    pub(crate) memory_usage: f64,
    /// Units: percent of the root file system.
    pub(crate) disk_usage: f64,
    /// Traffic.
    pub(crate) network_io: NetworkIo,
    /// Mean length of the run queue over one minute.
    pub(crate) load_1m: f64,
    /// Units: bytes.
    pub(crate) memory_total: u64,
    /// Units: seconds since boot.
    pub(crate) uptime_s: u64,
}

/// Reads figures, remembering the counters of the last time.
#[derive(Debug)]
pub(crate) struct Meter {
    last: Counters,
    at: Instant,
}

impl Meter {
    /// Takes the first counters.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { last: read_counters()?, at: Instant::now() })
    }

    /// The figures since the last time.
    pub(crate) fn read(&mut self) -> io::Result<Figures> {
        let (counters, now) = (read_counters()?, Instant::now());
        let seconds = now.duration_since(self.at).as_secs_f64();
        let (cpu_usage, network_io) = between(&self.last, &counters, seconds);
        (self.last, self.at) = (counters, now);
        let (memory_total, memory_usage) = memory(&fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| unreadable("/proc/meminfo"))?;
        Ok(Figures {
            cpu_usage,
            memory_usage,
            disk_usage: disk_usage("/")?,
            network_io,
            load_1m: first_number(&fs::read_to_string("/proc/loadavg")?).unwrap_or(0.0),
            memory_total,
            uptime_s: fs::read_to_string("/proc/uptime")?
                .split('.')
                .next()
                .and_then(|seconds| seconds.parse().ok())
                .unwrap_or(0),
        })
    }
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}

fn unreadable(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} has an unknown form"))
}

fn read_counters() -> io::Result<Counters> {
    let (busy_ticks, total_ticks) =
        cpu(&fs::read_to_string("/proc/stat")?).ok_or_else(|| unreadable("/proc/stat"))?;
    let (received_bytes, sent_bytes) = network(&fs::read_to_string("/proc/net/dev")?);
    Ok(Counters { busy_ticks, total_ticks, received_bytes, sent_bytes })
}

/// Busy and all ticks of the first line of /proc/stat. Source: proc(5): user nice system idle iowait irq softirq
/// steal guest guest_nice, where the guests are contained in user and nice.
fn cpu(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    Some((total.saturating_sub(idle), total))
}

/// Received and sent bytes of all interfaces but loopback in /proc/net/dev.
fn network(dev: &str) -> (u64, u64) {
    dev.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .filter_map(|(_, counters)| {
            let mut counters = counters.split_ascii_whitespace();
            let received: u64 = counters.next()?.parse().ok()?;
            let sent: u64 = counters.nth(7)?.parse().ok()?;
            Some((received, sent))
        })
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Total bytes and the percentage not available in /proc/meminfo.
fn memory(meminfo: &str) -> Option<(u64, f64)> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    Some((total * 1_024, percent(total.saturating_sub(available), total)))
}

fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn disk_usage(path: &str) -> io::Result<f64> {
    let disk = rustix::fs::statvfs(path)?;
    // As df does: blocks kept for root count neither as used nor as free.
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    Ok(percent(used, used.saturating_add(disk.f_bavail)))
}

fn between(old: &Counters, new: &Counters, seconds: f64) -> (f64, NetworkIo) {
    let busy = new.busy_ticks.saturating_sub(old.busy_ticks);
    let total = new.total_ticks.saturating_sub(old.total_ticks);
    let rate = |new: u64, old: u64| {
        if seconds > 0.0 { round(to_f64(new.saturating_sub(old)) / seconds) } else { 0.0 }
    };
    let network = NetworkIo {
        bytes_sent: new.sent_bytes,
        bytes_received: new.received_bytes,
        sent_per_s: rate(new.sent_bytes, old.sent_bytes),
        received_per_s: rate(new.received_bytes, old.received_bytes),
    };
    (percent(busy, total), network)
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round((to_f64(part) / to_f64(whole) * 100.0).min(100.0)) }
}

#[expect(clippy::cast_precision_loss, reason = "53 bits are plenty for a figure that is shown")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// To one decimal, as the seed's figures are.
fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_ticks_leave_out_idle_iowait_and_guests() {
        let stat = "cpu  100 5 50 800 40 1 4 0 7 0\ncpu0 1 1 1 1\n";
        assert_eq!(cpu(stat), Some((160, 1_000)));
        assert_eq!(cpu("nonsense"), None);
    }

    #[test]
    fn traffic_is_summed_without_loopback() {
        let dev = "Inter-|   Receive |  Transmit\n face |bytes packets\n\
            \u{20}   lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0\n\
            \u{20} eth0: 1000 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n\
            wlan0:20 2 0 0 0 0 0 0 7 4 0 0 0 0 0 0\n";
        assert_eq!(network(dev), (1_020, 307));
    }

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let meminfo = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:   250 kB\n";
        assert_eq!(memory(meminfo), Some((1_024_000, 75.0)));
        assert_eq!(memory("MemTotal: 5 kB"), None);
    }

    #[test]
    fn figures_are_differences_per_second() {
        let old =
            Counters { busy_ticks: 10, total_ticks: 100, received_bytes: 1_000, sent_bytes: 0 };
        let new =
            Counters { busy_ticks: 60, total_ticks: 300, received_bytes: 3_000, sent_bytes: 500 };
        let (cpu, network) = between(&old, &new, 2.0);
        assert!((cpu - 25.0).abs() < 1e-9, "{cpu}");
        assert!((network.received_per_s - 1_000.0).abs() < 1e-9, "{network:?}");
        assert_eq!(network.bytes_received, 3_000);
        assert_eq!(between(&new, &new, 0.0).1.sent_per_s.to_bits(), 0);
    }

    #[test]
    fn this_machine_can_be_read() {
        let figures = Meter::new().unwrap().read().unwrap();
        assert!(figures.memory_usage > 0.0 && figures.memory_usage < 100.0, "{figures:?}");
        assert!(figures.memory_total > 1 << 20, "{figures:?}");
        assert!(figures.disk_usage <= 100.0, "{figures:?}");
        assert!(!hostname().is_empty());
    }
}
