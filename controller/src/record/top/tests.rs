//! Tests of navigation, loading and rows.

use std::sync::Arc;

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use record::{
    Basis, BootId, Collector, Disk, Event, EventKind, Exit, HostCounters, Identity, Process, Sample, Sources,
};

use super::{place::Place, rows::rows, timeline::MAX_SAMPLES, *};
use crate::record::{marks::RunMark, selection::Sort};

/// 2011-07-13 00:00:00 UTC
const MIDNIGHT_MS: i64 = 1_310_515_200_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Seconds since boot at midnight.
const UPTIME: i64 = 1_000_000;

/// A sample `second` seconds after midnight, of a small host with four processes under constant load.
pub(crate) fn sample(second: i64) -> Sample {
    let up = (UPTIME + second) as u64;
    let total = |per_second: u64| Some(up * per_second);
    let host = HostCounters {
        cpus: Some(2),
        cpu_user_ns: total(500_000_000),
        cpu_system_ns: total(200_000_000),
        cpu_iowait_ns: total(300_000_000),
        cpu_steal_ns: total(100_000_000),
        cpu_idle_ns: total(900_000_000),
        running: Some(3),
        blocked: Some(1),
        load_1: Some(420),
        load_5: Some(310),
        load_15: Some(105),
        memory_total_kib: Some(627_712),
        memory_free_kib: Some(20_000),
        memory_available_kib: Some(90_000),
        swap_total_kib: Some(524_288),
        swap_free_kib: Some(300_000),
        swap_in_kib: total(120),
        swap_out_kib: total(2_400),
        oom_kills: Some(0),
        tasks: Some(214),
        pressure_cpu_some_us: total(120_000),
        pressure_memory_some_us: total(450_000),
        pressure_memory_full_us: total(210_000),
        pressure_io_some_us: total(800_000),
        pressure_io_full_us: total(600_000),
        ..HostCounters::default()
    };
    Sample {
        boot_id: BootId([1; 16]),
        wall_ms: MIDNIGHT_MS + second * 1_000,
        boottime_ns: up * SECOND_NS,
        interval_ms: 1_000,
        late_ns: 3_000_000,
        sweep_ns: 0,
        own_cpu_us: up * 2_000,
        listed: 4,
        collector: Collector::Bpf,
        sources: Sources(31),
        host,
        disks: vec![disk("vda", up * 970), disk("vdb", up * 20)],
        exits_lost: Some(0),
        processes: processes(up),
        ..Sample::default()
    }
}

fn disk(name: &str, busy_ms: u64) -> Disk {
    Disk { name: name.into(), busy_ms, ..Disk::default() }
}

fn processes(up: u64) -> Vec<Process> {
    let process = |pid, parent, started, user: &str, command: &str| Process {
        parent,
        uid: Some(0),
        user: Some(user.into()),
        comm: command.split(['/', ' ']).next_back().unwrap().into(),
        command: Some(command.into()),
        state: b'S',
        threads: 1,
        wait_us: Some(0),
        anon_kib: Some(1_000),
        swap_kib: Some(0),
        resident_kib: 4_000,
        read_bytes: Some(0),
        written_bytes: Some(0),
        ..Process::bare(Identity { pid, started_ns: started * SECOND_NS })
    };
    let mut apache = process(20, 1, 100, "root", "/usr/sbin/apache2");
    apache.cgroup = Some("/system.slice/apache2.service".into());
    apache.user_us = up * 10_000;
    let mut worker = process(30, 20, 999_000, "www-data", "/usr/sbin/apache2 -k start");
    worker.user_us = up * 214_000;
    worker.wait_us = Some(up * 31_000);
    worker.anon_kib = Some(56_000);
    worker.file_kib = Some(2_000);
    worker.shmem_kib = Some(300);
    worker.resident_kib = 58_300;
    worker.swap_kib = Some(29_000);
    worker.read_bytes = Some(up * 4_096_000);
    worker.written_bytes = Some(up * 12_288);
    worker.state = b'D';
    worker.cgroup = Some("/system.slice/apache2.service".into());
    let mut database = process(40, 1, 200, "postgres", "/usr/lib/postgresql/15/bin/postgres -D /var/lib");
    database.user_us = up * 150_000;
    database.anon_kib = Some(200_000);
    database.resident_kib = 220_000;
    database.threads = 7;
    vec![process(1, 0, 1, "root", "/sbin/init"), apache, worker, database]
}

pub(crate) fn event(second: i64, kind: EventKind, text: &str) -> Event {
    Event { at_ns: (UPTIME + second) as u64 * SECOND_NS, kind, text: text.into() }
}

