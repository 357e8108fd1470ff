//! The host's own counters, from files that are kept open and read anew each time.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use proto::history::HostCounters;

use super::process::number;

/// Nanoseconds in a tick of /proc/stat: USER_HZ is 100 (time(7)).
const TICK_NS: u64 = 10_000_000;

type Parse = fn(&[u8], &mut HostCounters);

/// The files below /proc and what reads them.
const PROC_FILES: [(&str, Parse); 7] = [
    ("stat", parse_stat),
    ("meminfo", parse_meminfo),
    ("vmstat", parse_vmstat),
    ("loadavg", parse_loadavg),
    ("pressure/cpu", |bytes, host| host.pressure_cpu_some_us = pressure(bytes, b"some")),
    ("pressure/memory", |bytes, host| {
        host.pressure_memory_some_us = pressure(bytes, b"some");
        host.pressure_memory_full_us = pressure(bytes, b"full");
    }),
    ("pressure/io", |bytes, host| {
        host.pressure_io_some_us = pressure(bytes, b"some");
        host.pressure_io_full_us = pressure(bytes, b"full");
    }),
];

/// The files of the root cgroup, where a container sees its own limits (cgroup v2).
const CGROUP_FILES: [(&str, Parse); 5] = [
    ("memory.max", |bytes, host| host.cgroup_limit_kib = kib(bytes)),
    ("memory.current", |bytes, host| host.cgroup_used_kib = kib(bytes)),
    ("memory.swap.max", |bytes, host| host.cgroup_swap_limit_kib = kib(bytes)),
    ("memory.swap.current", |bytes, host| host.cgroup_swap_used_kib = kib(bytes)),
    ("memory.events", |bytes, host| {
        host.cgroup_oom_kills = keyed(bytes).find(|(key, _)| *key == b"oom_kill").map(|(_, value)| value);
    }),
];

/// The sources that this host has.
#[derive(Debug)]
pub(super) struct Host {
    sources: Vec<(File, Parse)>,
    buffer: Vec<u8>,
    memory_limit_kib: Option<u64>,
}

impl Host {
    /// Opens what there is; what is missing stays absent in every sample. A limit that is given, in bytes, counts
    /// as the cgroup's where that shows none.
    pub(super) fn open(proc: &Path, cgroup: &Path, memory_limit: Option<u64>) -> Self {
        let proc_files = PROC_FILES.iter().map(|(name, parse)| (proc.join(name), *parse));
        let cgroup_files = CGROUP_FILES.iter().map(|(name, parse)| (cgroup.join(name), *parse));
        let open = |(path, parse)| Some((File::open(path).ok()?, parse));
        Self {
            sources: proc_files.chain(cgroup_files).filter_map(open).collect(),
            buffer: Vec::new(),
            memory_limit_kib: memory_limit.map(|bytes| bytes / 1024),
        }
    }

    /// All counters now.
    pub(super) fn read(&mut self) -> HostCounters {
        let mut host = HostCounters::default();
        for (file, parse) in &self.sources {
            // Pressure files exist but cannot be read where the kernel was started without them.
            if read_anew(file, &mut self.buffer).is_ok() {
                parse(&self.buffer, &mut host);
            }
        }
        host.cgroup_limit_kib = host.cgroup_limit_kib.or(self.memory_limit_kib);
        host
    }
}

