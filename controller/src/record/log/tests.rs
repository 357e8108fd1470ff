//! The process log of hand-made samples.

use record::{BootId, Exit, HostCounters};

use jiff::Timestamp;
use record::{Identity, Process, Sample, Sources};

use super::*;
use crate::record::source::KnownRun;
use crate::record::{
    breaks::{Break, Why},
    marks::Marks,
    query::Query,
    selection::{Selection, Sort, parse_command},
    time::timestamp,
};

const SECOND: u64 = 1_000_000_000;

fn process(pid: u32, started_s: u64, cpu_ms: u64) -> Process {
    let identity = Identity { pid, started_ns: started_s * SECOND };
    Process { user_us: cpu_ms * 1_000, resident_kib: 1_000, ..Process::bare(identity) }
}

fn sample(second: u64, processes: Vec<Process>) -> Sample {
    Sample {
        wall_ms: 1_310_515_942_000 + second as i64 * 1_000,
        boottime_ns: second * SECOND,
        interval_ms: 1_000,
        host: HostCounters { memory_total_kib: Some(100_000), ..HostCounters::default() },
        processes,
        ..Sample::default()
    }
}

fn shares(entries: &[Entry]) -> Vec<(u32, Option<i64>)> {
    let share = |entry: &Entry| match entry {
        Entry::Process(entry) => {
            Some((entry.process.identity.pid, entry.rates.cpu_percent.map(|percent| percent.round() as i64)))
        }
        _ => None,
    };
    entries.iter().filter_map(share).collect()
}

#[test]
fn the_share_covers_the_interval() {
    let mut log = Log::new(Query::default(), Marks::default());
    assert_eq!(log.push(&sample(100, vec![process(1, 0, 90_000), process(2, 0, 0)])), []);
    let now = sample(101, vec![process(1, 0, 90_000), process(2, 0, 1_500)]);
    let entries = log.push(&now);
    assert_eq!(shares(&entries), [(2, Some(150)), (1, Some(0))]);
    let Entry::Process(first) = &entries[0] else { panic!("{entries:?}") };
    assert_eq!(first.memory_percent, Some(1.0));
    assert_eq!(first.started.as_second(), 1_310_515_942);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut log = Log::new(Query::default(), Marks::default());
    log.push(&sample(100, vec![process(7, 50, 60_000)]));
    let now = sample(101, vec![process(7, 100, 250)]);
    let entries = log.push(&now);
    assert_eq!(shares(&entries), [(7, Some(25))]);
}

#[test]
fn an_old_process_seen_for_the_first_time_has_no_share() {
    let mut log = Log::new(Query::default(), Marks::default());
    log.push(&sample(100, vec![]));
    assert_eq!(shares(&log.push(&sample(101, vec![process(7, 50, 60_000)]))), [(7, None)]);
}

#[test]
fn a_slow_sweep_does_not_distort_the_shares() {
    let mut log = Log::new(Query::default(), Marks::default());
    let mut slow = sample(100, vec![process(1, 0, 0), process(2, 0, 0)]);
    slow.sweep_ns = SECOND;
    log.push(&slow);
    // The second process was read at 100.5 s, so it was busy for half of the half second since then.
    let now = sample(101, vec![process(1, 0, 250), process(2, 0, 250)]);
    let entries = log.push(&now);
    assert_eq!(shares(&entries), [(2, Some(50)), (1, Some(25))]);
}

#[test]
fn a_gap_is_reported_and_the_shares_span_it() {
    let mut log = Log::new(Query::default(), Marks::default());
    log.push(&sample(100, vec![process(1, 0, 0)]));
    let now = sample(110, vec![process(1, 0, 5_000)]);
    let entries = log.push(&now);
    let [Entry::Break(Break::Gap { from, until, .. }), _] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(until.as_second() - from.as_second(), 10);
    assert_eq!(shares(&entries), [(1, Some(50))]);
}

#[test]
fn nothing_is_computed_across_a_restart() {
    let mut log = Log::new(Query::default(), Marks::default());
    log.push(&sample(100, vec![process(1, 0, 0)]));
    let rebooted = Sample { boot_id: BootId([1; 16]), ..sample(101, vec![process(1, 0, 9_000)]) };
    let entries = log.push(&rebooted);
    assert!(matches!(entries.as_slice(), [Entry::Break(Break::Restart { .. })]), "{entries:?}");
}

