//! Golden tests of the screen.

use jiff::tz::TimeZone;
use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyCode};
use record::{EventKind, Sample, Sources};

use super::*;
use crate::record::top::{
    Link,
    tests::{event, live, press, record, run, with_oom_kill},
};

/// The screen as text, without trailing blanks.
fn screen(state: &State, size: (u16, u16)) -> String {
    let newest = state.newest_ms;
    let look = Look { now_ms: newest, zone: TimeZone::UTC, colour: true };
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, state, &look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..size.1).map(row).collect::<Vec<_>>().join("\n")
}

fn night() -> Vec<Sample> {
    let mut night = record(0..240);
    night[180] = with_oom_kill(180);
    for sample in &mut night[181..] {
        sample.host.oom_kills = Some(1);
    }
    night.drain(60..70);
    night
}

#[test]
fn live_on_a_wide_screen() {
    let mut record = record(0..60);
    record[59].exits = with_oom_kill(59).exits;
    let state = live(&record);
    insta::assert_snapshot!(screen(&state, (120, 32)), @r"
    db-1  2011-07-13 00:00:59  live
    CPU  [█████▓▒▒▒░        ]  35 %  us 25 sy 10 wa 15 st 5  load 4.20 3.10 1.05/2
    Mem  [███████████████░░ ]  525M of 613M  cache 68M  tasks 214 run 3 blocked 1
    Swap [████████          ]  219M of 512M  in 120K/s out 2.3M/s
    PSI  cpu 12 %  memory 45/21 %  io 80/60 %  vda 97 %  vdb 2 %
    Rec  bpf  seen 4 of 4  late 3 ms  sweep 0 ms  own cpu 0.2 %
    CPU        ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
    mem wait   ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
    00:00:00                                                             ^
        PID USER     S  CPU% WAIT%  FOOT   RSS  SWAP READ/s WRITE/s  THR START COMMAND
         30 www-data D  21.4   3.1   83M   57M   28M   3.9M     12K    1 Jul12 /usr/sbin/apache2 -k start
         40 postgres S  15.0   0.0  195M  215M    0K      0       0    7 Jul01 /usr/lib/postgresql/15/bin/postgres -D /var/l
         20 root     S   1.0   0.0  1.0M  3.9M    0K      0       0    1 Jul01 /usr/sbin/apache2
          1 root     S   0.0   0.0  1.0M  3.9M    0K      0       0    1 Jul01 /sbin/init















    ended 1 in this interval, 1 failed
         30 apache2          SIGKILL   lived 16 min 40 s  cpu 2 d 11 h  peak   59M
    ←→ sample  [ ] minute  n N marks  End live  crsfi sort  t tree  / filter  ? help
    ");
}

#[test]
fn machine_wide_values_are_marked_in_a_container() {
    let mut record = record(0..60);
    for sample in &mut record {
        sample.sources = sample.sources.with(Sources::PART_OF_MACHINE);
        sample.host.memory_total_kib = Some(24_000_000);
        sample.host.cgroup_limit_kib = Some(627_712);
    }
    let shown = screen(&live(&record), (80, 24));
    let lines: Vec<_> = shown.lines().take(6).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    db-1  2011-07-13 00:00:59  live  * of the whole machine
    CPU* [█████▓▒▒▒░        ]  35 %  us 25 sy 10 wa 15 st 5  load* 4.20 3.10 1.05/2
    Mem  [███████           ]  252M held of limit 613M  tasks 10 run 0 blocked 1
    Swap*[████████          ]  219M of 512M  in 120K/s out 2.3M/s
    PSI  cpu* 12 %  memory* 45/21 %  io* 80/60 %  vda* 97 %  vdb* 2 %
    Rec  bpf  seen 4 of 4  late 3 ms  sweep 0 ms  own cpu 0.2 %
    ");
    assert!(shown.contains("\nCPU*    ") && shown.contains("\nmem wait*"), "{shown}");
}

#[test]
fn back_in_time_at_an_oom_kill_on_a_small_screen() {
    let record = night();
    let mut state = live(&record);
    state.runs = run(100, 150).to_vec();
    press(&mut state, &record, KeyCode::Char('N'));
    insta::assert_snapshot!(screen(&state, (80, 24)), @r"
    db-1  2011-07-13 00:03:00  59.0 s ago                                  End: live
    CPU  [█████▓▒▒▒░        ]  35 %  us 25 sy 10 wa 15 st 5  load 4.20 3.10 1.05/2
    Mem  [███████████████░░ ]  525M of 613M  cache 68M  tasks 214 run 3 blocked 1
    Swap [████████          ]  219M of 512M  in 120K/s out 2.3M/s
    PSI  cpu 12 %  memory 45/21 %  io 80/60 %  vda 97 %  vdb 2 %
    Rec  bpf  seen 3 of 3  late 3 ms  sweep 0 ms  own cpu 0.2 %  gaps 1
    CPU       ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
    mem wait  ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
    00:00:00                 ·      ▲            △      ✗
        PID USER     S  CPU%  FOOT   RSS  SWAP READ/s WRITE/s COMMAND
         40 postgres S  15.0  195M  215M    0K      0       0 /usr/lib/postgresql/15
         20 root     S   1.0  1.0M  3.9M    0K      0       0 /usr/sbin/apache2
          1 root     S   0.0  1.0M  3.9M    0K      0       0 /sbin/init










    ✗ OOM killed apache2 (30); triggered by postgres
    ");
}

#[test]
fn a_tree() {
    let record = record(0..60);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Char('t'));
    press(&mut state, &record, KeyCode::Down);
    insta::assert_snapshot!(screen(&state, (80, 15)), @r"
    db-1  2011-07-13 00:00:59  live
    CPU  [█████▓▒▒▒░        ]  35 %  us 25 sy 10 wa 15 st 5  load 4.20 3.10 1.05/2
        PID USER     S  CPU%  FOOT   RSS  SWAP READ/s WRITE/s COMMAND
          1 root     S   0.0  1.0M  3.9M    0K      0       0 /sbin/init
         40 postgres S  15.0  195M  215M    0K      0       0 ├ /usr/lib/postgresql/
         20 root     S   1.0  1.0M  3.9M    0K      0       0 └ /usr/sbin/apache2
         30 www-data D  21.4   83M   57M   28M   3.9M     12K   └ /usr/sbin/apache2







    ←→ sample  [ ] minute  n N marks  End live  crsfi sort  t tree  / filter  ? help
    ");
}

#[test]
fn details_of_a_process() {
    let record = record(0..60);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Enter);
    insta::assert_snapshot!(screen(&state, (80, 24)), @r"
    db-1  2011-07-13 00:00:59  live
    CPU  [█████▓▒▒▒░        ]  35 %  us 25 sy 10 wa 15 st 5  load 4.20 3.10 1.05/2
    Mem  [███████████████░░ ]  525M of 613M  cache 68M  tasks 214 run 3 blocked 1
    Swap [████████          ]  219M of 512M  in 120K/s out 2.3M/s
    PSI  cpu 12 %  memory 45/21 %  io 80/60 %  vda 97 %  vdb 2 %
    Rec  bpf  seen 4 of 4  late 3 ms  sweep 0 ms  own cpu 0.2 %
    CPU        ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
    mem wait   ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
    00:00:00                                                             ^
    ┌ process 30 ──────────────────────────────────────────────────────────────────┐
    │/usr/sbin/apache2 -k start                                                    │
    │control group /system.slice/apache2.service  unit apache2.service             │
    │user www-data  parent 20  started 2011-07-12 23:43:20  state D  threads 1     │
    │cpu 2 d 11 h user, 0 ms system, 8 h 37 min waited for a CPU                   │
    │footprint 83M  swap 28M  rss 57M (anon 55M, file 2.0M, shmem 300K)  virtual 0K│
    │read 3.7 TiB  written 11 GiB (with exited children)  major faults 0           │
    │                                                                              │
    │CPU, peak 21.4 %                                                              │
    │ ███████████████████████████████████████████████████████████                  │
    │footprint, peak 83M                                                           │
    │████████████████████████████████████████████████████████████                  │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
    ←→ sample  [ ] minute  n N marks  End live  crsfi sort  t tree  / filter  ? help
    ");
}

#[test]
fn an_empty_record() {
    insta::assert_snapshot!(screen(&live(&[]), (80, 12)), @r"
    db-1


    the record is empty: no samples yet







    ←→ sample  [ ] minute  n N marks  End live  crsfi sort  t tree  / filter  ? help
    ");
}

#[test]
fn the_last_sample_stays_when_the_host_is_gone() {
    let record = record(0..60);
    let mut state = live(&record);
    state.link = Link::Down("db-1 does not answer on port 4433: timed out".into());
    state.newest_ms += 95_000;
    let shown = screen(&state, (100, 20));
    let lines: Vec<_> = shown.lines().collect();
    insta::assert_snapshot!([lines[0], lines[19]].join("\n"), @r"
    db-1  2011-07-13 00:00:59  1 min 35 s ago                                              NO CONNECTION
    no connection, retrying: db-1 does not answer on port 4433: timed out
    ");
    assert!(shown.contains("postgres"));
}

#[test]
fn help_fits_on_a_small_screen() {
    let record = record(0..60);
    let mut state = live(&record);
    press(&mut state, &record, KeyCode::Char('?'));
    let shown = screen(&state, (80, 24));
    assert!(shown.contains("← →") && shown.contains("✗ OOM kill"), "{shown}");
}

#[test]
fn any_size_is_drawn_and_text_from_a_host_never_controls_the_terminal() {
    let mut record = record(0..60);
    let rogue = "evil\n\u{1b}[2J\u{202e}\u{9b}31m";
    for sample in &mut record {
        sample.processes[2].command = Some(rogue.into());
        sample.processes[2].user = Some(rogue.into());
        sample.processes[2].cgroup = Some(rogue.into());
        sample.processes[2].state = 7;
        sample.disks[0].name = rogue.into();
        sample.events.push(event(1, EventKind::Kernel, rogue));
    }
    let mut state = live(&record);
    state.title = rogue.into();
    state.link = Link::Down(rogue.into());
    state.notice = Some(rogue.into());
    for code in [KeyCode::Null, KeyCode::Enter, KeyCode::Char('?'), KeyCode::Char('/')] {
        press(&mut state, &record, code);
        for size in [(1, 1), (3, 40), (40, 3), (79, 15), (80, 24), (200, 60)] {
            let shown = screen(&state, size);
            assert!(shown.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{size:?}");
        }
    }
}
