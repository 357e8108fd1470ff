//! Process exits in hand-made samples.

use super::*;
use crate::record::selection::{Selection, parse_command};

const SECOND: u64 = 1_000_000_000;

fn exit(pid: u32, comm: &str, status: u32) -> Exit {
    Exit {
        identity: Identity { pid, started_ns: 0 },
        parent: 1,
        uid: 33,
        comm: comm.into(),
        at_ns: 100 * SECOND + SECOND / 2,
        lived_us: 0,
        user_us: 0,
        system_us: 0,
        peak_kib: 0,
        status,
        major_faults: 0,
        read_bytes: 0,
        written_bytes: 0,
    }
}

fn worker(pid: u32) -> Process {
    Process {
        uid: Some(33),
        user: Some("www-data".into()),
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        ..Process::bare(Identity { pid, started_ns: 0 })
    }
}

fn sample(second: u64, processes: Vec<Process>, exits: Vec<Exit>) -> Sample {
    Sample {
        wall_ms: second as i64 * 1_000,
        boottime_ns: second * SECOND,
        exits_lost: Some(0),
        processes,
        exits,
        ..Sample::default()
    }
}

fn ends(query: Query, only_failed: bool) -> Vec<Ended> {
    let mut exits = Exits::new(query, only_failed);
    assert_eq!(exits.push(&sample(100, vec![worker(7), worker(8)], vec![])), []);
    let zombie = Process { command: None, ..worker(8) };
    exits.push(&sample(100, vec![worker(7), zombie], vec![]));
    let group = ExitGroup { parent: 1, comm: "sh".into(), count: 90, failed: 0, cpu_us: 5, peak_kib: 900 };
    let last = Sample {
        exit_groups: vec![group],
        exits_lost: Some(4),
        ..sample(101, vec![], vec![exit(8, "apache2", 9), exit(7, "apache2", 0), exit(9, "cron", 256)])
    };
    let ended = exits.push(&last);
    assert!(exits.has_seen());
    ended
}

fn pids(ended: &[Ended]) -> Vec<u32> {
    let pid = |ended: &Ended| match ended {
        Ended::One(ended) => Some(ended.exit.identity.pid),
        _ => None,
    };
    ended.iter().filter_map(pid).collect()
}

#[test]
fn an_exit_has_the_command_line_from_the_record() {
    let ended = ends(Query::default(), false);
    let [Ended::One(one), _, Ended::One(unknown), Ended::Group(..), Ended::Lost(_, 4)] = ended.as_slice()
    else {
        panic!("{ended:?}");
    };
    assert_eq!(one.command.as_deref(), Some("/usr/sbin/apache2 -k start"), "also of a zombie");
    assert_eq!(one.at.as_millisecond(), 100_500);
    // A process that was in no sample gets its user's name from other processes.
    assert_eq!((&*unknown.user, &unknown.command), ("www-data", &None));
}

#[test]
fn failures_and_commands_can_be_selected() {
    assert_eq!(pids(&ends(Query::default(), true)), [8, 9]);
    let command = Some(parse_command("-k start").unwrap());
    let selection = Selection { command, ..Selection::default() };
    assert_eq!(pids(&ends(Query { selection, ..Query::default() }, false)), [8, 7]);
}

#[test]
fn an_exit_after_the_same_sample_saw_the_process_has_its_command_line() {
    let mut exits = Exits::new(Query::default(), false);
    exits.push(&sample(100, vec![], vec![]));
    let ended = exits.push(&sample(101, vec![worker(7)], vec![exit(7, "apache2", 0)]));
    let [Ended::One(one)] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!((&*one.user, one.command.as_deref()), ("www-data", Some("/usr/sbin/apache2 -k start")));
}

#[test]
fn samples_without_recorded_exits_are_noticed() {
    let mut exits = Exits::new(Query::default(), false);
    let can = Sample { sources: Sources::EXITS, ..sample(100, vec![], vec![exit(7, "sh", 0)]) };
    exits.push(&can);
    assert_eq!((exits.shown(), exits.has_gaps()), (1, false));
    exits.push(&sample(101, vec![], vec![]));
    assert!(exits.has_gaps());
}

#[test]
fn an_exit_is_in_the_window_in_which_it_happened() {
    // At 100.5 s; the sample of 101 s brings it.
    let within = |from_ms, until_ms| {
        let [from, until] = [from_ms, until_ms].map(|ms| Some(timestamp(ms)));
        let mut exits = Exits::new(Query { from, until, ..Query::default() }, false);
        exits.push(&sample(100, vec![worker(7)], vec![]));
        let group = ExitGroup { parent: 1, comm: "sh".into(), count: 9, failed: 0, cpu_us: 5, peak_kib: 900 };
        let last = Sample { exit_groups: vec![group], ..sample(101, vec![], vec![exit(7, "apache2", 9)]) };
        let ended = exits.push(&last);
        (pids(&ended), ended.len() - pids(&ended).len(), exits.has_seen())
    };
    assert_eq!(within(100_400, 101_000), (vec![7], 1, true));
    assert_eq!(within(100_400, 100_600), (vec![7], 1, true), "no sample is in the window");
    assert_eq!(within(100_600, 101_000), (vec![], 1, true), "a group may have ended then");
    assert_eq!(within(101_001, 102_000), (vec![], 0, false));
    assert_eq!(within(99_000, 99_999), (vec![], 0, false));
}
