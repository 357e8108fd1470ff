//! Each story is a host second by second. The right verdict of real incidents is tested in `tests/incidents`.

use record::{
    Disk, Exit, Filesystem, Group, GroupCounters, HostCounters, Identity, Process, Sample, Sources,
};

use super::{verdict::Alibi, *};

const MEMORY_KIB: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// A host with two CPUs that is idle, and then what happens to it each second.
fn told(seconds: u64, mut happens: impl FnMut(u64, &mut Sample)) -> Vec<Verdict> {
    let mut now = Sample {
        interval_ms: 1_000,
        sources: Sources::EXITS.with(Sources::KERNEL_LOG),
        host: HostCounters {
            cpus: Some(2),
            cpu_user_ns: Some(0),
            cpu_system_ns: Some(0),
            cpu_idle_ns: Some(0),
            cpu_steal_ns: Some(0),
            memory_total_kib: Some(MEMORY_KIB),
            memory_available_kib: Some(MEMORY_KIB),
            memory_free_kib: Some(MEMORY_KIB),
            shmem_kib: Some(0),
            oom_kills: Some(0),
            refault_file: Some(0),
            pressure_cpu_some_us: Some(0),
            pressure_memory_full_us: Some(0),
            pressure_io_some_us: Some(0),
            pressure_io_full_us: Some(0),
            tasks: Some(100),
            tasks_limit: Some(10_000),
            ..HostCounters::default()
        },
        ..Sample::default()
    };
    let samples: Vec<Sample> = (1..=seconds)
        .map(|second| {
            now.wall_ms = second as i64 * 1_000;
            now.boottime_ns = 100_000 * SECOND + second * SECOND;
            add(&mut now.host.cpu_idle_ns, 2 * SECOND);
            now.exits.clear();
            now.events.clear();
            happens(second, &mut now);
            now.processes.sort_by_key(|process| process.identity);
            let held: u64 = now.processes.iter().map(Process::footprint_kib).sum();
            let shared = now.host.shmem_kib.unwrap_or(0);
            now.host.memory_available_kib = Some(MEMORY_KIB.saturating_sub(held + shared));
            now.clone()
        })
        .collect();
    judged(&samples)
}

fn judged(samples: &[Sample]) -> Vec<Verdict> {
    let length_ms = samples[samples.len() - 1].wall_ms - samples[0].wall_ms;
    let mut survey = Survey::new(Query::default(), length_ms);
    samples.iter().for_each(|sample| survey.push(sample));
    let mut verdicts: Vec<Verdict> = Vec::new();
    for found in survey.found() {
        let mut around: Vec<Sample> = Vec::new();
        let (from_ms, until_ms) = found.window_ms();
        for sample in samples.iter().filter(|sample| (from_ms..=until_ms).contains(&sample.wall_ms)) {
            if found.wants(sample, around.last()) {
                around.push(sample.clone());
            }
        }
        verdicts.extend(survey.judge(&found, &around, &[]));
    }
    let trends = survey.trends(&verdicts, &[]);
    verdicts.into_iter().chain(trends).collect()
}

fn add(counter: &mut Option<u64>, more: u64) {
    *counter = Some(counter.unwrap_or(0) + more);
}

fn born(now: &mut Sample, pid: u32, comm: &str, unit: &str, kib: u64) {
    now.processes.push(Process {
        parent: 1,
        comm: comm.into(),
        command: Some(comm.into()),
        cgroup: Some(format!("/system.slice/{unit}").into()),
        threads: 1,
        anon_kib: Some(kib),
        resident_kib: kib,
        swap_kib: Some(0),
        read_bytes: Some(0),
        written_bytes: Some(0),
        ..Process::bare(Identity { pid, started_ns: now.boottime_ns - SECOND / 2 })
    });
}

fn process(now: &mut Sample, pid: u32) -> &mut Process {
    now.processes.iter_mut().find(|process| process.identity.pid == pid).expect("it was born")
}

fn grow(now: &mut Sample, pid: u32, kib: u64) {
    let process = process(now, pid);
    process.anon_kib = process.anon_kib.map(|held| held + kib);
    process.resident_kib += kib;
}

