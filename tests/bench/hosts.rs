//! Benchmarks of Magpie itself: time from launch to an open port and to enrolment, startup of `ctl`, memory of the agent, and
//! an apply without changes compared with `puppet apply` on the same host.
//!
//! Prints a Markdown section. Run by `make bench`; needs root.

use std::{
    io::{self, Write},
    time::Instant,
};

use tests::{Fleet, binary, repository};

const REPEATS: usize = 10;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "## Hosts\n\nReal hosts of the local provider, each with systemd.\n\n| what | median | range |\n|---|---|---|"
    )?;
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    start_up(&fleet, &mut out)?;
    launches(&fleet, &mut out)?;
    memory(&fleet, &mut out)?;
    apply(&fleet, &mut out)?;
    writeln!(
        out,
        "\nLaunching is mostly the host's own boot: namespaces, systemd, and then the agent, which makes its key before it listens. \
         `ctl run HOST -- true` is the frame of every run: a connection with mutual TLS, a supervisor started in a unit of its own, its events followed to \
         the end. The overhead of an apply contains this frame and the making and offering of an unchanged bundle; what is left of it was not taken apart. \
         Bare Puppet runs on the same host, in turn with Magpie, started through `ctl run` and timed on the host itself."
    )
}

fn start_up(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    row(out, "`ctl --help`", &timed(REPEATS, || drop(fleet.ok(&["--help"]))))
}

/// Provisions five hosts one by one; `ctl` itself measures the phases.
fn launches(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    let (mut boot, mut enrolled) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let lines = fleet.json(&["provision", "--role", "quick"]);
        let ready = lines.iter().find(|line| line["type"] == "ready").expect("a host got ready");
        let seconds = |key: &str| ready[key].as_f64().expect("milliseconds") / 1000.0;
        boot.push(seconds("boot_ms"));
        enrolled.push(seconds("boot_ms") + seconds("enrol_ms"));
    }
    row(out, "launch → port answers", &boot)?;
    row(out, "launch → enrolled", &enrolled)?;
    row(out, "`ctl hosts`, 5 hosts", &timed(REPEATS, || drop(fleet.ok(&["hosts"]))))?;
    let unchanged = timed(REPEATS, || drop(fleet.ok(&["run", "quick-1", "--", "true"])));
    row(out, "`ctl run HOST -- true`", &unchanged)
}

fn memory(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    for program in ["agent", "recorder"] {
        let size = std::fs::metadata(binary(program))?.len();
        writeln!(out, "| {program} binary | {:.1} MB | |", size as f64 / 1e6)?;
    }
    for (unit, name) in [("magpie-agent", "agent serve, idle"), ("magpie-record", "agent record")] {
        let script = format!("grep VmRSS /proc/$(systemctl show -p MainPID --value {unit})/status");
        let said = fleet.ok(&["run", "quick-1", "--", "sh", "-c", &script]);
        let kib: f64 = said.split_whitespace().filter_map(|word| word.parse().ok()).next_back().expect("kB");
        writeln!(out, "| {name}: RSS | {:.1} MB | |", kib * 1024.0 / 1e6)?;
    }
    Ok(())
}

/// Puppet alone and Magpie in turn, with the same code on the same host and nothing to change.
fn apply(fleet: &Fleet, out: &mut impl Write) -> io::Result<()> {
    // Finds the newest bundle and applies it as an operator would by hand; prints seconds.
    let bare = "cd /var/lib/magpie; tree=$(ls -td bundles/*/tree | head -1); mkdir -p /run/bare; \
                rm -f /run/bare/production; ln -s $PWD/$tree /run/bare/production; start=$(date +%s%N); \
                FACTER_role=quick puppet apply --detailed-exitcodes --environmentpath /run/bare --environment production \
                /run/bare/production/manifests/site.pp >/dev/null; echo seconds $(( $(date +%s%N) - start ))";
    let (mut by_hand, mut by_magpie) = (Vec::new(), Vec::new());
    for _ in 0..=REPEATS {
        let said = fleet.ok(&["run", "quick-1", "--", "sh", "-c", bare]);
        let nanoseconds: f64 =
            said.split_whitespace().next_back().and_then(|word| word.parse().ok()).expect("a time");
        by_hand.push(nanoseconds / 1e9);
        by_magpie.extend(timed(1, || drop(fleet.ok(&["apply", "quick-1"]))));
    }
    // The first run of each warms caches.
    row(out, "bare `puppet apply`, nothing to change", &by_hand[1..])?;
    row(out, "`ctl apply`, nothing to change", &by_magpie[1..])?;
    let overhead = median(&by_magpie[1..]) - median(&by_hand[1..]);
    writeln!(out, "| overhead of Magpie (difference of medians) | {:.0} ms | |", overhead * 1000.0)
}

fn timed(times: usize, mut work: impl FnMut()) -> Vec<f64> {
    (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect()
}

fn row(out: &mut impl Write, what: &str, seconds: &[f64]) -> io::Result<()> {
    let (low, high) = seconds.iter().fold((f64::MAX, 0f64), |(low, high), s| (low.min(*s), high.max(*s)));
    writeln!(out, "| {what} | {:.3} s | {low:.3}–{high:.3} |", median(seconds))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
