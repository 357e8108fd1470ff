use jiff::tz::TimeZone;

use super::{verdict as render, *};
use crate::{
    record::diagnose::verdict::{Actor, Alibi, Cause, Innocent, Resource, Stall, Who, Why},
    record::source::KnownRun,
    render::{Format, tests::pages},
};

fn subject() -> Subject {
    Subject {
        name: "web-1".into(),
        argument: "web-1".into(),
        range_ms: (1_310_515_200_000, 1_310_518_800_000),
    }
}

fn who(comm: &str) -> Who {
    Who { comm: comm.into(), unit: Some(format!("{comm}.service").into()) }
}

/// The outage of 2011.
fn outage() -> Verdict {
    Verdict {
        resource: Resource::Memory,
        scope: None,
        from_ms: 1_310_515_888_000,
        until_ms: 1_310_515_942_000,
        goes_on: false,
        cause: Cause::Pool {
            who: who("apache2"),
            count: (25, 150),
            held_kib: (875 << 10, 5_250 << 10),
            each_kib: 35 << 10,
            fits: Some(10),
        },
        confidence: Confidence::High,
        stall: Stall {
            kills: 2,
            memory_full_s: 40.8,
            busy: Some((0.99, 0.83)),
            memory_kib: Some((608 << 10, 613 << 10)),
            swap_kib: Some((4_600 << 10, 4_608 << 10)),
            late_ms: 2_300,
            waited_in: vec![("swap_readpage".into(), 310), ("balance_pgdat\u{1b}[2J".into(), 12)],
            ..Stall::default()
        },
        victims: vec![(who("mysqld"), Some(131)), (who("apache2"), Some(26_096))],
        innocents: vec![
            Innocent { who: who("mysqld"), pid: Some(131), alibi: Alibi::Killed(Some(36 << 10)) },
            Innocent { who: Who { comm: "cron".into(), unit: None }, pid: Some(118), alibi: Alibi::Asked },
            Innocent {
                who: Who { comm: "kswapd0".into(), unit: None },
                pid: None,
                alibi: Alibi::Kernel(0.6),
            },
        ],
        symptoms: vec![Resource::Cpu, Resource::Io],
        run: Some(KnownRun {
            run_id: "web-1-f8aqn7".into(),
            what: "apply".into(),
            user: "ada".into(),
            state: Some("changed".into()),
            started_unix_ms: 1_310_515_860_000,
            finished_unix_ms: 1_310_515_876_000,
        }),
        unknown: vec![Unknown::Exits, Unknown::Gap(4)],
    }
}

fn shown(verdict: &Verdict) -> String {
    let (output, data, _) = pages(Format::Text);
    render(&output, &subject(), verdict, &TimeZone::UTC).unwrap();
    data.text()
}