#[test]
fn window_order_and_count_are_respected() {
    let big = Process { swap_kib: Some(50_000), ..process(3, 0, 0) };
    let loud = Process { resident_kib: 2_000, anon_kib: Some(1), ..process(4, 0, 0) };
    let at = |second| {
        let mut written = process(5, 0, 0);
        written.written_bytes = Some(second * 4_096);
        let (one, two) = (process(1, 0, second * 10), process(2, 0, second * 20));
        sample(second, vec![one, two, big.clone(), loud.clone(), written])
    };
    let from = Timestamp::from_millisecond(at(102).wall_ms).unwrap();
    for (sort, expected) in
        [(Sort::Cpu, 2), (Sort::Footprint, 3), (Sort::Swap, 3), (Sort::Rss, 4), (Sort::Io, 5)]
    {
        let query = Query { from: Some(from), until: Some(from), sort, top: Some(1), ..Query::default() };
        let mut log = Log::new(query, Marks::default());
        let shown: Vec<_> = (100..105).flat_map(|second| shares(&log.push(&at(second)))).collect();
        assert_eq!(shown.iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [expected], "{sort:?}");
    }
}

#[test]
fn idle_processes_are_skipped_but_stuck_new_and_unknown_ones_are_not() {
    let mut log = Log::new(Query { busy_only: true, ..Query::default() }, Marks::default());
    let all = |second: u64| {
        let mut waiting = process(4, 0, 0);
        waiting.wait_us = Some(second * 600_000);
        let mut writing = process(5, 0, 0);
        writing.written_bytes = Some(second * 4_096);
        let stuck = Process { state: b'D', ..process(6, 0, 0) };
        // 0.4 ms of CPU in a second is shown as 0.0 %.
        let mut hardly = process(2, 0, 0);
        hardly.user_us = second * 400;
        vec![process(1, 0, 0), hardly, process(3, 0, second * 10), waiting, writing, stuck]
    };
    log.push(&sample(100, all(100)));
    let mut now = all(101);
    now.extend([process(7, 101, 0), process(8, 50, 60_000)]);
    let mut pids: Vec<_> = shares(&log.push(&sample(101, now))).iter().map(|(pid, _)| *pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [3, 4, 5, 6, 7, 8]);
    assert_eq!(log.shown(), 6);
}

#[test]
fn a_selection_that_matches_nothing_is_noticed() {
    let matched = |selection: Selection| {
        let mut log = Log::new(Query { selection, ..Query::default() }, Marks::default());
        log.push(&Sample { exits: vec![exit(9, "cc", 1)], ..sample(100, vec![process(7, 0, 0)]) });
        (log.has_matched(), log.missing_pids())
    };
    let pids = |pids: &[u32]| Selection { pids: pids.to_vec(), ..Selection::default() };
    assert_eq!(matched(Selection::default()), (true, vec![]));
    assert_eq!(matched(pids(&[7, 8, 9])), (true, vec![8]), "a process that only exited is found too");
    assert_eq!(matched(pids(&[999_999])), (false, vec![999_999]));
    let user = Some("nosuch".to_owned());
    let both = Selection { user, command: Some(parse_command("x y").unwrap()), ..pids(&[7]) };
    assert_eq!(both.as_typed(), "--pid 7 --user nosuch --command 'x y'");
    assert_eq!(matched(both), (false, vec![]));
}

fn shown(selection: Selection, processes: Vec<Process>) -> Vec<u32> {
    let mut log = Log::new(Query { selection, ..Query::default() }, Marks::default());
    log.push(&sample(100, processes.clone()));
    shares(&log.push(&sample(101, processes))).iter().map(|(pid, _)| *pid).collect()
}