/// Uses this many thousandths of a CPU for a second.
fn work(now: &mut Sample, pid: u32, permille: u64) {
    process(now, pid).user_us += permille * 1_000;
    add(&mut now.host.cpu_user_ns, permille * 1_000_000);
    now.host.cpu_idle_ns = now.host.cpu_idle_ns.map(|idle| idle - permille * 1_000_000);
}

fn only(verdicts: Vec<Verdict>) -> Verdict {
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.into_iter().next().expect("one")
}

fn comm(who: &Who) -> &str {
    &who.comm
}

/// A database that holds much and does not change, and a neighbour that is always busy.
fn neighbours(second: u64, now: &mut Sample) {
    if second == 1 {
        born(now, 131, "mysqld", "mysql.service", 300_000);
        born(now, 140, "node", "steady.service", 20_000);
    }
    work(now, 140, 300);
}

#[test]
fn a_pool_that_outgrows_the_memory_is_named_with_its_arithmetic() {
    let verdict = only(told(120, |second, now| {
        neighbours(second, now);
        if (61..81).contains(&second) {
            born(now, 1_000 + second as u32, "apache2", "apache2.service", 35_000);
        }
        if (80..90).contains(&second) {
            add(&mut now.host.pressure_memory_full_us, 800_000);
        }
        if second == 82 {
            add(&mut now.host.oom_kills, 1);
            now.processes.retain(|process| process.identity.pid != 131);
        }
    }));
    let Cause::Pool { who, count, each_kib, fits, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((comm(who), *count, *each_kib), ("apache2", (0, 20), 35_000));
    assert_eq!(*fits, Some((MEMORY_KIB - 320_000) / 35_000));
    assert_eq!(
        (verdict.resource, verdict.confidence, verdict.stall.kills),
        (Resource::Memory, Confidence::High, 1)
    );
}

#[test]
fn one_process_that_grows_is_a_leak_and_the_biggest_is_innocent() {
    let verdict = only(told(200, |second, now| {
        neighbours(second, now);
        if second == 1 {
            (0..3).for_each(|index| born(now, 500 + index, "worker", "app.service", 30_000));
        }
        if second > 40 && second < 170 {
            grow(now, 501, 4_500);
        }
        if second > 160 && second < 172 {
            add(&mut now.host.pressure_memory_full_us, 400_000);
        }
    }));
    let Cause::Growth { actor, siblings, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((actor.pid, *siblings), (501, Some((2, 30_000))));
    assert_eq!(verdict.resource, Resource::Memory);
}

#[test]
fn files_in_memory_belong_to_the_unit_that_wrote_them() {
    let verdict = only(told(120, |second, now| {
        neighbours(second, now);
        if second > 70 && second < 100 {
            add(&mut now.host.shmem_kib, 20_000);
        }
        let shmem_kib = now.host.shmem_kib;
        let group = |path: &str, shmem_kib| Group {
            path: path.into(),
            counters: GroupCounters { read_ns: Some(now.boottime_ns), shmem_kib, ..GroupCounters::default() },
        };
        now.groups = vec![
            group("/system.slice", shmem_kib),
            group("/system.slice/mysql.service", Some(0)),
            group("/system.slice/upload.service", shmem_kib),
        ];
        now.filesystems = vec![Filesystem {
            mount: "/dev/shm".into(),
            total_bytes: 800_000 << 10,
            free_bytes: (800_000 - shmem_kib.unwrap_or(0)) << 10,
            in_memory: true,
            ..Filesystem::default()
        }];
        if second > 92 && second < 105 {
            add(&mut now.host.pressure_memory_full_us, 600_000);
        }
    }));
    let Cause::Shared { unit, mount, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((unit.as_deref(), mount.as_deref()), (Some("upload.service"), Some("/dev/shm")));
    assert!(verdict.innocents.iter().any(|innocent| comm(&innocent.who) == "mysqld"), "{verdict:#?}");
}

#[test]
fn a_units_own_limit_is_not_the_hosts() {
    let verdict = only(told(90, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 700, "java", "search.service", 50_000);
        }
        if second > 50 && second < 70 {
            grow(now, 700, 5_000);
        }
        let killed = u64::from(second >= 70);
        if second == 70 {
            add(&mut now.host.oom_kills, 1);
        }
        now.groups = vec![Group {
            path: "/system.slice/search.service".into(),
            counters: GroupCounters {
                read_ns: Some(now.boottime_ns),
                memory_kib: Some(process(now, 700).footprint_kib()),
                limit_kib: Some(150_000),
                oom_events: Some(killed),
                oom_kills: Some(killed),
                limit_events: Some(killed * 9),
                ..GroupCounters::default()
            },
        }];
    }));
    assert_eq!(verdict.scope.as_deref(), Some("/system.slice/search.service"));
    let Cause::Growth { actor, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((actor.pid, verdict.stall.kills), (700, 1));
}

#[test]
fn a_runaway_is_told_from_its_siblings_and_from_steady_neighbours() {
    let verdict = only(told(150, |second, now| {
        neighbours(second, now);
        if second == 1 {
            (0..4).for_each(|index| born(now, 800 + index, "worker", "app.service", 30_000));
        }
        (0..4).for_each(|index| work(now, 800 + index, 20));
        if second > 100 {
            work(now, 802, 900);
        }
    }));
    let Cause::Runaway { actor, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((actor.pid, verdict.goes_on), (802, true));
}

#[test]
fn a_storm_of_short_lived_processes_is_its_parents() {
    let verdict = only(told(120, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 900, "check.sh", "check.service", 3_000);
        }
        if second > 80 {
            let exit = |pid| Exit {
                identity: Identity { pid, started_ns: now.boottime_ns - 20_000_000 },
                parent: 900,
                uid: 0,
                comm: "grep".into(),
                at_ns: now.boottime_ns - 1_000_000,
                lived_us: 19_000,
                user_us: 15_000,
                system_us: 3_000,
                peak_kib: 2_000,
                status: 0,
                major_faults: 0,
                read_bytes: 0,
                written_bytes: 0,
            };
            now.exits = (0..80).map(|index| exit(10_000 + index)).collect();
            add(&mut now.host.cpu_user_ns, 1_600_000_000);
            now.host.cpu_idle_ns = now.host.cpu_idle_ns.map(|idle| idle - 1_600_000_000);
            add(&mut now.host.pressure_cpu_some_us, 700_000);
        }
    }));
    let Cause::Storm { parent, comm, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((parent.as_ref().map(|parent| parent.pid), &**comm), (Some(900), "grep"));
    let steady = |innocent: &verdict::Innocent| matches!(innocent.alibi, Alibi::Steady(_));
    assert!(
        verdict.innocents.iter().any(|innocent| steady(innocent) && *innocent.who.comm == *"node"),
        "{verdict:#?}"
    );
}