/// Reads a whole file from its beginning, into a buffer that keeps its memory.
fn read_anew(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    let mut chunk = [0; 4096];
    loop {
        match file.read_at(&mut chunk, buffer.len() as u64)? {
            0 => return Ok(()),
            count => buffer.extend(&chunk[..count]),
        }
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// Lines of a name, perhaps a colon, and a number.
fn keyed(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(bytes).filter_map(|line| {
        let mut words = words(line);
        let key = words.next()?;
        Some((key.strip_suffix(b":").unwrap_or(key), number(words.next()?)?))
    })
}

/// A cgroup's bytes as KiB; `max` is no limit.
fn kib(bytes: &[u8]) -> Option<u64> {
    number(bytes.trim_ascii_end()).map(|bytes| bytes / 1024)
}

/// `/proc/stat`.
fn parse_stat(bytes: &[u8], host: &mut HostCounters) {
    let mut cpus = 0;
    for line in lines(bytes) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        let mut next = || number(words.next()?);
        match key {
            b"cpu" => {
                let mut ticks = || next().map(|ticks| ticks.saturating_mul(TICK_NS));
                host.cpu_user_ns = ticks();
                host.cpu_nice_ns = ticks();
                host.cpu_system_ns = ticks();
                host.cpu_idle_ns = ticks();
                host.cpu_iowait_ns = ticks();
                host.cpu_irq_ns = ticks();
                host.cpu_softirq_ns = ticks();
                host.cpu_steal_ns = ticks();
            }
            b"ctxt" => host.context_switches = next(),
            b"processes" => host.forks = next(),
            b"procs_running" => host.running = next(),
            b"procs_blocked" => host.blocked = next(),
            _ if key.starts_with(b"cpu") => cpus += 1,
            _ => {}
        }
    }
    host.cpus = (cpus > 0).then_some(cpus);
}

/// `/proc/meminfo`.
fn parse_meminfo(bytes: &[u8], host: &mut HostCounters) {
    for (key, value) in keyed(bytes) {
        let field = match key {
            b"MemTotal" => &mut host.memory_total_kib,
            b"MemFree" => &mut host.memory_free_kib,
            b"MemAvailable" => &mut host.memory_available_kib,
            b"Cached" => &mut host.cached_kib,
            b"Dirty" => &mut host.dirty_kib,
            b"Writeback" => &mut host.writeback_kib,
            b"AnonPages" => &mut host.anon_kib,
            b"Shmem" => &mut host.shmem_kib,
            b"SUnreclaim" => &mut host.slab_unreclaimable_kib,
            b"Committed_AS" => &mut host.committed_kib,
            b"SwapTotal" => &mut host.swap_total_kib,
            b"SwapFree" => &mut host.swap_free_kib,
            _ => continue,
        };
        *field = Some(value);
    }
}

/// `/proc/vmstat`. Stalls are counted for each zone.
fn parse_vmstat(bytes: &[u8], host: &mut HostCounters) {
    for (key, value) in keyed(bytes) {
        let field = match key {
            b"pswpin" => &mut host.swap_in_pages,
            b"pswpout" => &mut host.swap_out_pages,
            b"pgmajfault" => &mut host.major_faults,
            b"workingset_refault_anon" => &mut host.refault_anon,
            b"workingset_refault_file" => &mut host.refault_file,
            b"oom_kill" => &mut host.oom_kills,
            _ if key.starts_with(b"allocstall") => &mut host.allocation_stalls,
            _ => continue,
        };
        *field = Some(field.unwrap_or(0).saturating_add(value));
    }
}

/// `/proc/loadavg`: three averages with two decimals.
fn parse_loadavg(bytes: &[u8], host: &mut HostCounters) {
    let mut averages = words(bytes).map(|word| {
        let dot = word.iter().position(|byte| *byte == b'.')?;
        let hundredths = number(word.get(dot + 1..).filter(|decimals| decimals.len() == 2)?)?;
        number(&word[..dot])?.checked_mul(100)?.checked_add(hundredths)
    });
    host.load_1 = averages.next().flatten();
    host.load_5 = averages.next().flatten();
    host.load_15 = averages.next().flatten();
}

/// The total of one line of a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`.
fn pressure(bytes: &[u8], kind: &[u8]) -> Option<u64> {
    let line = lines(bytes).find(|line| words(line).next() == Some(kind))?;
    words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_taken_from_the_kernel_s_files() {
        let root = tempfile::tempdir().unwrap();
        let (proc, cgroup) = (root.path().join("proc"), root.path().join("cgroup"));
        fs::create_dir_all(proc.join("pressure")).unwrap();
        fs::create_dir_all(&cgroup).unwrap();
        let stat = "cpu  100 1 50 900 7 2 3 97 4 0\ncpu0 50 0 25 450 3 1 1 48 2 0\ncpu1 50 1 25 450 4 1 2 49 2 0\n\
            intr 5 0 1\nctxt 4242\nbtime 1310515942\nprocesses 26100\nprocs_running 3\nprocs_blocked 60\n";
        fs::write(proc.join("stat"), stat).unwrap();
        fs::write(proc.join("meminfo"), "MemTotal:  629145 kB\nMemAvailable:  9000 kB\nHugePages_Total: 0\n")
            .unwrap();
        fs::write(proc.join("vmstat"), "allocstall_dma 1\nallocstall_normal 20\npswpin 5\noom_kill 2\n")
            .unwrap();
        fs::write(proc.join("loadavg"), "57.31 12.05 3.00 3/512 26100\n").unwrap();
        let memory = "some avg10=1.00 avg60=0.00 avg300=0.00 total=900\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=400\n";
        fs::write(proc.join("pressure/memory"), memory).unwrap();
        fs::write(cgroup.join("memory.max"), "536870912\n").unwrap();
        fs::write(cgroup.join("memory.swap.max"), "max\n").unwrap();
        fs::write(cgroup.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();

        let host = Host::open(&proc, &cgroup, None).read();
        let expected = HostCounters {
            cpus: Some(2),
            cpu_user_ns: Some(1_000_000_000),
            cpu_nice_ns: Some(10_000_000),
            cpu_system_ns: Some(500_000_000),
            cpu_idle_ns: Some(9_000_000_000),
            cpu_iowait_ns: Some(70_000_000),
            cpu_irq_ns: Some(20_000_000),
            cpu_softirq_ns: Some(30_000_000),
            cpu_steal_ns: Some(970_000_000),
            context_switches: Some(4242),
            forks: Some(26_100),
            running: Some(3),
            blocked: Some(60),
            memory_total_kib: Some(629_145),
            memory_available_kib: Some(9_000),
            allocation_stalls: Some(21),
            swap_in_pages: Some(5),
            oom_kills: Some(2),
            load_1: Some(5_731),
            load_5: Some(1_205),
            load_15: Some(300),
            pressure_memory_some_us: Some(900),
            pressure_memory_full_us: Some(400),
            cgroup_limit_kib: Some(524_288),
            cgroup_oom_kills: Some(1),
            ..HostCounters::default()
        };
        assert_eq!(host, expected);
        assert_eq!(host.memory_limit_kib(), Some(524_288));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let mut host = HostCounters::default();
            PROC_FILES.iter().chain(&CGROUP_FILES).for_each(|(_, parse)| parse(&bytes, &mut host));
        }
    }
}
