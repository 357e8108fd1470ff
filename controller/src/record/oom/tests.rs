//! Out-of-memory kills in hand-made samples.

use std::sync::Arc;

use record::{Event, Exit, HostCounters, Identity, Process};

use super::*;

const LOG: &str = "\
mysqld invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
CPU: 0 PID: 1200 Comm: mysqld Not tainted 6.1.0-13-cloud-amd64 #1  Debian 6.1.55-1
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    300]     0   300     4000      100    65536       10             0 sshd
[   1200]   106  1200   500000    30000   900000    20000             0 mysqld
[   2001]    33  2001    40000     9000   120000    15000             0 apache2
[   2002]    33  2002    40000     9000   120000    16000             0 apache2
[   2003]    33  2003    40000     9000   120000    15000             0 apache2
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/apache2.service,task=apache2,pid=2002,uid=33
Out of memory: Killed process 2002 (apache2) total-vm:160000kB, anon-rss:36000kB, file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:117kB oom_score_adj:0";

fn process(pid: u32, comm: &str, anon_kib: u64) -> Process {
    Process {
        user: Some("www-data".into()),
        comm: comm.into(),
        command: Some(format!("/usr/sbin/{comm}").into()),
        state: b'S',
        anon_kib: Some(anon_kib),
        ..Process::bare(Identity { pid, started_ns: 0 })
    }
}

fn sample(second: u64, kills: u64, processes: Vec<Process>) -> Sample {
    let host = HostCounters {
        memory_total_kib: Some(627_712),
        cgroup_oom_kills: Some(kills),
        ..HostCounters::default()
    };
    Sample {
        wall_ms: second as i64 * 1_000,
        boottime_ns: second * 1_000_000_000,
        host,
        processes,
        ..Sample::default()
    }
}

#[test]
fn a_logged_kill_keeps_victim_trigger_and_biggest_apart() {
    let mut kills = Kills::new(Query::default());
    let before = sample(100, 0, vec![process(2_002, "apache2", 99_000)]);
    assert_eq!(kills.push(&before), []);
    let event = Event { at_ns: 100_500_000_000, kind: EventKind::Kernel, text: LOG.into() };
    let note = Event { at_ns: 100_500_000_000, kind: EventKind::Note, text: LOG.into() };
    let now =
        Sample { events: vec![event, note], sources: Sources::KERNEL_LOG, ..sample(101, 1, Vec::new()) };
    let reports = kills.push(&now);
    let [Report { at, kind: Kind::Told { kill, victims }, biggest, by_name, memory_kib, .. }] =
        reports.as_slice()
    else {
        panic!("{reports:?}");
    };
    assert_eq!(at.as_millisecond(), 100_500);
    assert_eq!(kill.trigger.as_ref().map(|trigger| trigger.comm.as_str()), Some("mysqld"));
    assert_eq!((victims[0].pid, victims[0].command.as_deref()), (2_002, Some("/usr/sbin/apache2")));
    assert_eq!(victims[0].held, Some(Held::told(36_000 + 64_000)), "resident and swapped out");
    let biggest = biggest.as_ref().map(|biggest| (biggest.pid, biggest.held));
    assert_eq!(biggest, Some((1_200, Some(Held::told(200_000)))));
    // Many small processes together held more than the biggest one.
    let held = Holder {
        comm: Arc::from("apache2"),
        processes: 3,
        held: Held::told(73_000 * 4),
        swap_kib: 46_000 * 4,
        counts_shared: true,
    };
    assert_eq!(by_name.as_ref(), Some(&held));
    assert_eq!(*memory_kib, Some(627_712));
}

/// The kernel's message about a kill without its table.
fn told_at(at_ns: u64) -> Event {
    let text =
        "mysqld invoked oom-killer: order=0\nOOM victim 7 (tail) is already exiting. Skip killing the task";
    Event { at_ns, kind: EventKind::Kernel, text: text.into() }
}

#[test]
fn a_size_from_before_the_kill_has_age_and_growth() {
    let mut kills = Kills::new(Query::default());
    let steady = || process(1, "mysqld", 90_000);
    let young = |kib| Process {
        identity: Identity { pid: 7, started_ns: 100_900_000_000 },
        ..process(7, "tail", kib)
    };
    kills.push(&sample(100, 0, vec![steady()]));
    kills.push(&sample(101, 0, vec![steady(), young(50_000)]));
    // The kernel's line may arrive one or two samples after the kill.
    kills.push(&sample(102, 1, vec![steady()]));
    let told = Sample { events: vec![told_at(101_800_000_000)], ..sample(103, 1, vec![steady()]) };
    let reports = kills.push(&Sample { sources: Sources::KERNEL_LOG, ..told });
    let [Report { kind: Kind::Told { victims, .. }, biggest, by_name, .. }] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    let seen = |kib, growth_kib| Held { kib, origin: Origin::Sample { age_ms: 800, growth_kib } };
    assert_eq!(victims[0].held, Some(seen(50_000, Some(500_000.0))), "started 0.1 s before the sample");
    assert_eq!(biggest.as_ref().and_then(|biggest| biggest.held), Some(seen(90_000, Some(0.0))));
    assert_eq!(by_name.as_ref().map(|holder| holder.held), Some(seen(90_000, Some(0.0))));
}