#[test]
fn a_busy_host_a_periodic_job_and_a_warm_up_are_no_incidents() {
    let verdicts = told(900, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 600, "render", "render.service", 50_000);
        }
        work(now, 600, 1_500);
        add(&mut now.host.pressure_cpu_some_us, 450_000);
        // Fills its caches in the first minutes.
        if second < 200 {
            grow(now, 600, 1_000);
        }
        if second % 120 == 0 {
            born(now, 2_000 + second as u32, "backup", "backup.service", 60_000);
        }
        if second % 120 < 15 && second > 120 {
            work(now, 2_000 + (second - second % 120) as u32, 150);
        }
        if second % 120 == 20 {
            now.processes.retain(|process| *process.comm != *"backup");
        }
    });
    assert_eq!(verdicts, []);
}

#[test]
fn who_writes_most_made_the_disk_busy() {
    let verdict = only(told(100, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 300, "dd", "import.service", 2_000);
            now.disks = vec![Disk { name: "vda".into(), ..Disk::default() }];
        }
        if second > 60 && second < 80 {
            let process = process(now, 300);
            process.written_bytes = process.written_bytes.map(|bytes| bytes + 90_000_000);
            add(&mut now.host.pressure_io_full_us, 500_000);
            add(&mut now.host.pressure_io_some_us, 900_000);
            now.disks[0].writes += 200;
            now.disks[0].queued_ms += 4_000;
        }
    }));
    let Cause::Transfer { actor, bytes, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert!(actor.pid == 300 && bytes.1 > 5e7, "{verdict:#?}");
}

