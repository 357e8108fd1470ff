//! A simulated day of a web host with 500 processes, the same in every run: kernel threads, daemons that wake now and then, a
//! pool of workers whose load follows the time of day, one process that leaks, and short jobs. The host's counters are the
//! sums over its processes.

use std::sync::Arc;

use record::{BootId, Collector, Disk, Exit, Filesystem, HostCounters, Identity, Process, Sample, Sources};

use crate::random::Random;

/// Midnight, 2026-07-13 UTC, ms since the Unix epoch.
pub(crate) const START_MS: i64 = 1_783_900_800_000;

/// Number of samples in a day.
pub(crate) const SECONDS: u64 = 86_400;

/// Number of processes of each kind; jobs are extra.
const STANDING: [(Kind, usize); 4] =
    [(Kind::Kernel, 85), (Kind::Daemon, 100), (Kind::Leaker, 1), (Kind::Worker, 312)];

/// The host was booted an hour before the day.
const BOOT_SECONDS: u64 = 3_600;

const SECOND_NS: u64 = 1_000_000_000;
const CPUS: u64 = 8;
const MEMORY_KIB: u64 = 32 << 20;
const CACHED_KIB: u64 = 5 << 20;

/// Kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kernel,
    Daemon,
    Leaker,
    Worker,
    Job,
}

/// State of a process that is not recorded.
#[derive(Clone, Debug)]
struct Actor {
    kind: Kind,
    /// Whether the process has work now.
    busy: bool,
    /// The second in which the process ends.
    until: u64,
    /// Peak memory.
    peak_kib: u64,
}

/// The host, second by second.
pub(crate) struct Day {
    random: Random,
    second: u64,
    next_pid: u32,
    /// Extra state of the sample's processes, in the same order.
    actors: Vec<Actor>,
    sample: Sample,
}