#[test]
fn a_process_must_match_all_conditions() {
    let web = |pid, command: &str| Process {
        uid: Some(33),
        user: Some("www-data".into()),
        comm: "apache2".into(),
        command: Some(command.into()),
        cgroup: Some("/system.slice/apache2.service".into()),
        ..process(pid, 0, 0)
    };
    let all = || vec![process(1, 0, 0), web(7, "/usr/sbin/apache2 -k start"), web(8, "worker")];
    let selection = Selection::default;
    assert_eq!(shown(selection(), all()), [1, 7, 8]);
    assert_eq!(shown(Selection { pids: vec![8, 9], ..selection() }, all()), [8]);
    for user in ["www-data", "33"] {
        assert_eq!(shown(Selection { user: Some(user.into()), ..selection() }, all()), [7, 8]);
    }
    for unit in ["apache2", "apache2.service"] {
        assert_eq!(shown(Selection { unit: Some(unit.into()), ..selection() }, all()), [7, 8]);
    }
    let command = |regex| Some(parse_command(regex).unwrap());
    assert_eq!(shown(Selection { command: command("-k (re)?start"), ..selection() }, all()), [7]);
    // The name counts too.
    assert_eq!(shown(Selection { command: command("^apache2$"), ..selection() }, all()), [7, 8]);
    let both = Selection { pids: vec![1, 8], command: command("worker"), ..selection() };
    assert_eq!(shown(both, all()), [8]);
}

#[test]
fn an_invalid_expression_is_an_error_with_a_hint() {
    let error = parse_command("a(b").unwrap_err();
    assert_eq!(error.kind().exit_code(), 2);
    assert_eq!(error.to_string(), "--command \"a(b\" is not a regular expression: unclosed group");
    assert_eq!(error.hints().len(), 1);
}

fn breaks(before: Sample, after: Sample) -> Vec<Break> {
    let mut log = Log::new(Query::default(), Marks::default());
    log.push(&before);
    let only_breaks = |entry: Entry| match entry {
        Entry::Break(broken) => Some(broken),
        _ => None,
    };
    log.push(&after).into_iter().filter_map(only_breaks).collect()
}

#[test]
fn a_gap_has_a_cause_if_known() {
    let why = |sample: Sample| match breaks(
        Sample { own_start_ns: 5, dropped: 2, ..self::sample(100, vec![]) },
        sample,
    )
    .as_slice()
    {
        [Break::Gap { length_ms: 10_000, why, .. }] => *why,
        other => panic!("{other:?}"),
    };
    let after =
        |own_start_ns, dropped, late_ns| Sample { own_start_ns, dropped, late_ns, ..sample(110, vec![]) };
    assert_eq!(why(after(5, 2, 0)), None);
    assert_eq!(why(after(5, 11, 0)), Some(Why::Dropped(9)));
    assert_eq!(why(after(5, 2, 9 * SECOND)), Some(Why::Late(9_000)));
    assert_eq!(why(after(9, 0, 0)), Some(Why::Recorder));
}

#[test]
fn a_clock_step_is_reported_and_is_no_gap() {
    let stepped = |by_ms| Sample { wall_ms: sample(101, vec![]).wall_ms + by_ms, ..sample(101, vec![]) };
    for by_ms in [3_600_000, -3_600_000] {
        let breaks = breaks(sample(100, vec![]), stepped(by_ms));
        assert!(matches!(breaks.as_slice(), [Break::Step { by_ms: by, .. }] if *by == by_ms), "{breaks:?}");
    }
    assert_eq!(breaks(sample(100, vec![]), stepped(400)), []);
}

#[test]
fn following_continues_when_the_clock_is_set_back_before_the_window() {
    let [before, after] = [101, 102].map(|second| sample(second, vec![process(1, 0, second * 10)]));
    let set_back = Sample { wall_ms: after.wall_ms - 3_600_000, ..after };
    for (following, expected) in [(true, vec![(1, Some(1))]), (false, vec![])] {
        let query = Query { from: Some(timestamp(before.wall_ms)), ..Query::default() };
        let mut log = Log::new(query, Marks::default());
        if following {
            log.follow();
        }
        assert_eq!(log.push(&set_back), [], "the window has not started yet");
        log.push(&before);
        assert_eq!(shares(&log.push(&set_back)), expected, "following: {following}");
    }
}