/// A sample with an out-of-memory kill of the worker.
pub(crate) fn with_oom_kill(second: i64) -> Sample {
    let mut sample = sample(second);
    let text = "postgres invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER), order=0, oom_score_adj=0\n\
                Out of memory: Killed process 30 (apache2) total-vm:160732kB, anon-rss:56000kB";
    sample.events.push(event(second, EventKind::Kernel, text));
    sample.host.oom_kills = Some(1);
    let worker = sample.processes.remove(2);
    sample.listed = 3;
    sample.exits.push(Exit {
        identity: worker.identity,
        parent: 20,
        uid: 33,
        comm: "apache2".into(),
        at_ns: sample.boottime_ns,
        lived_us: 1_000_000_000,
        user_us: worker.user_us,
        system_us: 0,
        peak_kib: 60_000,
        status: 9,
        major_faults: 7,
        read_bytes: 0,
        written_bytes: 0,
    });
    sample
}

/// A run from one second to another.
pub(crate) fn run(from: i64, until: i64) -> [RunMark; 2] {
    let mark = |second: i64, state: Option<&str>| RunMark {
        at: Timestamp::from_millisecond(MIDNIGHT_MS + second * 1_000).unwrap(),
        run_id: "db-1-x7k2m9".into(),
        what: "apply".into(),
        user: "ann".into(),
        state: state.map(str::to_owned),
    };
    [mark(from, None), mark(until, Some("failed"))]
}

/// Answers requests from a record in memory, as the command does from a real one.
pub(crate) fn serve(state: &mut State, record: &[Sample], mut action: Action) {
    for _ in 0..20 {
        let Action::Load(request) = action else { return };
        let mut search = Search::new(request);
        let inside = |sample: &&Sample| (request.from_ms..=request.until_ms).contains(&sample.wall_ms);
        // Blocks are not cut: a reader also gets samples outside the requested range.
        let first = record.iter().position(|sample| inside(&sample)).unwrap_or(record.len());
        let end = record.iter().rposition(|sample| inside(&sample)).map_or(first, |last| last + 1);
        let blocks = first.saturating_sub(7)..(end + 7).min(record.len()).max(first);
        let given = if first < end { &record[blocks] } else { &[] };
        for sample in given {
            if !search.push(sample) {
                break;
            }
        }
        action = state.loaded(request, Ok(search.finish()));
    }
    panic!("asks without end");
}

/// The live view of a host with this record.
pub(crate) fn live(record: &[Sample]) -> State {
    let newest_ms = record.last().map_or(MIDNIGHT_MS, |sample| sample.wall_ms);
    let mut state = State::new("db-1", Link::Up, newest_ms);
    let action = state.newest();
    serve(&mut state, record, action);
    state
}

pub(crate) fn press(state: &mut State, record: &[Sample], code: KeyCode) {
    press_with(state, record, code, KeyModifiers::NONE);
}

fn press_with(state: &mut State, record: &[Sample], code: KeyCode, modifiers: KeyModifiers) {
    let action = state.key(KeyEvent::new(code, modifiers));
    serve(state, record, action);
}

pub(crate) fn record(seconds: std::ops::Range<i64>) -> Vec<Sample> {
    seconds.map(sample).collect()
}

/// Seconds after midnight of the current sample.
fn second(state: &State) -> i64 {
    (state.timeline.current().unwrap().wall_ms - MIDNIGHT_MS) / 1_000
}

#[test]
fn keys_move_back_and_forth_in_time() {
    let record = record(0..7_200);
    let mut state = live(&record);
    assert_eq!(second(&state), 7_199);
    for (code, expected) in [
        (KeyCode::Left, 7_198),
        (KeyCode::Char('['), 7_138),
        (KeyCode::PageUp, 6_538),
        (KeyCode::PageUp, 5_938),
        (KeyCode::Char(']'), 5_998),
        (KeyCode::Right, 5_999),
        (KeyCode::PageDown, 6_599),
        (KeyCode::Home, 0),
        (KeyCode::Left, 0),
        (KeyCode::Right, 1),
        (KeyCode::End, 7_199),
        (KeyCode::PageDown, 7_199),
    ] {
        press(&mut state, &record, code);
        assert_eq!(second(&state), expected, "{code:?}");
    }
    assert!(state.timeline.is_live());
    press_with(&mut state, &record, KeyCode::Left, KeyModifiers::SHIFT);
    assert_eq!(second(&state), 7_139);
}