#[test]
fn the_sentence_comes_first_and_every_fact_has_a_line() {
    insta::assert_snapshot!(shown(&outage()), @r"
    web-1  2011-07-13 00:11:28  memory ran out, for 54.0 s: 25 → 150 × apache2 hold 5.1 GiB (there is 613 MiB of memory and 4.5 GiB of swap), usually 35 MiB each
      evidence         2 processes killed because memory ran out; memory 608 MiB of 613 MiB; swap 4.5 GiB of 4.5 GiB
                       40.8 s all tasks waited for memory
                       CPU 99 % busy, 83 % in the kernel
                       tasks waited in swap_readpage (310 ×), balance_pgdat\x1b[2J (12 ×)
                       samples came up to 2.3 s late
      killed           mysqld (131), apache2 (26096)
      not the cause    mysqld (131) was killed, but held 36 MiB all the time
                       cron (118) only asked for the last page
                       kswapd0 uses 60 % of a CPU, but works for others
      follows from it  busy CPUs: the kernel looks for memory
                       busy disks: memory is written to swap and read again
      run              apply web-1-f8aqn7 by ada, started 2011-07-13 00:11:00, ended 12.0 s before
      what to do       limit the number of apache2 processes: at most 10 fit beside everything else, at 35 MiB each
      confidence       high
      not known        short-lived processes: this host does not record process exits
                       what happened in a gap of 4 s without a sample
      see also         ctl oom web-1 --since '2011-07-13 00:11:18' --until '2011-07-13 00:12:27'
                       ctl cpu-log web-1 --since '2011-07-13 00:11:18' --until '2011-07-13 00:12:27' --sort footprint
    ");
}

/// Causes of a lack of memory or CPU time.
fn memory_and_cpu(actor: &Actor, app: &Who) -> Vec<(Resource, Option<&'static str>, Cause)> {
    vec![
        (
            Resource::Memory,
            None,
            Cause::Growth {
                actor: actor.clone(),
                held_kib: (30 << 10, 410 << 10),
                over_s: 95.0,
                siblings: Some((3, 30 << 10)),
            },
        ),
        (
            Resource::Memory,
            Some("/system.slice/app.service"),
            Cause::Growth {
                actor: actor.clone(),
                held_kib: (30 << 10, 410 << 10),
                over_s: 95.0,
                siblings: None,
            },
        ),
        (
            Resource::Memory,
            None,
            Cause::Shared {
                unit: Some("upload.service".into()),
                mount: Some("/dev/shm".into()),
                held_kib: (0, 248 << 10),
            },
        ),
        (Resource::Memory, None, Cause::Shared { unit: None, mount: None, held_kib: (0, 248 << 10) }),
        (Resource::Memory, None, Cause::Spike { comm: "convert".into(), pid: 9, peak_kib: 480 << 10 }),
        (
            Resource::Memory,
            None,
            Cause::Thrash { reader: Some(actor.clone()), read_bytes: 9e7, refaults: 21_000.0 },
        ),
        (
            Resource::Cpu,
            None,
            Cause::Runaway { actor: actor.clone(), cpus: (0.02, 0.97), siblings: Some((3, 0.02)) },
        ),
        (
            Resource::Cpu,
            None,
            Cause::Storm { parent: Some(actor.clone()), comm: "grep".into(), rate: 80.0, cpus: 1.4 },
        ),
        (Resource::Cpu, None, Cause::Many { who: app.clone(), count: (4, 12), cpus: (0.4, 1.7) }),
        (
            Resource::Cpu,
            Some("/system.slice/app.service"),
            Cause::Throttled { cpus: Some(0.5), share: 0.62, who: Some(app.clone()) },
        ),
    ]
}

/// All others.
fn the_rest(actor: &Actor, app: &Who) -> Vec<(Resource, Option<&'static str>, Cause)> {
    vec![
        (Resource::Steal, None, Cause::Stolen { share: 0.97 }),
        (
            Resource::Io,
            None,
            Cause::Transfer { actor: actor.clone(), bytes: (0.0, 9e7), before: 1e5, share: 0.94 },
        ),
        (Resource::Io, None, Cause::SlowDevice { disk: "vda".into(), request_ms: (1.2, 94.0) }),
        (
            Resource::Disk,
            Some("/var/log"),
            Cause::Full {
                mount: "/var/log".into(),
                free_bytes: (900 << 20, 0),
                writer: Some((app.clone(), 880 << 20)),
            },
        ),
        (
            Resource::Tasks,
            Some("/system.slice/app.service"),
            Cause::Limit { used: (64, 64), refused: Some(210), who: Some((app.clone(), 64)) },
        ),
        (Resource::Memory, None, Cause::Unknown(Why::NoBefore)),
        (
            Resource::Nothing,
            None,
            Cause::Growth {
                actor: actor.clone(),
                held_kib: (30 << 10, 410 << 10),
                over_s: 3_600.0,
                siblings: None,
            },
        ),
    ]
}

#[test]
fn every_cause_is_a_sentence_and_a_class() {
    let actor = Actor { pid: 7, who: who("worker"), command: Some("worker --id 7".into()) };
    let app = Who { comm: "worker".into(), unit: Some("app.service".into()) };
    let causes = memory_and_cpu(&actor, &app).into_iter().chain(the_rest(&actor, &app));
    let lines = causes.map(|(resource, scope, cause)| {
        let verdict = Verdict { resource, scope: scope.map(Into::into), cause, ..outage() };
        format!("{}: {}", json::class(&verdict), words::headline(&verdict))
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    memory-growth: memory ran out, for 54.0 s: worker (7) grew from 30 MiB to 410 MiB within 1 min 35 s (3 others like it hold 30 MiB each)
    memory-unit-limit: memory ran out within the limit of app.service, for 54.0 s: worker (7) grew from 30 MiB to 410 MiB within 1 min 35 s
    memory-shared: memory ran out, for 54.0 s: shared memory and files in memory in /dev/shm grew from 0 B to 248 MiB, written by upload.service
    memory-shared: memory ran out, for 54.0 s: shared memory and files in memory grew from 0 B to 248 MiB; who wrote it is not known
    memory-spike: memory ran out, for 54.0 s: convert (9) took 480 MiB at most and is gone
    memory-thrash: memory ran out, for 54.0 s: no process grew, but the memory left for files is too small: 21000 file pages a second are read again; worker (7) reads most, 86 MiB/s
    cpu-runaway: CPU time ran out, for 54.0 s: worker (7) uses 97 % of a CPU, 2 % of a CPU before (3 others like it use 2 % of a CPU each)
    cpu-storm: CPU time ran out, for 54.0 s: worker (7) starts 80 × grep a second, which use 1.4 CPUs
    cpu-many: CPU time ran out, for 54.0 s: 4 → 12 × worker in app.service use 1.7 CPUs, 40 % of a CPU before
    cpu-unit-limit: app.service was stopped at its CPU limit, for 54.0 s: its limit of 50 % of a CPU is too small for its work: it stood still for 62 % of the time; worker uses most in it
    cpu-stolen: the hypervisor gave CPU time to other guests, for 54.0 s: 97 % of the CPU time, so the cause is outside of this host
    io-writer: a disk was too slow for its load, for 54.0 s: worker (7) writes 86 MiB/s, 94 % of all (98 KiB/s before)
    io-device: a disk was too slow for its load, for 54.0 s: no more data than before, but vda takes 94 ms for a request (1.2 ms before)
    disk-full: /var/log was full, for 54.0 s: worker in app.service wrote 880 MiB (900 MiB free before, 0 B now)
    tasks-limit: app.service reached its limit of tasks, for 54.0 s: 64 of 64 in use, 210 attempts failed; worker in app.service has 64 of them
    not-attributed: memory ran out, for 54.0 s: not attributed: it was already so when the record begins
    memory-leak: worker (7) grew from 30 MiB to 410 MiB within 1 h 0 min
    ");
}

#[test]
fn programs_get_one_object_with_the_same_figures() {
    let (output, data, _) = pages(Format::Json);
    render(&output, &subject(), &outage(), &TimeZone::UTC).unwrap();
    let object: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
    assert_eq!(object["class"], "memory-pool");
    assert_eq!(object["cause"]["processes"]["name"], "apache2");
    assert_eq!(object["cause"]["fits"], 10);
    assert_eq!(object["evidence"]["memory"]["limit_bytes"], 613_u64 << 20);
    assert_eq!(object["innocents"][0]["alibi"]["kind"], "killed");
    assert_eq!(object["unknown"][1]["gap_s"], 4);
}

#[test]
fn nothing_wrong_says_what_was_looked_at() {
    let (output, data, _) = pages(Format::Text);
    healthy(&output, &subject(), &[Unknown::KernelLog], &TimeZone::UTC).unwrap();
    assert_eq!(
        data.text(),
        "web-1  nothing ran out between 2011-07-13 00:00:00 and 2011-07-13 01:00:00\n  \
         not known        what the kernel says about kills: its log is not recorded\n"
    );
}