fn exit(pid: u32, comm: &str, cpu_us: u64) -> Exit {
    Exit {
        identity: Identity { pid, started_ns: 0 },
        parent: 1,
        uid: 0,
        comm: comm.into(),
        at_ns: 100 * SECOND,
        lived_us: 0,
        user_us: cpu_us,
        system_us: 0,
        peak_kib: 0,
        status: 0,
        major_faults: 0,
        read_bytes: 0,
        written_bytes: 0,
    }
}

#[test]
fn of_many_exits_those_with_most_cpu_are_shown_and_the_others_counted() {
    let query = Query { top: Some(2), ..Query::default() };
    let mut log = Log::new(query, Marks::default());
    let exits = vec![exit(5, "sh", 1), exit(6, "cc", 900), exit(7, "ld", 30), exit(8, "sh", 2)];
    let ended = Sample { exits, ..sample(100, vec![]) };
    let entries = log.push(&ended);
    let pids: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Exit(_, exit) => Some(exit.identity.pid),
            _ => None,
        })
        .collect();
    assert_eq!(pids, [6, 7]);
    assert!(matches!(entries.last(), Some(Entry::MoreExits(_, 2))), "{entries:?}");
}

#[test]
fn runs_appear_where_they_started_and_ended() {
    let started_unix_ms = sample(100, vec![]).wall_ms + 500;
    let run = KnownRun {
        run_id: "db-1-x7k2m9".into(),
        what: "apply".into(),
        user: "ada".into(),
        state: Some("changed".into()),
        started_unix_ms,
        finished_unix_ms: started_unix_ms + 1_000,
    };
    let mut log = Log::new(Query::default(), Marks::of(&[run]));
    let states: Vec<Vec<_>> = (100..104)
        .map(|second| {
            let marks = |entry: &Entry| match entry {
                Entry::Run(mark) => Some(mark.state.clone()),
                _ => None,
            };
            log.push(&sample(second, vec![])).iter().filter_map(marks).collect()
        })
        .collect();
    assert_eq!(states, [vec![], vec![None], vec![Some("changed".to_owned())], vec![]]);
    assert_eq!(log.finish(), []);
}

fn track(tracks: &[Track], pid: u32) -> &Track {
    tracks.iter().find(|track| track.process.identity.pid == pid).unwrap()
}

#[test]
fn a_summary_has_peaks_means_and_exits() {
    let mut summary = Summary::new(Query { sort: Sort::Footprint, ..Query::default() });
    let steady = |second: u64| Process {
        resident_kib: 500,
        read_bytes: Some(1_000_000 + 10 * second),
        ..process(1, 0, 60_000 + 100 * (second - 100))
    };
    let hog = |cpu_ms, kib| Process { resident_kib: kib, ..process(7, 101, cpu_ms) };
    summary.push(&sample(100, vec![steady(100)]));
    summary.push(&sample(102, vec![steady(102), hog(500, 9_000)]));
    summary.push(&sample(103, vec![steady(103), hog(1_400, 70_000)]));
    let killed = Exit { status: 9, at_ns: 104 * SECOND, peak_kib: 80_000, ..exit(7, "hog", 1_500_000) };
    let unseen = exit(8, "sh", 1);
    let killed = Exit { identity: Identity { pid: 7, started_ns: 101 * SECOND }, ..killed };
    summary.push(&Sample { exits: vec![killed, unseen], ..sample(104, vec![steady(104)]) });
    assert!(summary.has_seen());
    assert_eq!(summary.unseen_exits(), 1);

    let tracks = summary.finish();
    assert_eq!(tracks[0].process.identity.pid, 7, "largest first");
    let hog = track(&tracks, 7);
    assert_eq!((hog.peak_footprint_kib, hog.peak_resident_kib, hog.status), (70_000, 80_000, Some(9)));
    assert_eq!(hog.peak_footprint_ms, sample(103, vec![]).wall_ms);
    assert_eq!(hog.cpu_us(), 1_500_000);
    // 1.5 s of CPU from its start at 101 to its end at 104.
    assert_eq!(hog.mean_cpu_percent().map(f64::round), Some(50.0));
    let steady = track(&tracks, 1);
    assert_eq!((steady.cpu_us(), steady.read_bytes(), steady.status), (400_000, Some(40), None));
    assert_eq!(steady.mean_cpu_percent().map(f64::round), Some(10.0));
    assert_eq!(steady.last_ms - steady.first_ms, 4_000);
}