#[test]
fn every_sample_is_visited_once_each_way_and_the_window_stays_bounded() {
    let record = record(0..3_000);
    let mut state = live(&record);
    for expected in (0..2_999).rev() {
        press(&mut state, &record, KeyCode::Left);
        assert_eq!(second(&state), expected);
        assert!(state.timeline.len() <= MAX_SAMPLES);
    }
    press(&mut state, &record, KeyCode::Left);
    assert!(state.notice.as_deref().unwrap().contains("begins here"));
    for expected in 1..3_000 {
        press(&mut state, &record, KeyCode::Right);
        assert_eq!(second(&state), expected);
        assert!(state.timeline.len() <= MAX_SAMPLES);
    }
}

#[test]
fn a_night_without_samples_is_one_step() {
    let mut record = record(0..50);
    let mut after: Vec<_> = (40_000..40_500).map(sample).collect();
    after.iter_mut().for_each(|sample| sample.boot_id = BootId([2; 16]));
    record.extend(after);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Home);
    for _ in 0..50 {
        press(&mut state, &record, KeyCode::Right);
    }
    assert_eq!(second(&state), 40_000);
    let action = state.around(MIDNIGHT_MS + 40_300_000);
    serve(&mut state, &record, action);
    for _ in 0..301 {
        press(&mut state, &record, KeyCode::Left);
    }
    assert_eq!(second(&state), 49);
}

/// A boot with a correct clock, then one whose clock is five minutes slow and is then set an hour ahead.
fn record_of_a_bad_clock() -> Vec<Sample> {
    let mut record = record(0..500);
    let slow = (500..900).map(|second| (second, -300)).chain((900..1_600).map(|second| (second, 3_600)));
    record.extend(slow.map(|(second, by)| {
        let mut sample = sample(second);
        sample.boot_id = BootId([2; 16]);
        sample.boottime_ns = (second as u64 - 499) * SECOND_NS;
        sample.wall_ms += by * 1_000;
        sample
    }));
    record
}

#[test]
fn no_sample_is_skipped_when_the_clock_was_set_or_was_ahead_before_a_restart() {
    let record = record_of_a_bad_clock();
    let place = |state: &State| Place::of(state.timeline.current().unwrap());
    let mut state = live(&record);
    for expected in record.iter().rev().skip(1) {
        press(&mut state, &record, KeyCode::Left);
        assert_eq!(place(&state), Place::of(expected), "back to {}", expected.wall_ms);
    }
    for expected in &record[1..] {
        press(&mut state, &record, KeyCode::Right);
        assert_eq!(place(&state), Place::of(expected), "forth to {}", expected.wall_ms);
    }
}

#[test]
fn a_minute_is_a_minute_when_the_clock_was_set() {
    let record = record_of_a_bad_clock();
    let mut state = live(&record);
    let action = state.around(record[930].wall_ms);
    serve(&mut state, &record, action);
    for _ in 890..930 {
        press(&mut state, &record, KeyCode::Left);
    }
    for (code, expected) in [(KeyCode::Char(']'), 950), (KeyCode::Char('['), 890), (KeyCode::Right, 891)] {
        press(&mut state, &record, code);
        assert_eq!(Place::of(state.timeline.current().unwrap()), Place::of(&record[expected]), "{code:?}");
    }
}

#[test]
fn live_follows_pause_stays_and_end_resumes() {
    let mut record = record(0..100);
    let mut state = live(&record);
    let take = |state: &mut State, record: &mut Vec<Sample>, count| {
        for _ in 0..count {
            record.push(sample(record.len() as i64));
            state.sampled(record.last().unwrap().clone());
        }
    };
    take(&mut state, &mut record, 5);
    assert_eq!((second(&state), state.timeline.is_live()), (104, true));
    press(&mut state, &record, KeyCode::Char(' '));
    // Long enough that the window cannot hold both the current sample and the newest.
    take(&mut state, &mut record, 2_000);
    assert_eq!(second(&state), 104);
    assert!(state.timeline.len() <= MAX_SAMPLES && !state.timeline.has_newest());
    press(&mut state, &record, KeyCode::End);
    assert_eq!((second(&state), state.timeline.is_live()), (2_104, true));
    take(&mut state, &mut record, 1);
    assert_eq!(second(&state), 2_105);
}

#[test]
fn samples_that_come_while_the_end_is_loaded_are_not_lost() {
    let mut record = record(0..2_000);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Home);
    let Action::Load(request) = state.key(KeyEvent::from(KeyCode::End)) else {
        panic!("nothing is asked for")
    };
    let mut search = Search::new(request);
    record.iter().for_each(|sample| assert!(search.push(sample)));
    for _ in 0..3 {
        record.push(sample(record.len() as i64));
        state.sampled(record.last().unwrap().clone());
    }
    state.loaded(request, Ok(search.finish()));
    assert_eq!(second(&state), 2_002);
    press(&mut state, &record, KeyCode::Left);
    assert_eq!(second(&state), 2_001);
}

