//! The header lines: time, host, and recorder health.

use std::fmt::Write as _;

use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};
use record::{Basis, HostCounters, Sample};

use super::{Look, cells, label};
use crate::{
    record::top::{CpuShares, HostRates, Link, Pressure, State, Swap, Tasks},
    render::text::{duration, printable},
};

/// Height of the header.
pub(super) const LINES: u16 = 6;
/// Width of a bar, in cells.
const BAR: usize = 18;
/// A sample older than this many intervals is no longer "live".
const LATE: i64 = 3;

/// Renders the header for the current sample.
pub(super) fn lines<'a>(state: &'a State, look: &'a Look, width: u16) -> Vec<Line<'a>> {
    let mut lines = vec![moment(state, look, width.into())];
    let Some(sample) = state.timeline.current() else { return lines };
    let rates = HostRates::of(state.timeline.previous().map(|previous| &**previous), sample);
    lines.push(cpu(&rates, &sample.host, look));
    lines.push(memory(&rates, look));
    lines.push(swap(rates.swap, look));
    lines.push(pressure(&rates, look));
    lines.push(recorder(sample, &rates, state, look));
    lines
}

/// Host, time, and age of the sample; on the right, the state of the connection.
fn moment<'a>(state: &'a State, look: &'a Look, width: usize) -> Line<'a> {
    let mut spans = vec![Span::styled(printable(&state.title), Style::new().add_modifier(Modifier::BOLD))];
    if let Some(sample) = state.timeline.current() {
        spans.push(Span::raw(format!("  {}  ", cells::date(sample.wall_ms, &look.zone))));
        spans.push(how_far(state, sample, look));
        if sample.is_part_of_machine() {
            spans.push(Span::styled("  * of the whole machine", look.warn()));
        }
    }
    let (text, style) = link(state, look);
    let left = Line::from(spans);
    let gap = width.saturating_sub(left.width() + text.chars().count());
    let mut line = left;
    line.push_span(Span::raw(" ".repeat(gap.max(2))));
    line.push_span(Span::styled(text, style));
    line
}

fn how_far<'a>(state: &State, sample: &Sample, look: &Look) -> Span<'a> {
    let back_ms = look.now_ms.saturating_sub(sample.wall_ms);
    let late = back_ms > i64::from(sample.interval_ms).saturating_mul(LATE);
    match state.link {
        Link::Connecting | Link::Up if state.timeline.is_live() && !late => Span::styled("live", look.good()),
        _ => Span::styled(format!("{} ago", duration(back_ms.max(0) as u64)), look.warn()),
    }
}

fn link(state: &State, look: &Look) -> (String, Style) {
    match &state.link {
        _ if state.is_loading() => ("reading …".into(), Style::new()),
        Link::Connecting => ("connecting …".into(), look.warn()),
        Link::Up if state.timeline.is_live() => (String::new(), Style::new()),
        Link::Up => ("End: live".into(), Style::new()),
        Link::Down(_) => ("NO CONNECTION".into(), look.bad()),
        Link::Disk => ("from disk".into(), Style::new()),
    }
}

/// Picks the label: `own` for the host's own value, `of_machine` (with `*`) for a machine-wide one.
fn whose<'a>(own: &'a str, of_machine: &'a str, is_own: bool, look: &Look) -> Span<'a> {
    label(if is_own { own } else { of_machine }, look)
}

fn cpu<'a>(rates: &HostRates, host: &HostCounters, look: &'a Look) -> Line<'a> {
    let mut spans = vec![whose("CPU  ", "CPU* ", !rates.is_part, look)];
    let shares = rates.cpu;
    let CpuShares { user, system, iowait, steal } = shares.unwrap_or_default();
    let parts = [(user, '█'), (system, '▓'), (iowait, '▒'), (steal, '░')];
    spans.extend(bar(&parts, [look.good(), look.bad(), look.warn(), look.label()]));
    spans.push(Span::raw(match shares {
        Some(shares) => {
            format!(" {:>3.0} %  us {user:.0} sy {system:.0} wa {iowait:.0} st {steal:.0}", shares.busy())
        }
        None => "   - %".into(),
    }));
    let load = |value: Option<u64>| cells::or_dash(value.map(|value| format!("{:.2}", value as f64 / 100.0)));
    let cpus = host.cpus.map(|cpus| format!("/{cpus}")).unwrap_or_default();
    spans.push(whose("  load ", "  load* ", !rates.is_part, look));
    spans.push(Span::raw(format!(
        "{} {} {}{cpus}",
        load(host.load_1),
        load(host.load_5),
        load(host.load_15)
    )));
    Line::from(spans)
}

fn memory<'a>(rates: &HostRates, look: &'a Look) -> Line<'a> {
    let mut spans = vec![label("Mem  ", look)];
    let memory = rates.memory;
    let (limit_kib, used_kib) = memory.map_or((1, 0), |memory| (memory.limit_kib, memory.used_kib));
    let cache_kib = memory.and_then(|memory| memory.cache_kib);
    let share = |kib: u64| 100.0 * kib as f64 / limit_kib as f64;
    let grade = look.graded(share(used_kib), 80.0, 95.0);
    spans.extend(bar(&[(share(used_kib), '█'), (share(cache_kib.unwrap_or(0)), '░')], [grade, look.label()]));
    match memory {
        Some(memory) => {
            let how = if memory.basis == Basis::Processes { " held" } else { "" };
            let of = match (memory.basis, memory.shares_limit) {
                (Basis::Machine, _) => "",
                (_, false) => "limit ",
                (_, true) => "machine's ",
            };
            spans.push(Span::raw(format!(
                " {:>5}{how} of {of}{}",
                cells::kib(used_kib),
                cells::kib(limit_kib)
            )));
        }
        None => spans.push(Span::raw("     -")),
    }
    if let Some(cache_kib) = cache_kib {
        spans.push(Span::raw(format!("  cache {}", cells::kib(cache_kib))));
    }
    let count = |value: Option<u64>| cells::or_dash(value.map(|value| value.to_string()));
    let Tasks { all, running, blocked } = rates.tasks;
    spans.push(label("  tasks ", look));
    spans.push(Span::raw(count(all)));
    spans.push(label(" run ", look));
    spans.push(Span::raw(count(running)));
    spans.push(label(" blocked ", look));
    spans.push(Span::styled(count(blocked), look.graded(blocked.unwrap_or(0) as f64, 1.0, 8.0)));
    Line::from(spans)
}

