//! The table of the fleet's hosts: as many columns as fit the terminal; all columns to files and pipes.

use jiff::Timestamp;
use serde_json::json;

use super::{
    Output,
    table::{or_dash, short, since},
    text::{left, printable, size},
};
use crate::{
    error::Result,
    provider::{Host, HostState, Kind, Standing},
};

const COLUMNS: usize = 15;
/// The names of all columns, in order.
const HEAD: [&str; COLUMNS] = [
    "NAME", "STATE", "ROLE", "OWNER", "AGE", "LEASE", "COMMIT", "SIZE", "ADDRESS", "CLONE OF", "BUNDLE",
    "REGION", "ID", "PROVIDER", "IMAGE",
];
/// Columns to drop when the terminal is too narrow, in this order; NAME and STATE always stay.
const EXPENDABLE: [&str; COLUMNS - 2] = [
    "IMAGE", "PROVIDER", "REGION", "ID", "BUNDLE", "CLONE OF", "AGE", "SIZE", "ADDRESS", "COMMIT", "ROLE",
    "OWNER", "LEASE",
];

type Row = [String; COLUMNS];

/// Prints the fleet's hosts as the provider lists them; all columns with `wide` or if stdout is not a terminal.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn hosts(output: &Output, hosts: &[Host], now: Timestamp, wide: bool) -> Result<()> {
    if output.is_json() {
        return hosts.iter().try_for_each(|host| {
            let mut about = json!(host);
            about["enrolled"] = json!(host.enrolled());
            output.record("host", about)
        });
    }
    let rows: Vec<Row> = hosts.iter().map(|host| row(host, now)).collect();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let shown = shown(&widths, output.width.filter(|_| !wide));
    let line = |cells: [&str; COLUMNS]| {
        let padded = shown.iter().map(|&column| format!("{:<1$}", cells[column], widths[column]));
        output.line(padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(HEAD)?;
    rows.iter().try_for_each(|row| line(std::array::from_fn(|column| row[column].as_str())))
}

/// Indices of the columns that fit into `room` cells.
fn shown(widths: &[usize; COLUMNS], room: Option<usize>) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..COLUMNS).collect();
    let Some(room) = room else { return shown };
    for name in EXPENDABLE {
        let taken = shown.iter().map(|&column| widths[column] + 2).sum::<usize>();
        if taken <= room + 2 {
            break;
        }
        shown.retain(|&column| HEAD[column] != name);
    }
    shown
}

fn row(host: &Host, now: Timestamp) -> Row {
    let usage = &host.usage;
    let cells = [
        host.name.clone(),
        standing(host).to_owned(),
        host.role.clone(),
        usage.owner.clone(),
        since(host.launched_at.saturating_mul(1_000), now),
        lease(usage.lease_until, now.as_second()),
        usage.commit.clone(),
        measure(host),
        host.address.clone(),
        host.clone_of.clone().unwrap_or_default(),
        short(&usage.bundle),
        host.region.clone(),
        host.id.clone(),
        host.provider.to_string(),
        host.image.0.chars().take(21).collect(),
    ];
    cells.map(|cell| or_dash(printable(&cell)))
}

/// State and standing in one or two words.
fn standing(host: &Host) -> &'static str {
    match (host.state, host.usage.standing) {
        (HostState::Stopping, _) => "stopping",
        (HostState::Stopped, Standing::Idle) => "stopped, idle",
        (HostState::Stopped, _) => "stopped",
        (HostState::Running, Standing::Launched) => "not enrolled",
        (HostState::Running, Standing::Claimed) => "unfinished",
        (HostState::Running, Standing::Used) => "running",
        (HostState::Running, Standing::Idle) => "idle",
    }
}

fn lease(until: i64, now: i64) -> String {
    match u64::try_from(until.saturating_sub(now)) {
        _ if until == 0 => "none".to_owned(),
        Ok(seconds @ 1..) => left(seconds),
        _ => "expired".to_owned(),
    }
}