#[test]
fn the_peak_of_a_summary_is_the_largest_share_of_the_log() {
    let young = |cpu_ms| {
        let identity = Identity { pid: 7, started_ns: 100 * SECOND + 850_000_000 };
        Process { identity, threads: 1, ..process(7, 0, cpu_ms) }
    };
    let old = |threads, cpu_ms| Process { threads, ..process(1, 50, cpu_ms) };
    let samples = [
        sample(100, vec![old(4, 0)]),
        sample(101, vec![old(4, 500), young(80)]),
        sample(102, vec![old(1, 600), young(90)]),
        // A little more than a second of one thread is a measuring error.
        sample(103, vec![old(1, 1_615), young(100)]),
    ];
    for (count, peaks) in [(2, [50.0, 8.0]), (3, [50.0, 8.0]), (4, [100.0, 8.0])] {
        let mut log = Log::new(Query::default(), Marks::default());
        let mut summary = Summary::new(Query::default());
        let mut largest = [0.0_f64; 2];
        for sample in &samples[..count] {
            summary.push(sample);
            for entry in log.push(sample) {
                let Entry::Process(entry) = entry else { continue };
                let place = usize::from(entry.process.identity.pid == 7);
                largest[place] = largest[place].max(entry.rates.cpu_percent.unwrap_or(0.0));
            }
        }
        let tracks = summary.finish();
        let found = [1, 7].map(|pid| track(&tracks, pid).peak_cpu_percent.unwrap());
        assert_eq!((found, largest), (peaks, peaks), "{count} samples");
    }
}

#[test]
fn a_peak_is_of_one_interval_and_a_mean_of_a_life() {
    let mut summary = Summary::new(Query::default());
    let identity = Identity { pid: 7, started_ns: 100 * SECOND + 850_000_000 };
    let young = Process { identity, threads: 1, ..process(7, 0, 80) };
    summary.push(&sample(100, vec![]));
    summary.push(&sample(101, vec![young]));
    let tracks = summary.finish();
    let [track] = tracks.as_slice() else { panic!("{tracks:?}") };
    assert_eq!(track.peak_cpu_percent.map(f64::round), Some(8.0), "80 ms of the second between two samples");
    assert_eq!(track.mean_cpu_percent().map(f64::round), Some(53.0), "80 ms of 150 ms");
}

#[test]
fn a_summary_counts_what_it_leaves_out() {
    for (top, expected) in [(None, (3, 0)), (Some(5), (3, 0)), (Some(2), (2, 1)), (Some(1), (1, 2))] {
        let mut summary = Summary::new(Query { top, ..Query::default() });
        summary.push(&sample(100, vec![process(1, 50, 0), process(2, 50, 0), process(3, 50, 0)]));
        summary.push(&sample(101, vec![process(1, 50, 10), process(2, 50, 20)]));
        let left_out = summary.left_out();
        assert_eq!((summary.finish().len(), left_out), expected, "{top:?}");
    }
}

#[test]
fn a_summary_keeps_processes_with_one_pid_apart() {
    let mut summary = Summary::new(Query::default());
    summary.push(&sample(100, vec![process(7, 50, 60_000)]));
    summary.push(&sample(101, vec![process(7, 100, 250)]));
    summary.push(&Sample { boot_id: BootId([1; 16]), ..sample(102, vec![process(7, 100, 250)]) });
    let tracks = summary.finish();
    assert_eq!(tracks.len(), 3);
    assert_eq!(tracks[0].cpu_us(), 250_000);
}

/// Process 7, a child of 5, writes 200 MiB and ends. Its parent waits for it a sample later. 9 has no children.
fn inheritance(sources: Sources) -> Vec<Sample> {
    let writes = |pid, parent, started_s, written: u64| Process {
        parent,
        read_bytes: Some(0),
        written_bytes: Some(written),
        ..process(pid, started_s, 0)
    };
    let at = |second: u64, waited: u64, written: u64| {
        let others = [writes(5, 1, 50, waited), writes(9, 1, 50, written)];
        Sample { sources, ..sample(second, others.to_vec()) }
    };
    let mut samples = vec![at(99, 0, 0), at(100, 0, 0), at(101, 0, 0), at(102, 200 << 20, 4_096)];
    samples[1].processes.insert(1, writes(7, 5, 99, 100 << 20));
    if sources.has(Sources::EXITS) {
        let identity = Identity { pid: 7, started_ns: 99 * SECOND };
        samples[2].exits = vec![Exit { identity, parent: 5, written_bytes: 200 << 20, ..exit(7, "dd", 0) }];
    }
    samples
}