/// Sums over all processes for one second.
#[derive(Default)]
struct Work {
    user_us: u64,
    system_us: u64,
    wait_us: u64,
    busy: u64,
    blocked: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Day {
    /// The host before the start of the day.
    pub(crate) fn new() -> Self {
        let mut day =
            Self { random: Random(717), second: 0, next_pid: 1, actors: Vec::new(), sample: first_sample() };
        for (kind, count) in STANDING {
            (0..count).for_each(|_| day.start(kind));
        }
        day
    }

    /// The next sample.
    pub(crate) fn next(&mut self) -> &Sample {
        self.second += 1;
        self.sample.exits.clear();
        self.leave();
        if self.random.once_in(20) {
            self.start(Kind::Job);
        }
        if self.random.once_in(2) {
            self.pass_by();
        }
        let work = self.work();
        self.head();
        self.count(&work);
        &self.sample
    }

    /// Share of the full load, in thousandths: lowest at 03:00, highest at 15:00.
    fn load(&self) -> u64 {
        let minute = self.second / 60 % 1440;
        let from_peak = minute.abs_diff(900).min(1440 - minute.abs_diff(900));
        200 + 800 * (720 - from_peak) / 720
    }

    fn now_ns(&self) -> u64 {
        (BOOT_SECONDS + self.second) * SECOND_NS
    }

    fn start(&mut self, kind: Kind) {
        let pid = self.next_pid;
        self.next_pid += 1 + u32::from(self.second > 0) * self.random.within(0, 3) as u32;
        let started_ns =
            if self.second == 0 { u64::from(pid) * 10_000_000 } else { self.now_ns() - 500_000_000 };
        let mut process = Process::bare(Identity { pid, started_ns });
        describe(&mut process, kind, pid, &mut self.random);
        let until = match kind {
            Kind::Worker => self.second + self.random.within(600, 8 * 3_600),
            Kind::Job => self.second + self.random.within(2, 40),
            _ => u64::MAX,
        };
        self.actors.push(Actor { kind, busy: false, until, peak_kib: process.resident_kib });
        // Process ids only grow, so the order holds.
        self.sample.processes.push(process);
    }

    /// Ends processes whose time is over, and replaces workers.
    fn leave(&mut self) {
        for index in (0..self.actors.len()).rev() {
            if self.actors[index].until > self.second {
                continue;
            }
            let (actor, process) = (self.actors.remove(index), self.sample.processes.remove(index));
            let exit = self.exit(&process, actor.peak_kib);
            self.sample.exits.push(exit);
            if actor.kind == Kind::Worker {
                self.start(Kind::Worker);
            }
        }
    }

    fn exit(&mut self, process: &Process, peak_kib: u64) -> Exit {
        let at_ns = self.now_ns() - self.random.within(1_000, SECOND_NS);
        Exit {
            identity: process.identity,
            parent: process.parent,
            uid: process.uid.unwrap_or(0),
            comm: Arc::clone(&process.comm),
            at_ns,
            lived_us: at_ns.saturating_sub(process.identity.started_ns) / 1_000,
            user_us: process.user_us,
            system_us: process.system_us,
            peak_kib,
            status: u32::from(self.random.once_in(30)) << 8,
            major_faults: process.major_faults,
            read_bytes: process.read_bytes.unwrap_or(0),
            written_bytes: process.written_bytes.unwrap_or(0),
        }
    }

    /// A process that is too short-lived to appear in a sample.
    fn pass_by(&mut self) {
        let started_ns =
            (self.now_ns() - self.random.within(10_000_000, 900_000_000)) / 10_000_000 * 10_000_000;
        let mut process = Process::bare(Identity { pid: self.next_pid, started_ns });
        self.next_pid += 1;
        process.parent = 120;
        process.uid = Some(0);
        process.comm = Arc::from(["sh", "grep", "curl", "date"][self.random.next() as usize % 4]);
        (process.user_us, process.system_us) =
            (self.random.within(300, 9_000), self.random.within(300, 4_000));
        let peak_kib = self.random.within(1_500, 12_000);
        let exit = self.exit(&process, peak_kib);
        self.sample.exits.push(exit);
    }

    fn work(&mut self) -> Work {
        let load = self.load();
        let mut work = Work::default();
        for (actor, process) in self.actors.iter_mut().zip(&mut self.sample.processes) {
            let random = &mut self.random;
            actor.busy = match actor.kind {
                Kind::Kernel => random.once_in(30),
                Kind::Daemon => random.once_in(12),
                Kind::Leaker | Kind::Job => true,
                Kind::Worker if actor.busy => !random.once_in(4),
                Kind::Worker => random.once_in(16_000 / load),
            };
            process.state = b'S';
            if actor.busy {
                act(actor.kind, load, process, random, &mut work);
                actor.peak_kib = actor.peak_kib.max(process.resident_kib);
            }
        }
        work
    }

    fn head(&mut self) {
        let random = &mut self.random;
        let sample = &mut self.sample;
        let late_ns = random.within(60_000, 400_000);
        sample.late_ns = late_ns;
        sample.wall_ms = START_MS + self.second as i64 * 1_000 + (late_ns / 1_000_000) as i64;
        sample.boottime_ns = (BOOT_SECONDS + self.second) * SECOND_NS + late_ns;
        sample.sweep_ns = random.within(450_000, 900_000);
        sample.own_cpu_us += random.within(700, 1_300);
        sample.listed = sample.processes.len() as u64;
    }

    /// The host's counters after one more second.
    fn count(&mut self, work: &Work) {
        let iowait_us = work.blocked * 150_000;
        self.count_cpu(work, iowait_us);
        let host = &mut self.sample.host;
        add(&mut host.pressure_cpu_some_us, work.wait_us / 2);
        add(&mut host.pressure_io_some_us, iowait_us);
        add(&mut host.pressure_io_full_us, iowait_us / 3);
        add(&mut host.major_faults, u64::from(work.blocked > 0));
        add(&mut host.context_switches, 400 + work.busy * self.random.within(20, 120));
        add(&mut host.forks, self.sample.exits.len() as u64 + self.random.within(0, 3));
        host.running = Some(1 + work.busy / 8);
        host.blocked = Some(work.blocked);
        for (load, seconds) in [(&mut host.load_1, 60), (&mut host.load_5, 300), (&mut host.load_15, 900)] {
            let before = load.unwrap_or(0);
            *load = Some((before * (seconds - 1) + work.busy * 100 / 4) / seconds);
        }
        self.count_memory(work);
        self.count_disk(work);
    }

    fn count_cpu(&mut self, work: &Work, iowait_us: u64) {
        let host = &mut self.sample.host;
        let irq_us = (work.user_us + work.system_us) / 60;
        let idle_us =
            (CPUS * 1_000_000).saturating_sub(work.user_us + work.system_us + iowait_us + 2 * irq_us);
        add(&mut host.cpu_user_ns, work.user_us * 1_000);
        add(&mut host.cpu_system_ns, work.system_us * 1_000);
        add(&mut host.cpu_idle_ns, idle_us * 1_000);
        add(&mut host.cpu_iowait_ns, iowait_us * 1_000);
        add(&mut host.cpu_irq_ns, irq_us * 1_000);
        add(&mut host.cpu_softirq_ns, irq_us * 1_000);
        add(&mut host.cpu_steal_ns, self.random.within(0, 3) * 1_000_000);
    }

    fn count_memory(&mut self, work: &Work) {
        let Self { random, sample: Sample { host, processes, .. }, .. } = self;
        let anon_kib: u64 = processes.iter().filter_map(|process| process.anon_kib).sum();
        let (cached_kib, shmem_kib) = (CACHED_KIB + random.within(0, 4_096), 96 << 10);
        host.dirty_kib = Some(200 + work.written_bytes / 2_048);
        host.anon_kib = Some(anon_kib);
        host.shmem_kib = Some(shmem_kib);
        host.cached_kib = Some(cached_kib);
        host.memory_free_kib = Some(MEMORY_KIB.saturating_sub(anon_kib + cached_kib + shmem_kib));
        host.memory_available_kib = Some(MEMORY_KIB.saturating_sub(anon_kib + shmem_kib + (300 << 10)));
        host.committed_kib = Some(anon_kib * 3 / 2);
        host.tasks = Some(processes.iter().map(|process| u64::from(process.threads)).sum());
    }

    fn count_disk(&mut self, work: &Work) {
        let disk = &mut self.sample.disks[0];
        disk.reads += work.read_bytes / 16_384;
        disk.read_bytes += work.read_bytes;
        disk.writes += work.written_bytes / 8_192;
        disk.written_bytes += work.written_bytes;
        disk.busy_ms += (work.written_bytes / 65_536).min(900);
        disk.queued_ms += work.written_bytes / 40_000;
        self.sample.filesystems[0].free_bytes -= work.written_bytes / 64;
    }
}

/// Advances a counter.
fn add(counter: &mut Option<u64>, more: u64) {
    *counter = Some(counter.unwrap_or(0) + more);
}

/// Values that are the same in all samples.
fn first_sample() -> Sample {
    Sample {
        boot_id: BootId([7; 16]),
        interval_ms: 1_000,
        collector: Collector::Bpf,
        sources: Sources::ALL.into_iter().fold(Sources::default(), |all, (source, _)| all.with(source)),
        exits_lost: Some(0),
        host: HostCounters {
            cpus: Some(CPUS),
            memory_total_kib: Some(MEMORY_KIB),
            swap_total_kib: Some(2 << 20),
            swap_free_kib: Some(2 << 20),
            pids_limit: Some(4_194_304),
            ..HostCounters::default()
        },
        disks: vec![Disk { name: "nvme0n1".into(), ..Disk::default() }],
        filesystems: vec![Filesystem {
            mount: "/".into(),
            total_bytes: 200 << 30,
            free_bytes: 120 << 30,
            files: 13_107_200,
            free_files: 12_500_000,
            in_memory: false,
        }],
        ..Sample::default()
    }
}

/// Sets the name and initial memory of a new process.
fn describe(process: &mut Process, kind: Kind, pid: u32, random: &mut Random) {
    let (uid, user, comm, command, cgroup, anon_kib) = match kind {
        Kind::Kernel => (0, "root", format!("kworker/{}:{}", pid % 8, pid / 8), None, "/".to_owned(), None),
        Kind::Daemon => {
            let name = format!("daemon{pid}");
            let command = format!("/usr/sbin/{name} --config /etc/{name}.conf");
            let cgroup = format!("/system.slice/{name}.service");
            (pid % 7 * 100, "daemon", name, Some(command), cgroup, Some(random.within(800, 30_000)))
        }
        Kind::Leaker => {
            let command = "/usr/bin/java -Xmx8g -jar /srv/search/search.jar --port 8983".to_owned();
            (
                990,
                "search",
                "java".to_owned(),
                Some(command),
                "/system.slice/search.service".to_owned(),
                Some(600_000),
            )
        }
        Kind::Worker => {
            let command = format!("/usr/sbin/apache2 -k start -D pool{}", pid % 4);
            let anon_kib = Some(random.within(18_000, 40_000));
            (
                33,
                "www-data",
                "apache2".to_owned(),
                Some(command),
                "/system.slice/apache2.service".to_owned(),
                anon_kib,
            )
        }
        Kind::Job => {
            let command =
                format!("/usr/bin/python3 /srv/jobs/report.py --customer {}", random.within(1, 5_000));
            (
                1000,
                "jobs",
                "python3".to_owned(),
                Some(command),
                "/system.slice/cron.service".to_owned(),
                Some(15_000),
            )
        }
    };
    process.parent = if kind == Kind::Kernel { 2 } else { 1 };
    process.uid = Some(uid);
    process.user = Some(user.into());
    process.comm = comm.as_str().into();
    process.command = command.map(|command| command.as_str().into());
    process.cgroup = Some(cgroup.as_str().into());
    process.threads = if kind == Kind::Leaker { 64 } else { 1 };
    process.wait_us = Some(0);
    process.swap_kib = anon_kib.map(|_| 0);
    process.anon_kib = anon_kib;
    process.file_kib = anon_kib.map(|_| random.within(3_000, 12_000));
    process.shmem_kib = anon_kib.map(|_| 0);
    process.read_bytes = Some(0);
    process.written_bytes = Some(0);
    process.virtual_kib = anon_kib.map_or(0, |anon_kib| anon_kib * 2 + 60_000);
    process.resident_kib = anon_kib.unwrap_or(0) + process.file_kib.unwrap_or(0);
}

/// Advances a process with work by one second.
fn act(kind: Kind, load: u64, process: &mut Process, random: &mut Random, work: &mut Work) {
    let cpu_us = match kind {
        Kind::Kernel => random.within(10, 600),
        Kind::Daemon => random.within(60, 3_000),
        Kind::Leaker => random.within(20_000, 300_000),
        Kind::Worker => random.within(2_000, 120_000),
        Kind::Job => random.within(300_000, 980_000),
    };
    let system_us = if kind == Kind::Kernel { cpu_us } else { cpu_us * random.within(10, 30) / 100 };
    let wait_us = cpu_us * load / 20_000;
    process.user_us += cpu_us - system_us;
    process.system_us += system_us;
    process.wait_us = process.wait_us.map(|before| before + wait_us);
    work.busy += 1;
    work.user_us += cpu_us - system_us;
    work.system_us += system_us;
    work.wait_us += wait_us;
    process.state = if random.once_in(5) { b'R' } else { b'S' };
    if let Some(anon_kib) = &mut process.anon_kib {
        match kind {
            Kind::Leaker => *anon_kib += random.within(0, 26) * 4,
            Kind::Worker | Kind::Job => *anon_kib = (*anon_kib + random.within(0, 41) * 4).saturating_sub(60),
            _ if random.once_in(20) => *anon_kib += 4,
            _ => {}
        }
        process.resident_kib = *anon_kib + process.file_kib.unwrap_or(0);
        process.virtual_kib = process.virtual_kib.max(*anon_kib * 2);
    }
    if kind == Kind::Job || random.once_in(3) {
        let (read, written) = (random.within(0, 8) / 6 * 16_384, random.within(0, 24) * 4_096);
        process.read_bytes = process.read_bytes.map(|before| before + read);
        process.written_bytes = process.written_bytes.map(|before| before + written);
        work.read_bytes += read;
        work.written_bytes += written;
        if read > 0 && random.once_in(4) {
            process.state = b'D';
            work.blocked += 1;
        }
    }
}