#[test]
fn a_slow_device_is_nobodys_fault() {
    let verdict = only(told(100, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 300, "postgres", "postgresql.service", 90_000);
            now.disks = vec![Disk { name: "vda".into(), ..Disk::default() }];
        }
        let process = process(now, 300);
        process.written_bytes = process.written_bytes.map(|bytes| bytes + 2_000_000);
        let slow = second > 60 && second < 80;
        now.disks[0].writes += 100;
        now.disks[0].queued_ms += if slow { 9_000 } else { 100 };
        if slow {
            add(&mut now.host.pressure_io_some_us, 950_000);
        }
    }));
    assert!(matches!(&verdict.cause, Cause::SlowDevice { disk, .. } if **disk == *"vda"), "{verdict:#?}");
}

#[test]
fn who_wrote_most_filled_the_file_system() {
    let verdict = only(told(60, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 300, "logger", "logger.service", 2_000);
        }
        if second > 20 && second < 50 {
            let process = process(now, 300);
            process.written_bytes = process.written_bytes.map(|bytes| bytes + 30_000_000);
        }
        let written = process(now, 300).written_bytes.unwrap_or(0);
        now.filesystems = vec![Filesystem {
            mount: "/var/log".into(),
            total_bytes: 880_000_000,
            free_bytes: 880_000_000_u64.saturating_sub(written),
            ..Filesystem::default()
        }];
    }));
    let Cause::Full { mount, writer, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((&**mount, writer.as_ref().map(|(who, _)| comm(who))), ("/var/log", Some("logger")));
}

#[test]
fn a_unit_that_may_start_no_more_tasks_is_named() {
    let verdict = only(told(60, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 300, "forker", "app.service", 2_000);
        }
        process(now, 300).threads = if second > 30 { 64 } else { 4 };
        let threads = u64::from(process(now, 300).threads);
        let refused = if second > 31 { (second - 31) * 7 } else { 0 };
        now.groups = vec![Group {
            path: "/system.slice/app.service".into(),
            counters: GroupCounters {
                read_ns: Some(now.boottime_ns),
                tasks: Some(threads),
                tasks_limit: Some(64),
                tasks_refused: Some(refused),
                ..GroupCounters::default()
            },
        }];
    }));
    let Cause::Limit { used, who, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!(
        (*used, who.as_ref().map(|(who, count)| (comm(who), *count))),
        ((64, 64), Some(("forker", 64)))
    );
    assert_eq!(verdict.scope.as_deref(), Some("/system.slice/app.service"));
}

#[test]
fn stolen_time_is_not_a_process() {
    let verdict = only(told(90, |second, now| {
        neighbours(second, now);
        if second > 40 {
            add(&mut now.host.cpu_steal_ns, SECOND);
            now.host.cpu_idle_ns = now.host.cpu_idle_ns.map(|idle| idle - SECOND);
        }
    }));
    assert!(matches!(verdict.cause, Cause::Stolen { share } if (0.4..0.6).contains(&share)), "{verdict:#?}");
}

#[test]
fn a_slow_leak_is_told_before_memory_runs_out() {
    let verdict = only(told(3_600, |second, now| {
        neighbours(second, now);
        if second == 1 {
            born(now, 400, "gateway", "gateway.service", 40_000);
        }
        grow(now, 400, 60);
    }));
    let Cause::Growth { actor, .. } = &verdict.cause else { panic!("{verdict:#?}") };
    assert_eq!((actor.pid, verdict.resource, verdict.goes_on), (400, Resource::Nothing, true));
}

#[test]
fn an_incident_without_a_before_is_not_attributed() {
    let verdicts = told(60, |second, now| {
        if second == 1 {
            born(now, 300, "already", "app.service", 950_000);
        }
        add(&mut now.host.pressure_memory_full_us, 500_000);
    });
    let verdict = only(verdicts);
    assert!(matches!(verdict.cause, Cause::Unknown(_)), "{verdict:#?}");
}