#[test]
fn a_process_and_its_name_grow_alike() {
    let by_name = |earlier: Vec<Process>, now: Vec<Process>| {
        let mut kills = Kills::new(Query::default());
        kills.push(&sample(100, 0, earlier));
        kills.push(&sample(101, 0, now));
        let told = Sample { events: vec![told_at(101_800_000_000)], ..sample(102, 1, Vec::new()) };
        let reports = kills.push(&told);
        let [Report { biggest: Some(biggest), by_name: Some(by_name), .. }] = reports.as_slice() else {
            panic!("{reports:?}");
        };
        let growth = |held: Option<Held>| match held {
            Some(Held { origin: Origin::Sample { growth_kib, .. }, .. }) => growth_kib,
            other => panic!("{other:?}"),
        };
        (growth(biggest.held), growth(Some(by_name.held)))
    };
    let started = |pid, ms: u64, kib| Process {
        identity: Identity { pid, started_ns: ms * 1_000_000 },
        ..process(pid, "tail", kib)
    };
    let young = || started(7, 100_500, 50_000);
    let per_second = Some(100_000.0);
    assert_eq!(by_name(vec![], vec![young()]), (per_second, per_second), "since it started");
    let before = started(6, 99_000, 70_000);
    assert_eq!(by_name(vec![before], vec![young()]), (per_second, per_second), "another one has ended");
    let second = started(8, 100_750, 25_000);
    let both = by_name(vec![], vec![young(), second]);
    assert_eq!(both, (per_second, Some(150_000.0)), "two, since the first one started");
    let [old, now] = [10_000, 50_000].map(|kib| started(7, 50_000, kib));
    assert_eq!(by_name(vec![old.clone()], vec![now.clone()]), (Some(40_000.0), Some(40_000.0)));
    let renamed = Process { comm: "sh".into(), ..old };
    assert_eq!(by_name(vec![renamed], vec![now]), (Some(40_000.0), Some(40_000.0)));
}

#[test]
fn a_sample_from_after_the_kill_gives_no_sizes() {
    let mut kills = Kills::new(Query::default());
    let told = Sample { events: vec![told_at(99_000_000_000)], ..sample(100, 1, vec![process(1, "sh", 5)]) };
    let reports = kills.push(&Sample { sources: Sources::KERNEL_LOG, ..told });
    let [Report { biggest: None, by_name: None, memory: None, .. }] = reports.as_slice() else {
        panic!("{reports:?}");
    };
}

#[test]
fn an_inferred_kill_has_the_peak_from_the_exit() {
    let mut kills = Kills::new(Query::default());
    kills.push(&sample(100, 0, vec![process(1, "sh", 5), process(7, "tail", 43_000)]));
    let exit = Exit {
        identity: Identity { pid: 7, started_ns: 0 },
        parent: 1,
        uid: 0,
        comm: "tail".into(),
        at_ns: 100_900_000_000,
        lived_us: 1,
        user_us: 0,
        system_us: 0,
        peak_kib: 600_000,
        status: 9,
        major_faults: 0,
        read_bytes: 0,
        written_bytes: 0,
    };
    kills.push(&Sample { exits: vec![exit], ..sample(101, 1, vec![process(1, "sh", 5)]) });
    let reports = kills.finish();
    let [Report { kind: Kind::Inferred { candidates, .. }, .. }] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert_eq!((candidates[0].pid, candidates[0].peak_kib), (7, Some(600_000)));
    let seen = Origin::Sample { age_ms: 1_000, growth_kib: None };
    assert_eq!(candidates[0].held, Some(Held { kib: 43_000, origin: seen }), "an upper bound of the age");
}

