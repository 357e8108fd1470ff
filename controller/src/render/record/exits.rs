//! Process exits, one line each:
//!
//! ```text
//! 2011-07-13 00:12:22 www-data   26096    1200 SIGKILL      25 min 42 s    5:30    34 MiB /usr/sbin/apache2 -k start
//! ```

use std::io::{self, Write};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::log::{
    cell::{command, minutes},
    remark::group_sentence,
};
use crate::{
    record::exits::{Ended, EndedProcess, Ending},
    render::Format,
    render::{
        csv,
        text::{duration, local, printable, size},
    },
};

/// CSV columns, with the same names as the JSON keys.
const KEYS: [&str; 14] = [
    "at",
    "pid",
    "parent",
    "user",
    "uid",
    "name",
    "command",
    "exit_code",
    "signal",
    "lived_s",
    "cpu_s",
    "peak_bytes",
    "read_bytes",
    "written_bytes",
];

/// Writes the column names: a `#` line for text, the first row for CSV, nothing for JSON.
pub(crate) fn write_header(format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => {
            writeln!(
                out,
                "#DATE     TIME     USER         PID    PPID EXIT             LIVED CPU m:s  PEAK RSS COMMAND"
            )
        }
        Format::Json => Ok(()),
        Format::Csv => out.write_all(csv::row(KEYS.map(Into::into)).as_bytes()),
    }
}

/// Writes one exit and a newline. CSV skips groups and losses: see [`aside`].
pub(crate) fn write(ended: &Ended, format: Format, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    match (format, ended) {
        (Format::Text, Ended::One(one)) => write_line(one, zone, out),
        (Format::Text, other) => writeln!(out, "# {}", sentence(other, zone)),
        (Format::Json, ended) => writeln!(out, "{}", object(ended)),
        (Format::Csv, Ended::One(one)) => out.write_all(csv::values(&values(one), &KEYS).as_bytes()),
        (Format::Csv, _) => Ok(()),
    }
}

/// What CSV rows cannot hold: a sentence for stderr.
pub(crate) fn aside(ended: &Ended, format: Format) -> Option<String> {
    (format == Format::Csv && !matches!(ended, Ended::One(_))).then(|| sentence(ended, &TimeZone::UTC))
}

fn write_line(one: &EndedProcess, zone: &TimeZone, out: &mut dyn Write) -> io::Result<()> {
    let exit = &one.exit;
    let how = match Ending::of(exit.status) {
        Ending::Code(code) => format!("exit {code}"),
        signal => signal.signal_name().unwrap_or_default(),
    };
    writeln!(
        out,
        "{} {:<8} {:>7} {:>7} {how:<10} {:>11} {:>7} {:>9} {}",
        local(one.at, zone),
        printable(&one.user),
        exit.identity.pid,
        exit.parent,
        duration(exit.lived_us / 1_000),
        minutes(exit.user_us.saturating_add(exit.system_us)),
        size(exit.peak_kib.saturating_mul(1024)),
        command(one.command.as_deref(), &exit.comm),
    )
}

fn sentence(ended: &Ended, zone: &TimeZone) -> String {
    match ended {
        Ended::One(_) => String::new(),
        Ended::Group(at, group) => format!("{} {}", local(*at, zone), group_sentence(group)),
        Ended::Lost(at, count) => format!("{} process exits lost by the kernel: {count}", local(*at, zone)),
    }
}

fn object(ended: &Ended) -> Value {
    let (kind, mut object) = match ended {
        Ended::One(one) => ("exit", values(one)),
        Ended::Group(at, group) => (
            "exit_group",
            json!({
                "at": at, "parent": group.parent, "name": &*group.comm, "count": group.count, "failed": group.failed,
                "cpu_s": seconds(group.cpu_us), "peak_bytes": group.peak_kib.saturating_mul(1024),
            }),
        ),
        Ended::Lost(at, count) => ("exits_lost", json!({ "at": at, "count": count })),
    };
    object["v"] = json!(crate::render::JSON_VERSION);
    object["type"] = json!(kind);
    object
}

