//! Formats the results as Markdown.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::{Pusher, ROUNDS, Times, magpie::Phases, tree};

/// Goals for Magpie's later pushes, in seconds: unchanged, and with one changed file.
const UNCHANGED: f64 = 0.1;
const ONE_CHANGED: f64 = 0.15;

/// Writes the section. The first of `pushers` must be Magpie, the second tar over ssh.
pub(crate) fn write(
    out: &mut impl Write,
    pushers: &[Box<dyn Pusher>],
    times: Vec<Times>,
    skipped: &[&str],
) -> io::Result<()> {
    let rows: Vec<[f64; 3]> = times
        .into_iter()
        .map(|times| [times.first, times.again, times.changed].map(|column| median(column).as_secs_f64()))
        .collect();
    writeln!(out, "## Bringing a Puppet tree to a host\n")?;
    writeln!(
        out,
        "3,000 files, {} MB, over loopback; seconds, medians of {ROUNDS} rounds in turn, and how many times Magpie's.\n",
        tree::BYTES / 1_000_000
    )?;
    writeln!(out, "| | first | unchanged | one file changed |\n|---|---|---|---|")?;
    for (pusher, row) in pushers.iter().zip(&rows) {
        write!(out, "| {} |", pusher.name().replace('|', "\\|"))?;
        for (time, magpie) in row.iter().zip(&rows[0]) {
            write!(out, " {time:.3} ({:.1}×) |", time / magpie)?;
        }
        writeln!(out)?;
    }
    skipped.iter().try_for_each(|name| writeln!(out, "| {name} | skipped: not installed | | |"))?;
    phases(out, pushers[0].phases())?;
    verdict(out, &rows[0], &rows[1])
}

/// Picks one part of a push.
type Part = fn(&Phases) -> Duration;

/// Parts of Magpie's time; its pushes come in groups of three.
fn phases(out: &mut impl Write, all: &[Phases]) -> io::Result<()> {
    let parts: [(&str, Part); 3] = [
        ("list and hash the tree, ask git", |phases| phases.make),
        ("TCP and TLS 1.3, both sides proved", |phases| phases.connect),
        ("offer, upload, store, force to the disk", |phases| phases.push),
    ];
    writeln!(out, "\n| Magpie's parts | first | unchanged | one file changed |\n|---|---|---|---|")?;
    for (name, part) in parts {
        let [first, again, changed] = [0, 1, 2]
            .map(|column| median(all.iter().skip(column).step_by(3).map(part).collect()).as_secs_f64());
        writeln!(out, "| {name} | {first:.3} | {again:.3} | {changed:.3} |")?;
    }
    let sent: Vec<String> = all[all.len() - 3..]
        .iter()
        .map(|phases| format!("{} blobs, {} kB", phases.blobs, phases.bytes / 1000))
        .collect();
    writeln!(out, "| sent in the last round | {} |", sent.join(" | "))
}

fn verdict(out: &mut impl Write, magpie: &[f64; 3], tar: &[f64; 3]) -> io::Result<()> {
    let say = |reached: bool| if reached { "reached" } else { "missed" };
    writeln!(
        out,
        "\nHeld to: a first push no slower than tar ({}), unchanged under {UNCHANGED} s ({}), one file changed under {ONE_CHANGED} s ({}). \
         Each push of Magpie's hashes the whole tree and makes a new connection with mutual TLS to a separate `agent serve` process; only Magpie \
         forces what it stored to the disk, and it does so within its time, while the others leave theirs to the kernel. A first push is the making of \
         3,000 files, for everyone. After that Magpie's time is spent on reading: the tree on the controller, and on the host, when one file \
         changed, the 2,999 kept ones, which are hashed before they are linked into the new bundle.\n",
        say(magpie[0] <= tar[0]),
        say(magpie[1] < UNCHANGED),
        say(magpie[2] < ONE_CHANGED),
    )
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