fn swap<'a>(swap: Option<Swap>, look: &'a Look) -> Line<'a> {
    let is_own = swap.is_none_or(|swap| swap.is_own);
    let mut spans = vec![whose("Swap ", "Swap*", is_own, look)];
    let Some(Swap { total_kib, used_kib, in_rate, out_rate, .. }) = swap.filter(|swap| swap.total_kib > 0)
    else {
        spans.push(Span::raw(if is_own { "none" } else { " none" }));
        return Line::from(spans);
    };
    let share = 100.0 * used_kib as f64 / total_kib as f64;
    spans.extend(bar(&[(share, '█')], [look.graded(share, 50.0, 90.0)]));
    spans.push(Span::raw(format!(" {:>5} of {}", cells::kib(used_kib), cells::kib(total_kib))));
    for (name, rate) in [("  in ", in_rate), (" out ", out_rate)] {
        let text = cells::or_dash(rate.map(|kib| format!("{}/s", cells::rate(kib * 1024.0))));
        spans.push(label(name, look));
        spans.push(Span::styled(text, look.graded(rate.unwrap_or(0.0), 256.0, 4096.0)));
    }
    Line::from(spans)
}

/// Pressure stalls (some/all tasks) as shares of the interval, and the busiest disks.
fn pressure<'a>(rates: &HostRates, look: &'a Look) -> Line<'a> {
    let Pressure { cpu_some, memory_some, memory_full, memory_is_own, io_some, io_full } = rates.pressure;
    let own = !rates.is_part;
    let mut spans = vec![label("PSI  ", look)];
    for (name, some, full) in [
        (whose("cpu ", "cpu* ", own, look), cpu_some, None),
        (whose("  memory ", "  memory* ", memory_is_own, look), memory_some, memory_full),
        (whose("  io ", "  io* ", own, look), io_some, io_full),
    ] {
        spans.push(name);
        let mut text = cells::or_dash(some.map(|some| format!("{some:.0}")));
        if let Some(full) = full {
            let _ = write!(text, "/{full:.0}");
        }
        spans.push(Span::styled(text + " %", look.graded(some.unwrap_or(0.0), 10.0, 40.0)));
    }
    for (name, busy) in rates.disks.iter().take(3) {
        let mark = if own { "" } else { "*" };
        spans.push(Span::styled(format!("  {}{mark} ", printable(name)), look.label()));
        spans.push(Span::styled(format!("{busy:.0} %"), look.graded(*busy, 60.0, 90.0)));
    }
    Line::from(spans)
}

/// Recorder health: completeness, lateness, own CPU use, losses.
fn recorder<'a>(sample: &Sample, rates: &HostRates, state: &State, look: &'a Look) -> Line<'a> {
    let seen = sample.processes.len() as u64;
    let ms = |ns: u64| duration(ns / 1_000_000);
    let mut spans = vec![
        label("Rec  ", look),
        Span::raw(format!("{}  seen ", sample.collector.name())),
        Span::styled(
            format!("{seen} of {}", sample.listed),
            if seen < sample.listed { look.warn() } else { Style::new() },
        ),
        Span::raw("  late "),
        Span::styled(ms(sample.late_ns), look.graded(sample.late_ns as f64 / 1e6, 200.0, 1_000.0)),
        Span::raw(format!("  sweep {}", ms(sample.sweep_ns))),
    ];
    if let Some(own) = rates.own_percent {
        spans.push(Span::raw(format!("  own cpu {own:.1} %")));
    }
    if sample.fast {
        spans.push(Span::styled("  FAST", look.warn()));
    }
    let gaps = state.marks().iter().filter(|mark| mark.kind == crate::record::top::MarkKind::Gap).count();
    for (count, what) in
        [(gaps as u64, "gaps"), (sample.dropped, "dropped"), (sample.exits_lost.unwrap_or(0), "exits lost")]
    {
        if count > 0 {
            spans.push(Span::styled(format!("  {what} {count}"), look.warn()));
        }
    }
    let missing: Vec<_> = sample.sources.missing().collect();
    if !missing.is_empty() {
        spans.push(Span::styled(format!("  without {}", missing.join(", ")), super::dim()));
    }
    Line::from(spans)
}

fn bar<'a, const N: usize>(parts: &[(f64, char); N], styles: [Style; N]) -> Vec<Span<'a>> {
    let mut spans = vec![Span::raw("[")];
    let cells = cells::bar(parts, BAR).into_iter();
    let styles = styles.into_iter().chain([Style::new()]);
    spans.extend(
        cells
            .zip(styles)
            .map(|((count, symbol), style)| Span::styled(symbol.to_string().repeat(count), style)),
    );
    spans.push(Span::raw("]"));
    spans
}