#[test]
fn memory_use_is_the_hosts_own() {
    let memory = |sources, host: HostCounters| {
        let mut kills = Kills::new(Query::default());
        let at = |second, kills| {
            let host = HostCounters { cgroup_oom_kills: Some(kills), ..host };
            Sample { sources, host, ..sample(second, kills, vec![process(1, "mysqld", 90_000)]) }
        };
        kills.push(&at(100, 0));
        kills.push(&at(101, 1));
        kills.finish()[0].memory.unwrap().parts
    };
    let machine = HostCounters {
        memory_total_kib: Some(24_000_000),
        anon_kib: Some(9_000_000),
        shmem_kib: Some(250_000),
        ..HostCounters::default()
    };
    assert_eq!(memory(Sources::default(), machine).shmem_kib, Some(250_000));
    // The machine's shared memory is not the container's.
    let held = oom::MemoryUse { anon_kib: Some(90_000), ..oom::MemoryUse::default() };
    assert_eq!(memory(Sources::PART_OF_MACHINE, machine), held);
    let group = HostCounters {
        cgroup_used_kib: Some(600_000),
        cgroup_anon_kib: Some(95_000),
        cgroup_shmem_kib: Some(450_000),
        cgroup_file_kib: Some(470_000),
        cgroup_kernel_kib: Some(30_000),
        ..machine
    };
    let own = memory(Sources::PART_OF_MACHINE, group);
    assert_eq!((own.shmem_kib, own.file_kib, own.other_kib()), (Some(450_000), Some(20_000), Some(5_000)));
}

#[test]
fn without_a_log_a_kill_is_inferred_from_missing_processes() {
    let mut kills = Kills::new(Query::default());
    let all =
        vec![process(7, "hog", 400_000), process(8, "apache2", 250_000), process(9, "apache2", 240_000)];
    let mut left = all.clone();
    let gone = left.remove(0);
    kills.push(&sample(100, 4, all));
    assert_eq!(kills.push(&sample(101, 5, left.clone())), [], "other processes may still exit");
    assert_eq!(kills.push(&sample(104, 5, left.clone())), []);
    let reports = kills.push(&sample(105, 5, Vec::new()));
    let [Report { at, kind, biggest, by_name, .. }] = reports.as_slice() else { panic!("{reports:?}") };
    let Kind::Inferred { kills: 1, earliest, candidates, unseen: 0 } = kind else { panic!("{kind:?}") };
    assert_eq!((earliest.as_second(), at.as_second()), (100, 101), "between two samples");
    assert_eq!(candidates.iter().map(|named| named.pid).collect::<Vec<_>>(), [gone.identity.pid]);
    assert_eq!(biggest.as_ref().map(|biggest| biggest.pid), Some(7));
    assert_eq!(by_name.as_ref().map(|holder| holder.processes), Some(2));
    assert_eq!(kills.finish(), [], "reported once");
}

/// The times of the kills in a window, in ms: one at 101.35 s, which the sample of 102 s shows.
fn within(from_ms: i64, until_ms: i64, source: Sources) -> Vec<i64> {
    let query =
        Query { from: Some(timestamp(from_ms)), until: Some(timestamp(until_ms)), ..Query::default() };
    let mut kills = Kills::new(query);
    let events = if source == Sources::KERNEL_LOG { vec![told_at(101_350_000_000)] } else { Vec::new() };
    let mut reports = Vec::new();
    for second in 100..104 {
        let events = if second == 102 { events.clone() } else { Vec::new() };
        let counted = sample(second, u64::from(second >= 102), vec![process(1, "mysqld", 90_000)]);
        reports.extend(kills.push(&Sample { events, sources: source, ..counted }));
    }
    reports.extend(kills.finish());
    reports.iter().map(|report| report.at.as_millisecond()).collect()
}

#[test]
fn a_kill_is_in_a_window_in_which_it_may_have_happened() {
    for (from_ms, until_ms, inferred, told) in [
        (101_000, 102_000, &[102_000][..], &[101_350][..]),
        // The sample that shows the kill was taken after the window.
        (101_000, 101_900, &[102_000], &[101_350]),
        (101_300, 101_400, &[102_000], &[101_350]),
        (101_400, 103_000, &[102_000], &[]),
        (102_001, 103_000, &[], &[]),
        (100_000, 101_000, &[], &[]),
    ] {
        let window = format!("{from_ms} to {until_ms}");
        assert_eq!(within(from_ms, until_ms, Sources::default()), inferred, "{window}, counted");
        assert_eq!(within(from_ms, until_ms, Sources::KERNEL_LOG), told, "{window}, told");
    }
}

#[test]
fn a_clock_that_was_set_back_hides_no_kill() {
    let query = Query { from: Some(timestamp(90_000)), until: Some(timestamp(91_500)), ..Query::default() };
    let mut kills = Kills::new(query);
    kills.push(&sample(100, 0, vec![process(1, "sh", 5)]));
    kills.push(&Sample { wall_ms: 91_000, ..sample(101, 1, Vec::new()) });
    let reports = kills.finish();
    let [Report { at, kind: Kind::Inferred { earliest, .. }, .. }] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert_eq!((earliest.as_second(), at.as_second()), (90, 91));
}
