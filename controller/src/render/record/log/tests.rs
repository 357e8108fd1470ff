//! Golden tests of the process log.

use clap::ValueEnum;
use jiff::Timestamp;
use record::{Block, BootId, Exit, HostCounters, Identity, Process, Sample, encode};

use super::*;
use crate::record::{
    breaks::{Break, Why},
    log::Log,
    marks::{Marks, RunMark},
    query::Query,
    rates::Rates,
    selection::Sort,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An Apache worker in the night of 13 July 2011.
fn apache() -> Process {
    Process {
        parent: 1200,
        uid: Some(33),
        user: Some("www-data".into()),
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        cgroup: Some("/system.slice/apache2.service".into()),
        state: b'D',
        threads: 1,
        user_us: 310_000_000,
        system_us: 20_000_000,
        major_faults: 77,
        virtual_kib: 160_732,
        resident_kib: 5_972,
        anon_kib: Some(4_000),
        swap_kib: Some(29_000),
        read_bytes: Some(7 << 20),
        ..Process::bare(Identity { pid: 26_096, started_ns: 1 })
    }
}

fn kswapd() -> Process {
    Process {
        uid: Some(0),
        comm: "kswapd0".into(),
        state: b'S',
        ..Process::bare(Identity { pid: 30, started_ns: 0 })
    }
}

fn rogue() -> Process {
    Process { command: Some("evil\n2011-07-13 \u{1b}[2J\u{202e}".into()), ..apache() }
}

fn exit(status: u32) -> Exit {
    Exit {
        identity: Identity { pid: 26_096, started_ns: 1 },
        parent: 1200,
        uid: 33,
        comm: "apache2".into(),
        at_ns: 0,
        lived_us: 1_542_000_000,
        user_us: 310_000_000,
        system_us: 20_000_000,
        peak_kib: 35_000,
        status,
        major_faults: 77,
        read_bytes: 1,
        written_bytes: 2,
    }
}

fn entry<'a>(process: &'a Process, cpu_percent: Option<f64>, started: &str) -> Entry<'a> {
    let rates = Rates { cpu_percent, read_bytes: cpu_percent.map(|_| 4_096.0), ..Rates::default() };
    Entry::Process(ProcessEntry {
        at: at("2011-07-13T00:12:22Z"),
        boot_id: BootId([0xab; 16]),
        rates,
        memory_percent: cpu_percent.map(|_| 0.94),
        started: at(started),
        process,
    })
}

fn remarks(exits: &[Exit; 2]) -> Vec<Entry<'_>> {
    let (from, until) = (at("2011-07-13T00:12:22Z"), at("2011-07-13T00:13:05Z"));
    let gap = |why| Entry::Break(Break::Gap { from, until, length_ms: 43_000, why });
    let run = |state| RunMark {
        at: from,
        run_id: "db-1-x7k2m9".into(),
        what: "apply".into(),
        user: "ada".into(),
        state,
    };
    vec![
        gap(None),
        gap(Some(Why::Recorder)),
        gap(Some(Why::Dropped(40))),
        gap(Some(Why::Late(42_000))),
        Entry::Break(Break::Restart { from, until }),
        Entry::Break(Break::Step { from, until, by_ms: -3_600_000 }),
        Entry::Break(Break::Lost("50 bytes of history cannot be read: cut short".into())),
        Entry::Exit(from, &exits[0]),
        Entry::Exit(from, &exits[1]),
        Entry::MoreExits(from, 88),
        Entry::Kernel(
            from,
            "mysqld invoked oom-killer: gfp_mask=0x201da\nCPU: 0\nKilled process 7 (\u{1b}[2Jx) total-vm:1kB",
        ),
        Entry::Kernel(from, "md0: \u{1b}[2J failed\nmd0: stopped"),
        Entry::Kills { at: until, earliest: from, count: 1 },
        Entry::Note(from, "the kernel's log was overwritten: lines lost: 12"),
        Entry::Run(run(None)),
        Entry::Run(run(Some("changed".into()))),
    ]
}

fn rendered(entries: &[Entry], form: &Form) -> String {
    let mut out = Vec::new();
    write_header(form, &mut out).unwrap();
    entries.iter().for_each(|entry| write(entry, form, &mut out).unwrap());
    String::from_utf8(out).unwrap()
}

