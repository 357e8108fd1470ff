//! The host's counters, from files that are kept open and read again for each sample.
//!
//! These files are read every second, so they have custom parsers that allocate nothing and extract only what is
//! recorded; rarely read files (`filesystems`) go through the procfs crate.

mod cgroup;
mod disks;
pub(super) mod filesystems;
mod kernel;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use record::{Disk, HostCounters};

use self::disks::Disks;
use super::scope;

/// Fits the largest file, in bytes; the buffer grows on hosts with many CPUs or disks.
const BUFFER_BYTES: usize = 16 << 10;

/// For each read of a file in /proc/sys, the kernel allocates as much memory as the reader's buffer has
/// (fs/proc/proc_sysctl.c, proc_sys_call_handler), which takes seconds when memory is exhausted.
const SETTING_BYTES: usize = 64;

type Parse = fn(&[u8], &mut HostCounters);

/// The sources that exist on this host.
#[derive(Debug)]
pub(super) struct Host {
    sources: Vec<(File, Parse)>,
    settings: Vec<(File, Parse)>,
    diskstats: Option<File>,
    disks: Disks,
    buffer: Vec<u8>,
    setting: Vec<u8>,
    memory_limit_kib: Option<u64>,
    page_kib: u64,
    is_part: bool,
}

/// The control groups that a host sees.
#[derive(Clone, Debug)]
pub struct ControlGroups {
    /// Root of the cgroup file systems; in a container, the root of its own part.
    pub own: PathBuf,
    /// Where a container's provider exposes version 1 controllers that are read-only for the container, each in a
    /// directory of its name. Below /run/host, as described in systemd.io/CONTAINER_INTERFACE.
    pub provided: PathBuf,
}

impl ControlGroups {
    /// The usual paths below a root directory, which is `/` except in tests.
    pub fn below(root: &Path) -> Self {
        Self { own: root.join("sys/fs/cgroup"), provided: root.join("run/host/cgroup") }
    }
}

/// Reads the counters once; also returns whether those in /proc belong to a larger machine. `memory_limit` is in bytes.
pub fn look(proc: &Path, groups: &ControlGroups, memory_limit: Option<u64>) -> (HostCounters, bool) {
    // Without disks, so without /sys; the page size does not matter.
    let mut host = Host::open(proc, Path::new(""), groups, memory_limit, 1);
    (host.read(), host.is_part)
}

impl Host {
    /// Opens the existing sources; missing ones stay absent in every sample. `memory_limit`, in bytes, replaces a
    /// missing limit of the cgroup.
    pub(super) fn open(
        proc: &Path,
        sys: &Path,
        groups: &ControlGroups,
        memory_limit: Option<u64>,
        page_kib: u64,
    ) -> Self {
        let mut sources = open_all(proc, &kernel::FILES);
        sources.extend(own_cgroup(groups));
        Self {
            sources,
            settings: open_all(proc, &kernel::SETTINGS),
            diskstats: File::open(proc.join("diskstats")).ok(),
            disks: Disks::new(sys),
            buffer: vec![0; BUFFER_BYTES],
            setting: vec![0; SETTING_BYTES],
            memory_limit_kib: memory_limit.map(|bytes| bytes / 1024),
            page_kib,
            is_part: scope::is_part_of_machine(proc),
        }
    }

    /// Whether the host is only a part of a machine, whose counters appear in /proc.
    pub(super) fn is_part_of_machine(&self) -> bool {
        self.is_part
    }

    /// Reads all counters.
    pub(super) fn read(&mut self) -> HostCounters {
        let mut host = HostCounters::default();
        for (file, parse) in &self.sources {
            // Pressure files exist but cannot be read if the kernel was started without pressure information.
            if let Ok(bytes) = read_anew(file, &mut self.buffer) {
                parse(bytes, &mut host);
            }
        }
        for (file, parse) in &self.settings {
            if let Ok(bytes) = read_anew(file, &mut self.setting) {
                parse(bytes, &mut host);
            }
        }
        for swapped in [&mut host.swap_in_kib, &mut host.swap_out_kib] {
            *swapped = swapped.map(|pages| pages.saturating_mul(self.page_kib));
        }
        host.cgroup_limit_kib = host.cgroup_limit_kib.or(self.memory_limit_kib);
        // The machine's count does not show which kills happened on this host.
        host.oom_kills = host.oom_kills.filter(|_| !self.is_part);
        if let Some(file) = &self.diskstats
            && let Ok(bytes) = read_anew(file, &mut self.buffer)
        {
            self.disks.parse(bytes);
        }
        host
    }