fn values(one: &EndedProcess) -> Value {
    let exit = &one.exit;
    let ending = Ending::of(exit.status);
    let code = match ending {
        Ending::Code(code) => Some(code),
        Ending::Signal(_) => None,
    };
    json!({
        "at": one.at, "pid": exit.identity.pid, "parent": exit.parent, "user": &*one.user, "uid": exit.uid,
        "name": &*exit.comm, "command": one.command.as_deref(), "exit_code": code, "signal": ending.signal_name(),
        "lived_s": seconds(exit.lived_us), "cpu_s": seconds(exit.user_us.saturating_add(exit.system_us)),
        "peak_bytes": exit.peak_kib.saturating_mul(1024), "major_faults": exit.major_faults,
        "read_bytes": exit.read_bytes, "written_bytes": exit.written_bytes,
    })
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use record::{Exit, ExitGroup, Identity};

    use super::*;

    fn ends() -> Vec<Ended> {
        let at: Timestamp = "2011-07-13T00:12:22Z".parse().unwrap();
        let exit = Exit {
            identity: Identity { pid: 26_096, started_ns: 1 },
            parent: 1_200,
            uid: 33,
            comm: "apache2".into(),
            at_ns: 0,
            lived_us: 1_542_000_000,
            user_us: 310_000_000,
            system_us: 20_000_000,
            peak_kib: 35_000,
            status: 9,
            major_faults: 77,
            read_bytes: 1,
            written_bytes: 2,
        };
        let killed = EndedProcess {
            at,
            exit: exit.clone(),
            user: "www-data".into(),
            command: Some("/usr/sbin/apache2 -k start".into()),
        };
        let unknown = Exit { status: 1 << 8, comm: "e\u{1b}[2J,\"".into(), ..exit };
        let unknown = EndedProcess { at, exit: unknown, user: "33".into(), command: None };
        let group = ExitGroup {
            parent: 77,
            comm: "sh".into(),
            count: 120,
            failed: 3,
            cpu_us: 900_000,
            peak_kib: 3_000,
        };
        vec![
            Ended::One(Box::new(killed)),
            Ended::One(Box::new(unknown)),
            Ended::Group(at, group),
            Ended::Lost(at, 12),
        ]
    }

    fn rendered(format: Format) -> String {
        let mut out = Vec::new();
        write_header(format, &mut out).unwrap();
        ends().iter().for_each(|ended| write(ended, format, &TimeZone::UTC, &mut out).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_one_line_per_process() {
        insta::assert_snapshot!(rendered(Format::Text), @r#"
        #DATE     TIME     USER         PID    PPID EXIT             LIVED CPU m:s  PEAK RSS COMMAND
        2011-07-13 00:12:22 www-data   26096    1200 SIGKILL    25 min 42 s    5:30    34 MiB /usr/sbin/apache2 -k start
        2011-07-13 00:12:22 33         26096    1200 exit 1     25 min 42 s    5:30    34 MiB [e\x1b[2J,"]
        # 2011-07-13 00:12:22 exit 120 × sh of parent 77: 3 failed, CPU 0:00 in total, peak 2.9 MiB
        # 2011-07-13 00:12:22 process exits lost by the kernel: 12
        "#);
    }

    #[test]
    fn programs_get_objects_or_rows() {
        insta::assert_snapshot!(rendered(Format::Json), @r#"
        {"at":"2011-07-13T00:12:22Z","command":"/usr/sbin/apache2 -k start","cpu_s":330.0,"exit_code":null,"lived_s":1542.0,"major_faults":77,"name":"apache2","parent":1200,"peak_bytes":35840000,"pid":26096,"read_bytes":1,"signal":"SIGKILL","type":"exit","uid":33,"user":"www-data","v":1,"written_bytes":2}
        {"at":"2011-07-13T00:12:22Z","command":null,"cpu_s":330.0,"exit_code":1,"lived_s":1542.0,"major_faults":77,"name":"e\u001b[2J,\"","parent":1200,"peak_bytes":35840000,"pid":26096,"read_bytes":1,"signal":null,"type":"exit","uid":33,"user":"33","v":1,"written_bytes":2}
        {"at":"2011-07-13T00:12:22Z","count":120,"cpu_s":0.9,"failed":3,"name":"sh","parent":77,"peak_bytes":3072000,"type":"exit_group","v":1}
        {"at":"2011-07-13T00:12:22Z","count":12,"type":"exits_lost","v":1}
        "#);
        insta::assert_snapshot!(rendered(Format::Csv), @r#"
        at,pid,parent,user,uid,name,command,exit_code,signal,lived_s,cpu_s,peak_bytes,read_bytes,written_bytes
        2011-07-13T00:12:22Z,26096,1200,www-data,33,apache2,/usr/sbin/apache2 -k start,,SIGKILL,1542.0,330.0,35840000,1,2
        2011-07-13T00:12:22Z,26096,1200,33,33,"e\x1b[2J,""",,1,,1542.0,330.0,35840000,1,2
        "#);
        let beside: Vec<_> = ends().iter().filter_map(|ended| aside(ended, Format::Csv)).collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }
}
