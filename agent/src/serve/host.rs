//! What a host says about itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{sys::statvfs::statvfs, unistd::gethostname};
use proto::pb::{StatusReply, StatusRequest, host_server::Host};
use tonic::{Request, Response, Status};

use crate::{
    enrol::{identity::Identity, machine},
    paths::Paths,
};

/// The service `magpie.v1.Host`.
pub struct Service {
    host_id: String,
    fleet_id: String,
    paths: Paths,
    system: PathBuf,
}

impl Service {
    /// Speaks for `identity`; `system` is the root of the file system that describes the machine.
    pub fn new(identity: &Identity, paths: &Paths, system: &Path) -> Self {
        Self {
            host_id: identity.host_id.clone(),
            fleet_id: identity.fleet_id.clone(),
            paths: paths.clone(),
            system: system.to_owned(),
        }
    }

    fn reply(&self) -> StatusReply {
        let mut degraded = Vec::new();
        let memory = Memory::read(&self.system).unwrap_or_else(|error| {
            degraded.push(format!("memory is not known: {error}"));
            Memory::default()
        });
        let disk_free_bytes = disk_free(self.paths.root()).unwrap_or_else(|error| {
            degraded.push(format!("free disk space is not known: {error}"));
            0
        });
        StatusReply {
            host_id: self.host_id.clone(),
            fleet_id: self.fleet_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            boot_id: machine::boot_id(&self.system).unwrap_or_default(),
            uptime_s: uptime(&self.system).unwrap_or_default(),
            disk_free_bytes,
            degraded,
            memory_total_bytes: memory.total,
            memory_available_bytes: memory.available,
            ..StatusReply::default()
        }
    }
}

#[tonic::async_trait]
impl Host for Service {
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(self.reply()))
    }
}

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    /// The machine's memory, or the limit of the host's own control group where that is lower. The files of
    /// the group are those at the top of its namespace: on a whole machine the root group has none.
    fn read(system: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(system.join("proc/meminfo"))?;
        let machine = Self::of_machine(&text).ok_or(io::ErrorKind::InvalidData)?;
        let group = |name: &str| fs::read_to_string(system.join("sys/fs/cgroup").join(name));
        let (Ok(limit), Ok(current), Ok(stat)) =
            (group("memory.max"), group("memory.current"), group("memory.stat"))
        else {
            return Ok(machine);
        };
        Ok(machine.limited(&limit, &current, &stat))
    }

    /// From the text of /proc/meminfo (proc_meminfo(5)).
    fn of_machine(text: &str) -> Option<Self> {
        let kilobytes = |key: &str| field(text, key).and_then(|kilobytes| kilobytes.checked_mul(1024));
        Some(Self { total: kilobytes("MemTotal:")?, available: kilobytes("MemAvailable:")? })
    }

    /// With the texts of a group's memory.max, memory.current and memory.stat (the kernel's cgroup-v2.rst).
    /// Available is what is left below the limit once the file pages that nobody uses are dropped.
    fn limited(self, limit: &str, current: &str, stat: &str) -> Self {
        let (Ok(limit), Ok(current)) = (limit.trim().parse::<u64>(), current.trim().parse::<u64>()) else {
            return self;
        };
        if limit >= self.total {
            return self;
        }
        let working = current.saturating_sub(field(stat, "inactive_file").unwrap_or_default());
        Self { total: limit, available: self.available.min(limit.saturating_sub(working)) }
    }
}

/// The number after `key` at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok()).flatten()
    })
}

/// Seconds since boot (proc_uptime(5)).
fn uptime(system: &Path) -> Option<u64> {
    let text = fs::read_to_string(system.join("proc/uptime")).ok()?;
    text.split(['.', ' ']).next()?.parse().ok()
}

/// What an ordinary process may still write, in bytes.
fn disk_free(path: &Path) -> nix::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MACHINE: Memory = Memory { total: 8 << 30, available: 6 << 30 };

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:        8388608 kB\nMemFree:   1 kB\nMemAvailable:    6291456 kB\n";
        assert_eq!(Memory::of_machine(text), Some(MACHINE));
        assert_eq!(Memory::of_machine("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_lower_limit_counts() {
        let stat = "anon 100\ninactive_file 1048576\nactive_file 7\n";
        let limited = MACHINE.limited("1073741824\n", "536870912\n", stat);
        assert_eq!(limited, Memory { total: 1 << 30, available: (1 << 29) + (1 << 20) });
    }

    #[test]
    fn no_limit_or_a_higher_one_does_not() {
        assert_eq!(MACHINE.limited("max\n", "5\n", ""), MACHINE);
        assert_eq!(MACHINE.limited("99999999999999\n", "5\n", ""), MACHINE);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_harmless(limit in ".{0,30}", current in ".{0,30}", stat in ".{0,80}") {
            let _ = Memory::of_machine(&stat);
            let limited = MACHINE.limited(&limit, &current, &stat);
            prop_assert!(limited.available <= MACHINE.available && limited.total <= MACHINE.total);
        }
    }
}