    /// Whole disks at the last reading.
    pub(super) fn disks(&self) -> &[Disk] {
        self.disks.all()
    }
}

fn open_all(root: &Path, files: &[(&str, Parse)]) -> Vec<(File, Parse)> {
    files.iter().filter_map(|(name, parse)| Some((File::open(root.join(name)).ok()?, *parse))).collect()
}

/// Opens the files of the host's own cgroup; none if that is the root of a whole machine, where /proc has the same
/// data.
fn own_cgroup(groups: &ControlGroups) -> Vec<(File, Parse)> {
    let has = |name| groups.own.join(name).exists();
    // The first exists in every group of version 2 except a machine's root; the others need their controllers.
    if ["cgroup.events", "memory.current", "pids.current"].into_iter().any(has) {
        let mut files = open_all(&groups.own, &cgroup::UNIFIED_FILES);
        if !has("memory.current") {
            files.extend(open_all(&groups.provided, &cgroup::FILES));
        }
        return files;
    }
    let mut host = HostCounters::default();
    let files = open_all(&groups.own, &cgroup::FILES);
    let mut buffer = vec![0; BUFFER_BYTES];
    for (file, parse) in &files {
        if let Ok(bytes) = read_anew(file, &mut buffer) {
            parse(bytes, &mut host);
        }
    }
    let limited = host.cgroup_limit_kib.is_some() || host.cgroup_tasks_limit.is_some();
    if limited { files } else { Vec::new() }
}

