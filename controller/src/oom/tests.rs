//! Kills in samples made by hand.

use std::sync::Arc;

use proto::history::{Event, HostCounters, Identity};

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
fn a_kill_that_the_kernel_told_of_keeps_victim_trigger_and_holder_apart() {
    let mut kills = Kills::new(Query::default());
    let before = sample(100, 0, vec![process(2_002, "apache2", 99_000)]);
    assert_eq!(kills.push(&before), []);
    let event = Event { at_ns: 100_500_000_000, kind: EventKind::Kernel, text: LOG.into() };
    let note = Event { at_ns: 100_500_000_000, kind: EventKind::Note, text: LOG.into() };
    let now =
        Sample { events: vec![event, note], sources: Sources::KERNEL_LOG, ..sample(101, 1, Vec::new()) };
    let reports = kills.push(&now);
    let [Report { at, kind: Kind::Told { kill, victims }, biggest, by_name, memory_kib }] =
        reports.as_slice()
    else {
        panic!("{reports:?}");
    };
    assert_eq!(at.as_millisecond(), 100_500);
    assert_eq!(kill.trigger.as_ref().map(|trigger| trigger.comm.as_str()), Some("mysqld"));
    assert_eq!((victims[0].pid, victims[0].command.as_deref()), (2_002, Some("/usr/sbin/apache2")));
    assert_eq!(
        biggest.as_ref().map(|biggest| (biggest.pid, biggest.footprint_kib)),
        Some((1_200, Some(200_000)))
    );
    // Many small ones together held more than the biggest.
    let held = Holder { comm: Arc::from("apache2"), processes: 3, footprint_kib: 73_000 * 4 };
    assert_eq!(by_name.as_ref(), Some(&held));
    assert_eq!(*memory_kib, Some(627_712));
}

#[test]
fn without_a_log_a_kill_is_inferred_from_who_is_gone() {
    let mut kills = Kills::new(Query::default());
    let all =
        vec![process(7, "hog", 400_000), process(8, "apache2", 250_000), process(9, "apache2", 240_000)];
    let mut left = all.clone();
    let gone = left.remove(0);
    kills.push(&sample(100, 4, all));
    assert_eq!(kills.push(&sample(101, 5, left.clone())), [], "others may end yet");
    assert_eq!(kills.push(&sample(104, 5, left.clone())), []);
    let reports = kills.push(&sample(105, 5, Vec::new()));
    let [Report { kind: Kind::Inferred { kills: 1, candidates }, biggest, by_name, .. }] = reports.as_slice()
    else {
        panic!("{reports:?}");
    };
    assert_eq!(candidates.iter().map(|named| named.pid).collect::<Vec<_>>(), [gone.identity.pid]);
    assert_eq!(biggest.as_ref().map(|biggest| biggest.pid), Some(7));
    assert_eq!(by_name.as_ref().map(|holder| holder.processes), Some(2));
    assert_eq!(kills.finish(), [], "told once");
}