#[test]
fn a_stale_answer_changes_nothing() {
    let record = record(0..2_000);
    let mut state = live(&record);
    let Action::Load(old) = state.key(KeyEvent::from(KeyCode::Home)) else { panic!("nothing is asked for") };
    press(&mut state, &record, KeyCode::End);
    let answer = Answer { samples: vec![Arc::new(sample(0))], ..Answer::default() };
    state.loaded(old, Ok(answer));
    assert_eq!(second(&state), 1_999);
}

#[test]
fn marks_are_found_in_the_window_and_far_from_it() {
    let mut record = record(0..5_000);
    record[300] = with_oom_kill(300);
    for sample in &mut record[301..] {
        sample.host.oom_kills = Some(1);
    }
    record[4_900].events.push(event(4_900, EventKind::Note, "the recorder restarted"));
    record.drain(4_950..4_960);
    let mut state = live(&record);
    state.runs = run(2_000, 2_100).to_vec();
    for expected in [4_960, 4_900, 2_100, 2_000, 300] {
        press(&mut state, &record, KeyCode::Char('N'));
        assert_eq!(second(&state), expected);
    }
    assert_eq!(state.marks_here()[0].0, MarkKind::OomKill);
    assert!(state.marks_here()[0].1.starts_with("OOM killed apache2 (30)"));
    press(&mut state, &record, KeyCode::Char('N'));
    assert!(state.notice.as_deref().unwrap().contains("no more marks"), "{:?}", state.notice);
    for expected in [2_000, 2_100, 4_900, 4_960] {
        press(&mut state, &record, KeyCode::Char('n'));
        assert_eq!(second(&state), expected);
    }
}

#[test]
fn a_kill_that_is_counted_and_logged_is_one_mark() {
    let count = |told: i64, counted: i64| {
        let mut record = record(0..10);
        if told >= 0 {
            record[told as usize] = with_oom_kill(told);
        }
        for (second, sample) in record.iter_mut().enumerate() {
            sample.host.oom_kills = Some(u64::from(second as i64 >= counted));
        }
        live(&record).marks().iter().filter(|mark| mark.kind == MarkKind::OomKill).count()
    };
    assert_eq!([count(5, 5), count(5, 6), count(-1, 5), count(5, 99)], [1, 1, 1, 1]);
}

#[test]
fn a_failed_request_says_why_and_leaves_everything_in_place() {
    let record = record(0..2_000);
    let mut state = live(&record);
    let Action::Load(request) = state.key(KeyEvent::from(KeyCode::Home)) else {
        panic!("nothing is asked for")
    };
    assert_eq!(state.loaded(request, Err("db-1 does not answer".into())), Action::Show);
    assert_eq!((second(&state), state.notice.as_deref()), (1_999, Some("db-1 does not answer")));
    assert!(!state.is_loading());
}

#[test]
fn an_empty_record_does_not_cause_endless_requests() {
    let mut state = live(&[]);
    for code in [
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Char('n'),
        KeyCode::Char('N'),
        KeyCode::Enter,
        KeyCode::Down,
        KeyCode::Char(' '),
    ] {
        press(&mut state, &[], code);
        assert!(state.timeline.current().is_none());
    }
    state.sampled(sample(1));
    assert_eq!(second(&state), 1);
}

fn pids(state: &State) -> Vec<u32> {
    state.rows().iter().map(|row| row.process.identity.pid).collect()
}

#[test]
fn processes_are_sorted_filtered_and_put_into_a_tree() {
    let record = record(0..10);
    let mut state = live(&record);
    for (key, sort, expected) in [
        ('c', Sort::Cpu, [30, 40, 20, 1]),
        ('r', Sort::Rss, [40, 30, 20, 1]),
        ('s', Sort::Swap, [30, 40, 20, 1]),
        ('f', Sort::Footprint, [40, 30, 20, 1]),
        ('i', Sort::Io, [30, 40, 20, 1]),
    ] {
        press(&mut state, &record, KeyCode::Char(key));
        assert_eq!((state.view.sort, pids(&state).as_slice()), (sort, &expected[..]), "{key}");
    }
    let worker = &state.rows()[0];
    assert_eq!(worker.rates.cpu_percent.map(f64::round), Some(21.0));
    assert_eq!(worker.rates.read_bytes.map(f64::round), Some(4_096_000.0));
    press(&mut state, &record, KeyCode::Char('c'));
    press(&mut state, &record, KeyCode::Char('t'));
    assert_eq!(pids(&state), [1, 40, 20, 30]);
    "/www-data".chars().for_each(|c| press(&mut state, &record, KeyCode::Char(c)));
    press(&mut state, &record, KeyCode::Enter);
    assert_eq!(pids(&state), [1, 20, 30]);
    assert_eq!(state.rows().iter().map(|row| row.aside).collect::<Vec<_>>(), [true, true, false]);
    press(&mut state, &record, KeyCode::Char('t'));
    assert_eq!(pids(&state), [30]);
}