/// Size of a host: instance type, memory limit, or both.
fn measure(host: &Host) -> String {
    let memory = host.memory.map(size);
    let class = (host.provider == Kind::Ec2).then(|| host.class.clone());
    class.into_iter().chain(memory).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        provider::{ImageId, Usage},
        render::Format,
        render::tests::pages,
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn host(name: &str, state: HostState, enrolled: bool) -> Host {
        let standing = if enrolled { Standing::Used } else { Standing::Launched };
        Host {
            tid: "t".into(),
            state,
            address: "10.0.0.2".into(),
            image: ImageId("0123456789abcdef".into()),
            memory: Some(512 << 20),
            launched_at: 1_799_992_500,
            usage: Usage { standing, ..Usage::default() },
            ..Host::example(Kind::Local, &format!("h-{name}"), name)
        }
    }

    fn some() -> [Host; 4] {
        let mut used = host("db-1", HostState::Running, true);
        used.usage.owner = "ada".into();
        used.usage.lease_until = now().as_second() + 7 * 86_400 - 3_600;
        used.usage.commit = "0123456789ab+".into();
        used.usage.bundle = "fedcba9876543210".repeat(4);
        let instance = Host {
            provider: Kind::Ec2,
            id: "i-0123456789abcdef0".into(),
            class: "t3.small spot".into(),
            region: "eu-central-1".into(),
            memory: None,
            ..host("web-1", HostState::Running, true)
        };
        [
            used,
            Host { clone_of: Some("db-1".into()), ..host("db-2", HostState::Running, false) },
            Host { memory: None, ..host("db-10", HostState::Stopped, true) },
            instance,
        ]
    }

    fn table(width: Option<usize>, wide: bool) -> String {
        let (mut output, data, _) = pages(Format::Text);
        output.width = width;
        hosts(&output, &some(), now(), wide).unwrap();
        data.text()
    }

    #[test]
    fn all_columns_without_a_terminal() {
        insta::assert_snapshot!(table(None, false), @r"
        NAME   STATE         ROLE  OWNER  AGE  LEASE     COMMIT         SIZE           ADDRESS   CLONE OF  BUNDLE        REGION        ID                   PROVIDER  IMAGE
        db-1   running       db    ada    2 h  6 d 23 h  0123456789ab+  512 MiB        10.0.0.2  -         fedcba987654  -             h-db-1               local     0123456789abcdef
        db-2   not enrolled  db    -      2 h  none      -              512 MiB        10.0.0.2  db-1      -             -             h-db-2               local     0123456789abcdef
        db-10  stopped       db    -      2 h  none      -              -              10.0.0.2  -         -             -             h-db-10              local     0123456789abcdef
        web-1  running       db    -      2 h  none      -              t3.small spot  10.0.0.2  -         -             eu-central-1  i-0123456789abcdef0  ec2       0123456789abcdef
        ");
        assert_eq!(table(Some(80), true), table(None, false));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        insta::assert_snapshot!(table(Some(120), false), @r"
        NAME   STATE         ROLE  OWNER  AGE  LEASE     COMMIT         SIZE           ADDRESS   CLONE OF  BUNDLE
        db-1   running       db    ada    2 h  6 d 23 h  0123456789ab+  512 MiB        10.0.0.2  -         fedcba987654
        db-2   not enrolled  db    -      2 h  none      -              512 MiB        10.0.0.2  db-1      -
        db-10  stopped       db    -      2 h  none      -              -              10.0.0.2  -         -
        web-1  running       db    -      2 h  none      -              t3.small spot  10.0.0.2  -         -
        ");
        for width in [30, 40, 60, 80, 100, 120, 160, 200] {
            assert!(table(Some(width), false).lines().all(|line| line.chars().count() <= width), "{width}");
        }
    }

    #[test]
    fn a_commit_and_a_digest_have_two_names_in_json() {
        let (output, data, _) = pages(Format::Json);
        hosts(&output, &some()[..1], now(), false).unwrap();
        let value: serde_json::Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!(value["commit"], "0123456789ab+");
        assert_eq!(value["bundle"], "fedcba9876543210".repeat(4));
    }
}
