//! What a process costs, from /proc by its pid. Never asks the process itself.

use std::collections::BTreeMap;
use std::fs;

use crate::failure::Failure;

/// Processor time of a process so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Of all its threads. Units: nanoseconds on a processor, as the scheduler counts.
    pub(crate) total_ns: u64,
    /// By the names of its threads.
    pub(crate) threads: BTreeMap<String, u64>,
}

impl Cpu {
    /// What a process has used so far. Threads that ended are not counted, so measure while they live.
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let gone = |cause: std::io::Error| {
            Failure::failed(&format!("the figures of process {pid} cannot be read"), &cause)
        };
        let mut cpu = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
            let task = task.map_err(gone)?.path();
            // A thread may end between listing and reading.
            let Ok(schedstat) = fs::read_to_string(task.join("schedstat")) else { continue };
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let ns = first_number(&schedstat).unwrap_or(0);
            cpu.total_ns += ns;
            *cpu.threads.entry(name.trim().to_owned()).or_default() += ns;
        }
        Ok(cpu)
    }

    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let threads = self.threads.iter().map(|(name, ns)| {
            (name.clone(), ns.saturating_sub(earlier.threads.get(name).copied().unwrap_or(0)))
        });
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            threads: threads.filter(|(_, ns)| *ns > 0).collect(),
        }
    }
}

/// Anonymous resident memory: what the process allocated itself, without its program text. Units: bytes.
pub(crate) fn user_rss_bytes(pid: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|cause| {
        Failure::failed(&format!("the memory of process {pid} cannot be read"), &cause)
    })?;
    rss_anon(&status)
        .ok_or_else(|| Failure::Failed("/proc/<pid>/status has no RssAnon; Linux 4.5+".into()))
}

fn rss_anon(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(first_number(line)? * 1_024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_a_processor_and_memory() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let mut sum = 0_u64;
        while Cpu::of(pid).unwrap().since(&before).total_ns < 1_000_000 && sum < 100_000_000 {
            sum += (0..10_000_u64).map(std::hint::black_box).sum::<u64>() & 1 | 1;
        }
        let used = Cpu::of(pid).unwrap().since(&before);
        assert!(used.total_ns >= 1_000_000, "{used:?}");
        assert!(!used.threads.is_empty());
        assert!(user_rss_bytes(pid).unwrap() > 0);
    }

    #[test]
    fn only_anonymous_memory_counts() {
        assert_eq!(rss_anon("VmRSS:\t  900 kB\nRssAnon:\t     12 kB\n"), Some(12_288));
        assert_eq!(rss_anon("VmRSS: 900 kB\n"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Cpu::of(u32::MAX).is_err());
        assert!(user_rss_bytes(u32::MAX).is_err());
    }
}