#[test]
fn without_recorded_exits_the_io_of_parents_is_unknown_and_sorted_last() {
    let mut record = record(0..10);
    for (second, sample) in record.iter_mut().enumerate() {
        sample.sources = Sources::KERNEL_LOG;
        sample.processes[1].written_bytes = Some(second as u64 * (200 << 20));
    }
    record[8].processes.remove(2);
    record[9].processes.remove(2);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Char('i'));
    let rows = state.rows();
    let io: Vec<_> = rows.iter().map(|row| (row.process.identity.pid, row.rates.io_bytes())).collect();
    assert_eq!(io, [(40, Some(0.0)), (20, None), (1, None)]);
}

#[test]
fn a_tree_shows_every_process_once_whatever_the_parents_are() {
    let mut record = record(0..2);
    // A younger "parent" reused the pid; two processes that are each other's parent cannot be drawn as a tree.
    record[1].processes[0].parent = 40;
    record[1].processes[3].parent = 30;
    record[1].processes[2].identity.started_ns = 1_000;
    record[1].processes[2].parent = 30;
    let state = live(&record);
    let view = View { tree: true, ..View::default() };
    let rows = rows(None, state.timeline.current().unwrap(), &view);
    let mut pids: Vec<_> = rows.iter().map(|row| row.process.identity.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, [1, 20, 30, 40]);
}

#[test]
fn text_typed_into_the_filter_is_not_a_command() {
    let record = record(0..10);
    let mut state = live(&record);
    for code in ['/', 'q', 't'].map(KeyCode::Char) {
        assert_eq!(state.key(KeyEvent::from(code)), Action::Show);
    }
    assert_eq!((state.view.filter.as_str(), state.view.tree), ("qt", false));
    press(&mut state, &record, KeyCode::Esc);
    assert_eq!(state.view.filter, "");
    assert_eq!(state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Quit);
    assert_eq!(state.key(KeyEvent::from(KeyCode::Char('q'))), Action::Quit);
}

#[test]
fn the_selection_stays_with_its_process() {
    let record = record(0..10);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Down);
    press(&mut state, &record, KeyCode::Down);
    press(&mut state, &record, KeyCode::Char('r'));
    press(&mut state, &record, KeyCode::Enter);
    assert_eq!(state.popup, Popup::Details(Identity { pid: 40, started_ns: 200 * SECOND_NS }));
    press(&mut state, &record, KeyCode::Enter);
    assert_eq!(state.popup, Popup::Nothing);
}

#[test]
fn a_container_has_its_own_limit_and_pressure() {
    let inside = |second| {
        let mut sample = sample(second);
        sample.host.cgroup_limit_kib = Some(300_000);
        sample.host.cgroup_used_kib = Some(290_000);
        sample.host.cgroup_pressure_memory_some_us = Some(second as u64 * 900_000);
        sample
    };
    let rates = HostRates::of(Some(&inside(1)), &inside(2));
    let memory = rates.memory.unwrap();
    assert_eq!((memory.limit_kib, memory.used_kib, memory.basis), (300_000, 290_000, Basis::ControlGroup));
    assert_eq!((rates.is_part, rates.pressure.memory_is_own), (true, true));
    assert_eq!(rates.tasks, Tasks { all: Some(10), running: Some(0), blocked: Some(1) });
    assert_eq!(rates.pressure.memory_some.map(f64::round), Some(90.0));
    let rates = HostRates::of(Some(&sample(1)), &sample(2));
    assert_eq!(
        rates.cpu.map(|cpu| [cpu.user, cpu.system, cpu.iowait, cpu.steal].map(f64::round)),
        Some([25.0, 10.0, 15.0, 5.0])
    );
    assert_eq!(rates.memory.map(|memory| (memory.used_kib, memory.cache_kib)), Some((537_712, Some(70_000))));
    assert_eq!(rates.disks[0].1.round(), 97.0);
    // Without a previous sample there are sizes, but no rates.
    let alone = HostRates::of(None, &sample(2));
    assert!(alone.cpu.is_none() && alone.memory.is_some() && alone.pressure == Pressure::default());
}