/// Reads a whole file from its beginning into a reused buffer, which grows if needed.
fn read_anew<'a>(file: &File, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        match file.read_at(&mut buffer[filled..], filled as u64)? {
            0 => return Ok(&buffer[..filled]),
            count => filled += count,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_taken_from_the_kernel_s_files() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        let groups = ControlGroups::below(root.path());
        let cgroup = &groups.own;
        fs::create_dir_all(proc.join("pressure")).unwrap();
        fs::create_dir_all(cgroup).unwrap();
        let stat = "cpu  100 1 50 900 7 2 3 97 4 0\ncpu0 50 0 25 450 3 1 1 48 2 0\ncpu1 50 1 25 450 4 1 2 49 2 0\n\
            intr 5 0 1\nctxt 4242\nbtime 1310515942\nprocesses 26100\nprocs_running 3\nprocs_blocked 60\n";
        fs::write(proc.join("stat"), stat).unwrap();
        fs::write(proc.join("meminfo"), "MemTotal:  629145 kB\nMemAvailable:  9000 kB\nHugePages_Total: 0\n")
            .unwrap();
        let vmstat = "nr_free_pages 9\nallocstall_dma 1\nallocstall_normal 20\npswpin 5\npswpout 2\npgscan_kswapd 6\n\
            pgscan_direct 7\npgsteal_kswapd 3\npgsteal_direct 4\npgscan_direct_throttle 1\noom_kill 2\n";
        fs::write(proc.join("vmstat"), vmstat).unwrap();
        fs::create_dir_all(proc.join("sys/fs")).unwrap();
        fs::write(proc.join("sys/fs/file-nr"), "849\t0\t2466177\n").unwrap();
        fs::write(proc.join("loadavg"), "57.31 12.05 3.00 3/512 26100\n").unwrap();
        let memory = "some avg10=1.00 avg60=0.00 avg300=0.00 total=900\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=400\n";
        fs::write(proc.join("pressure/memory"), memory).unwrap();
        fs::write(cgroup.join("memory.max"), "536870912\n").unwrap();
        fs::write(cgroup.join("memory.current"), "4096\n").unwrap();
        fs::write(cgroup.join("pids.max"), "100\n").unwrap();
        fs::write(cgroup.join("memory.pressure"), memory).unwrap();
        fs::write(cgroup.join("memory.swap.max"), "max\n").unwrap();
        fs::write(cgroup.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        fs::write(cgroup.join("memory.peak"), "1048576\n").unwrap();
        let charged = "anon 409600\nfile 307200\nkernel 102400\nkernel_stack 4096\nshmem 204800\n";
        fs::write(cgroup.join("memory.stat"), charged).unwrap();

        let host = Host::open(&proc, root.path(), &groups, None, 16).read();
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
            swap_in_kib: Some(5 * 16),
            swap_out_kib: Some(2 * 16),
            scanned_kswapd: Some(6),
            scanned_direct: Some(7),
            reclaimed_kswapd: Some(3),
            reclaimed_direct: Some(4),
            tasks: Some(512),
            files: Some(849),
            files_limit: Some(2_466_177),
            oom_kills: Some(2),
            load_1: Some(5_731),
            load_5: Some(1_205),
            load_15: Some(300),
            pressure_memory_some_us: Some(900),
            pressure_memory_full_us: Some(400),
            cgroup_limit_kib: Some(524_288),
            cgroup_used_kib: Some(4),
            cgroup_oom_kills: Some(1),
            cgroup_tasks_limit: Some(100),
            cgroup_pressure_memory_some_us: Some(900),
            cgroup_pressure_memory_full_us: Some(400),
            cgroup_anon_kib: Some(400),
            cgroup_shmem_kib: Some(200),
            cgroup_file_kib: Some(300),
            cgroup_kernel_kib: Some(100),
            cgroup_peak_kib: Some(1024),
            ..HostCounters::default()
        };
        assert_eq!(host, expected);
        assert_eq!(host.memory_limit_kib(), Some(524_288));
    }

    #[test]
    fn version_1_counts_only_where_it_limits() {
        let root = tempfile::tempdir().unwrap();
        let groups = ControlGroups::below(root.path());
        let memory = groups.own.join("memory");
        fs::create_dir_all(&memory).unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(memory.join("memory.usage_in_bytes"), "8192\n").unwrap();
        let read = || Host::open(root.path(), root.path(), &groups, None, 4).read();
        assert_eq!(read(), HostCounters::default(), "the root of a whole machine");
        fs::write(memory.join("memory.limit_in_bytes"), "1048576\n").unwrap();
        assert_eq!((read().cgroup_limit_kib, read().cgroup_used_kib), (Some(1024), Some(8)));
        let charged = "rss 1\ncache 1\ntotal_cache 3072\ntotal_rss 4096\ntotal_shmem 2048\n";
        fs::write(memory.join("memory.stat"), charged).unwrap();
        fs::write(memory.join("memory.max_usage_in_bytes"), "9216\n").unwrap();
        let host = read();
        let parts = [host.cgroup_anon_kib, host.cgroup_file_kib, host.cgroup_shmem_kib, host.cgroup_peak_kib];
        assert_eq!(parts, [4, 3, 2, 9].map(Some));
    }

    #[test]
    fn memory_is_counted_by_version_1_where_the_provider_shows_it() {
        let root = tempfile::tempdir().unwrap();
        let groups = ControlGroups::below(root.path());
        let memory = groups.provided.join("memory");
        fs::create_dir_all(&memory).unwrap();
        fs::create_dir_all(&groups.own).unwrap();
        fs::write(groups.own.join("cgroup.events"), "populated 1\n").unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(memory.join("memory.usage_in_bytes"), "8192\n").unwrap();
        fs::write(memory.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
            .unwrap();
        let read = || Host::open(root.path(), root.path(), &groups, None, 4).read();
        let expected =
            HostCounters { cgroup_used_kib: Some(8), cgroup_oom_kills: Some(3), ..HostCounters::default() };
        assert_eq!(read(), expected);
        // Version 2 counts memory itself.
        fs::write(groups.own.join("memory.current"), "4096\n").unwrap();
        assert_eq!((read().cgroup_used_kib, read().cgroup_oom_kills), (Some(4), None));
    }

    #[test]
    fn kills_elsewhere_on_the_machine_are_not_recorded_in_a_part_of_it() {
        let proc = tempfile::tempdir().unwrap();
        fs::write(proc.path().join("vmstat"), "pgmajfault 4\noom_kill 6\n").unwrap();
        let groups = ControlGroups::below(proc.path());
        let read = || Host::open(proc.path(), proc.path(), &groups, None, 4).read();
        assert_eq!((read().oom_kills, read().major_faults), (Some(6), Some(4)));
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        fs::write(proc.path().join("self/ns/pid"), "").unwrap();
        assert_eq!((read().oom_kills, read().major_faults), (None, Some(4)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let mut host = HostCounters::default();
            let files = kernel::FILES.iter().chain(&cgroup::UNIFIED_FILES).chain(&cgroup::FILES);
            files.for_each(|(_, parse)| parse(&bytes, &mut host));
        }
    }
}