fn classic() -> Form {
    Form::Text(Column::CLASSIC.to_vec(), TimeZone::UTC)
}

#[test]
fn text_is_one_line_per_process() {
    let processes = [apache(), kswapd(), rogue()];
    let entries = [
        entry(&processes[0], Some(21.43), "2011-07-12T23:46:40Z"),
        entry(&processes[1], None, "2010-12-31T10:00:00Z"),
        entry(&processes[2], Some(200.0), "2011-07-13T00:10:00Z"),
    ];
    insta::assert_snapshot!(rendered(&entries, &classic()), @r##"
    # units: %CPU of one CPU in the interval, %MEM of all memory, VSZ RSS in KiB, TIME in CPU minutes:seconds
    #DATE     TIME     USER         PID  %CPU %MEM     VSZ     RSS T S START    TIME COMMAND
    2011-07-13 00:12:22 www-data   26096  21.4  0.9  160732    5972 ? D Jul12    5:30 /usr/sbin/apache2 -k start
    2011-07-13 00:12:22 0             30     -    -       0       0 ? S  2010    0:00 [kswapd0]
    2011-07-13 00:12:22 www-data   26096 200.0  0.9  160732    5972 ? D 00:10    5:30 evil\n2011-07-13 \x1b[2J\u{202e}
    "##);
}

#[test]
fn everything_but_a_process_is_a_comment() {
    let entries = [exit(9), exit(3 << 8)];
    insta::assert_snapshot!(rendered(&remarks(&entries), &classic()), @r"
    # units: %CPU of one CPU in the interval, %MEM of all memory, VSZ RSS in KiB, TIME in CPU minutes:seconds
    #DATE     TIME     USER         PID  %CPU %MEM     VSZ     RSS T S START    TIME COMMAND
    # no samples between 2011-07-13 00:12:22 and 2011-07-13 00:13:05 (43.0 s)
    # no samples between 2011-07-13 00:12:22 and 2011-07-13 00:13:05 (43.0 s): the recorder restarted
    # no samples between 2011-07-13 00:12:22 and 2011-07-13 00:13:05 (43.0 s): dropped samples: 40
    # no samples between 2011-07-13 00:12:22 and 2011-07-13 00:13:05 (43.0 s): the recorder was scheduled 42.0 s late
    # the host restarted between 2011-07-13 00:12:22 and 2011-07-13 00:13:05
    # the clock was set back by 1 h 0 min between 2011-07-13 00:12:22 and 2011-07-13 00:13:05
    # 50 bytes of history cannot be read: cut short
    # 2011-07-13 00:12:22 exit 26096 apache2: killed by SIGKILL, lived 25 min 42 s, CPU 5:30, peak 34 MiB
    # 2011-07-13 00:12:22 exit 26096 apache2: exit code 3, lived 25 min 42 s, CPU 5:30, peak 34 MiB
    # 2011-07-13 00:12:22 88 more processes exited
    # 2011-07-13 00:12:22 out-of-memory kill: pid 7 \x1b[2Jx, triggered by mysqld
    # 2011-07-13 00:12:22 kernel: md0: \x1b[2J failed (more lines: 1)
    # 2011-07-13 00:13:05 out-of-memory kills in the 43.0 s before: 1
    # 2011-07-13 00:12:22 recorder: the kernel's log was overwritten: lines lost: 12
    # 2011-07-13 00:12:22 run db-1-x7k2m9 apply by ada started
    # 2011-07-13 00:12:22 run db-1-x7k2m9 apply ended: changed
    ");
}

#[test]
fn columns_line_up_and_unknown_values_are_dashes() {
    let processes = [apache(), kswapd()];
    let entries = [
        entry(&processes[0], Some(21.43), "2011-07-12T23:46:40Z"),
        entry(&processes[1], None, "2010-12-31T10:00:00Z"),
    ];
    let columns: Vec<_> = <Column as ValueEnum>::value_variants()
        .iter()
        .copied()
        .filter(|column| !Column::CLASSIC.contains(column) || *column == Column::Pid)
        .collect();
    insta::assert_snapshot!(rendered(&entries, &Form::Text(columns.clone(), TimeZone::UTC)), @r"
    # units: %WAIT of one CPU in the interval, ANON FILE SHMEM SWAP FOOTPR in KiB, READ/s WRITE/s in KiB/s
    #DATE     TIME       UID     PID    PPID  THR %WAIT MAJFLT/s    ANON    FILE   SHMEM    SWAP  FOOTPR  READ/s WRITE/s CGROUP                                   UNIT                     COMM
    2011-07-13 00:12:22    33   26096    1200    1     -        -    4000       -       -   29000   33000     4.0       - /system.slice/apache2.service            apache2.service          apache2
    2011-07-13 00:12:22     0      30       0    0     -        -       -       -       -       -       0       -       - -                                        -                        kswapd0
    ");
    insta::assert_snapshot!(rendered(&entries, &Form::Csv(columns)), @r"
    at,uid,pid,parent,threads,wait_percent,major_faults_per_s,anon_bytes,file_bytes,shmem_bytes,swap_bytes,footprint_bytes,read_bytes_per_s,written_bytes_per_s,cgroup,unit,name
    2011-07-13T00:12:22Z,33,26096,1200,1,,,4096000,,,29696000,33792000,4096,,/system.slice/apache2.service,apache2.service,apache2
    2011-07-13T00:12:22Z,0,30,0,0,,,,,,,0,,,,,kswapd0
    ");
}

#[test]
fn times_are_local() {
    let zone = TimeZone::fixed(jiff::tz::offset(-5));
    let form = Form::Text(Column::CLASSIC.to_vec(), zone);
    let mut out = Vec::new();
    write(&entry(&apache(), None, "2010-12-31T10:00:00Z"), &form, &mut out).unwrap();
    assert!(out.starts_with(b"2011-07-12 19:12:22 www-data "));
}

#[test]
fn json_is_one_object_per_line() {
    let processes = [apache(), kswapd()];
    let exits = [exit(9), exit(3 << 8)];
    let mut entries = vec![
        entry(&processes[0], Some(21.43), "2011-07-12T23:46:40Z"),
        entry(&processes[1], None, "2010-12-31T10:00:00Z"),
    ];
    entries.extend(remarks(&exits));
    insta::assert_snapshot!(rendered(&entries, &Form::Json), @r#"
    {"v":1,"type":"process","at":"2011-07-13T00:12:22Z","boot_id":"abababab-abab-abab-abab-abababababab","pid":26096,"parent":1200,"started":"2011-07-12T23:46:40Z","user":"www-data","uid":33,"name":"apache2","command":"/usr/sbin/apache2 -k start","cgroup":"/system.slice/apache2.service","unit":"apache2.service","state":"D","threads":1,"cpu_percent":21.43,"memory_percent":0.94,"cpu_user_s":310.0,"cpu_system_s":20.0,"major_faults":77,"virtual_bytes":164589568,"resident_bytes":6115328,"footprint_bytes":33792000,"anon_bytes":4096000,"swap_bytes":29696000,"read_bytes":7340032,"read_bytes_per_s":4096.0}
    {"v":1,"type":"process","at":"2011-07-13T00:12:22Z","boot_id":"abababab-abab-abab-abab-abababababab","pid":30,"parent":0,"started":"2010-12-31T10:00:00Z","uid":0,"name":"kswapd0","state":"S","threads":0,"cpu_user_s":0.0,"cpu_system_s":0.0,"major_faults":0,"virtual_bytes":0,"resident_bytes":0,"footprint_bytes":0}
    {"v":1,"type":"gap","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z","length_s":43.0}
    {"v":1,"type":"gap","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z","length_s":43.0,"why":"recorder"}
    {"v":1,"type":"gap","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z","length_s":43.0,"why":"dropped","dropped":40}
    {"v":1,"type":"gap","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z","length_s":43.0,"why":"late"}
    {"v":1,"type":"restart","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z"}
    {"v":1,"type":"step","from":"2011-07-13T00:12:22Z","until":"2011-07-13T00:13:05Z","by_s":-3600.0}
    {"v":1,"type":"lost","message":"50 bytes of history cannot be read: cut short"}
    {"v":1,"type":"exit","at":"2011-07-13T00:12:22Z","pid":26096,"parent":1200,"uid":33,"name":"apache2","signal":"SIGKILL","lived_s":1542.0,"cpu_user_s":310.0,"cpu_system_s":20.0,"peak_bytes":35840000,"major_faults":77,"read_bytes":1,"written_bytes":2}
    {"v":1,"type":"exit","at":"2011-07-13T00:12:22Z","pid":26096,"parent":1200,"uid":33,"name":"apache2","exit_code":3,"lived_s":1542.0,"cpu_user_s":310.0,"cpu_system_s":20.0,"peak_bytes":35840000,"major_faults":77,"read_bytes":1,"written_bytes":2}
    {"v":1,"type":"more_exits","at":"2011-07-13T00:12:22Z","count":88}
    {"v":1,"type":"kernel","at":"2011-07-13T00:12:22Z","text":"mysqld invoked oom-killer: gfp_mask=0x201da\nCPU: 0\nKilled process 7 (\u001b[2Jx) total-vm:1kB"}
    {"v":1,"type":"kernel","at":"2011-07-13T00:12:22Z","text":"md0: \u001b[2J failed\nmd0: stopped"}
    {"v":1,"type":"oom_kills","at":"2011-07-13T00:13:05Z","earliest_at":"2011-07-13T00:12:22Z","count":1}
    {"v":1,"type":"note","at":"2011-07-13T00:12:22Z","text":"the kernel's log was overwritten: lines lost: 12"}
    {"v":1,"type":"run","at":"2011-07-13T00:12:22Z","run_id":"db-1-x7k2m9","what":"apply","user":"ada","state":"began"}
    {"v":1,"type":"run","at":"2011-07-13T00:12:22Z","run_id":"db-1-x7k2m9","what":"apply","user":"ada","state":"changed"}
    "#);
}

#[test]
fn what_csv_rows_cannot_hold_goes_to_stderr() {
    let exits = [exit(9), exit(0)];
    let form = Form::Csv(vec![Column::Pid]);
    let entries = remarks(&exits);
    assert_eq!(rendered(&entries, &form), "at,pid\n");
    let aside: Vec<_> = entries.iter().filter_map(|entry| aside(entry, &form)).collect();
    assert_eq!(aside.len(), 7, "{aside:?}");
}

/// One second of a host where every counter changes.
fn second(second: u64) -> Sample {
    let busy = |pid: u32, factor: u64| {
        let value = second * factor * 1_000;
        Process {
            parent: pid - second as u32,
            uid: Some(pid),
            user: None,
            threads: 1 + second as u32,
            user_us: value,
            system_us: value / 3,
            wait_us: Some(value / 5),
            major_faults: value / 7,
            virtual_kib: value * 3,
            resident_kib: value * 2,
            anon_kib: Some(value),
            file_kib: Some(value / 2),
            shmem_kib: Some(value / 4),
            swap_kib: Some(100_000 - value),
            read_bytes: Some(value * (9 - factor)),
            written_bytes: Some(value * 2),
            ..Process { identity: Identity { pid, started_ns: 0 }, ..apache() }
        }
    };
    Sample {
        wall_ms: 1_310_515_942_000 + second as i64 * 1_000,
        boottime_ns: second * 1_000_000_000,
        interval_ms: 1_000,
        host: HostCounters { memory_total_kib: Some(100_000), ..HostCounters::default() },
        processes: vec![busy(100, 3), busy(200, 8), busy(300, 5)],
        ..Sample::default()
    }
}

/// The log of a block, reading only these columns.
fn log_of(block: &[u8], columns: Columns, query: &Query, form: &Form) -> String {
    let mut samples = Block::parse(block).unwrap().samples_of(columns).unwrap();
    let (mut log, mut out) = (Log::new(query.clone(), Marks::default()), Vec::new());
    while let Some(sample) = samples.advance() {
        log.push(sample.unwrap()).iter().for_each(|entry| write(entry, form, &mut out).unwrap());
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_that_are_not_shown_are_not_needed() {
    let block = encode(&[second(1), second(2), second(3)], 1).unwrap();
    for column in Column::value_variants() {
        for sort in Sort::value_variants() {
            let query = Query { sort: *sort, ..Query::default() };
            for form in [Form::Text(vec![*column], TimeZone::UTC), Form::Csv(vec![*column]), Form::Json] {
                let whole = log_of(&block, Columns::ALL, &query, &form);
                let needed = query.needs().with(form.needs());
                assert_eq!(whole.lines().count(), 6);
                assert_eq!(log_of(&block, needed, &query, &form), whole, "{column:?}, {sort:?}");
            }
        }
    }
}