/// What processes wrote per second.
fn written(entries: &[Entry]) -> Vec<(u32, Option<f64>)> {
    let rate = |entry: &Entry| match entry {
        Entry::Process(entry) => Some((entry.process.identity.pid, entry.rates.written_bytes)),
        _ => None,
    };
    entries.iter().filter_map(rate).collect()
}

/// Queries that must not differ in what they say about processes 5 and 9.
fn queries() -> Vec<Query> {
    let from = |second: u64| Some(timestamp(sample(second, vec![]).wall_ms));
    let query = |pids: &[u32], from| Query {
        from,
        selection: Selection { pids: pids.to_vec(), ..Selection::default() },
        ..Query::default()
    };
    vec![query(&[], None), query(&[5, 9], None), query(&[], from(101)), query(&[5, 9], from(101))]
}

#[test]
fn a_childs_io_is_never_its_parents_whatever_is_selected_and_whenever_the_window_begins() {
    for (sources, expected) in [(Sources::default(), None), (Sources::EXITS, Some(0.0))] {
        let samples = inheritance(sources);
        for query in queries() {
            let mut log = Log::new(query.clone(), Marks::default());
            let mut newest = Vec::new();
            for sample in &samples {
                newest = written(&log.push(sample));
            }
            assert_eq!(newest, [(5, expected), (9, Some(4_096.0))], "{query:?}");
        }
    }
}

#[test]
fn a_summary_does_not_charge_a_parent_for_its_children_either() {
    for (sources, expected) in [(Sources::default(), (None, true)), (Sources::EXITS, (Some(0), false))] {
        for query in queries() {
            let mut summary = Summary::new(Query { sort: Sort::Io, ..query });
            inheritance(sources).iter().for_each(|sample| summary.push(sample));
            let tracks = summary.finish();
            let io = |pid| {
                let track = track(&tracks, pid);
                (track.written_bytes(), track.io_is_lower_bound())
            };
            assert_eq!((io(5), io(9)), (expected, (Some(4_096), false)));
            assert_eq!(tracks.last().map(|track| track.process.identity.pid), Some(5), "unknown is last");
        }
    }
}

#[test]
fn without_its_exit_a_process_has_done_at_least_what_its_last_sample_shows() {
    let unrecorded = Sources::default();
    for (sources, bytes, is_more) in [(unrecorded, 100 << 20, true), (Sources::EXITS, 200 << 20, false)] {
        let mut summary = Summary::new(Query::default());
        inheritance(sources).iter().for_each(|sample| summary.push(sample));
        let tracks = summary.finish();
        let ended = track(&tracks, 7);
        assert_eq!((ended.written_bytes(), ended.io_is_lower_bound()), (Some(bytes), is_more));
        assert_eq!(ended.cpu_is_lower_bound(), is_more);
    }
}

#[test]
fn io_that_the_recorder_left_out_makes_a_summary_a_lower_bound() {
    let read = |second, read_bytes| sample(second, vec![Process { read_bytes, ..process(5, 50, 0) }]);
    let samples = [Some(1_000), Some(1_003), None, Some(9_000), Some(9_020)];
    let summarize = |samples: &[Option<u64>]| {
        let mut summary = Summary::new(Query::default());
        samples.iter().zip(100..).for_each(|(bytes, second)| summary.push(&read(second, *bytes)));
        let track = summary.finish().remove(0);
        (track.read_bytes(), track.io_is_lower_bound())
    };
    assert_eq!(summarize(&samples), (Some(23), true));
    assert_eq!(summarize(&samples[1..4]), (None, true), "at least 0 says nothing");
    assert_eq!(summarize(&samples[2..]), (Some(20), true), "the window begins with the unknown value");
    assert_eq!(summarize(&samples[3..]), (Some(20), false));
}
