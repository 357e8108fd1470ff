//! The lines at the top: the moment, the host, and how well the recorder saw it.

use std::fmt::Write as _;

use proto::history::{HostCounters, Sample};
use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::{
    super::text::{duration, printable},
    Look, cells, label,
};
use crate::top::{CpuShares, HostRates, Link, Memory, Pressure, State, Swap};

/// Lines that it has.
pub(super) const LINES: u16 = 6;
/// Width of a bar.
const BAR: usize = 18;
/// Intervals after which a host that should be live is not.
const LATE: i64 = 3;

/// The header of what is looked at.
pub(super) fn lines<'a>(state: &'a State, look: &'a Look, width: u16) -> Vec<Line<'a>> {
    let mut lines = vec![moment(state, look, width.into())];
    let Some(sample) = state.timeline.current() else { return lines };
    let rates = HostRates::of(state.timeline.previous().map(|previous| &**previous), sample);
    lines.push(cpu(rates.cpu, &sample.host, look));
    lines.push(memory(rates.memory, sample, look));
    lines.push(swap(rates.swap, look));
    lines.push(pressure(&rates.pressure, &rates, look));
    lines.push(recorder(sample, &rates, state, look));
    lines
}

/// The host, the time, and how far back that is; at the right, where new samples come from.
fn moment<'a>(state: &'a State, look: &'a Look, width: usize) -> Line<'a> {
    let mut spans = vec![Span::styled(printable(&state.title), Style::new().add_modifier(Modifier::BOLD))];
    if let Some(sample) = state.timeline.current() {
        spans.push(Span::raw(format!("  {}  ", cells::date(sample.wall_ms, &look.zone))));
        spans.push(how_far(state, sample, look));
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

fn cpu<'a>(shares: Option<CpuShares>, host: &HostCounters, look: &'a Look) -> Line<'a> {
    let mut spans = vec![label("CPU  ", look)];
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
    spans.push(label("  load ", look));
    spans.push(Span::raw(format!(
        "{} {} {}{cpus}",
        load(host.load_1),
        load(host.load_5),
        load(host.load_15)
    )));
    Line::from(spans)
}

fn memory<'a>(memory: Option<Memory>, sample: &Sample, look: &'a Look) -> Line<'a> {
    let mut spans = vec![label("Mem  ", look)];
    let Memory { limit_kib, used_kib, cache_kib, container } = memory.unwrap_or_default();
    let share = |kib: u64| 100.0 * kib as f64 / limit_kib.max(1) as f64;
    let grade = look.graded(share(used_kib), 80.0, 95.0);
    spans.extend(bar(&[(share(used_kib), '█'), (share(cache_kib), '░')], [grade, look.label()]));
    if memory.is_some() {
        let of = if container { "limit " } else { "" };
        spans.push(Span::raw(format!(" {:>5} of {of}{}", cells::kib(used_kib), cells::kib(limit_kib))));
        if !container {
            spans.push(Span::raw(format!("  cache {}", cells::kib(cache_kib))));
        }
    }
    let host = &sample.host;
    let count = |value: Option<u64>| cells::or_dash(value.map(|value| value.to_string()));
    spans.push(label("  tasks ", look));
    spans.push(Span::raw(count(host.cgroup_tasks.or(host.tasks))));
    spans.push(label(" run ", look));
    spans.push(Span::raw(count(host.running)));
    spans.push(label(" blocked ", look));
    spans.push(Span::styled(count(host.blocked), look.graded(host.blocked.unwrap_or(0) as f64, 1.0, 8.0)));
    Line::from(spans)
}

fn swap<'a>(swap: Option<Swap>, look: &'a Look) -> Line<'a> {
    let mut spans = vec![label("Swap ", look)];
    let Some(Swap { total_kib, used_kib, in_rate, out_rate }) = swap.filter(|swap| swap.total_kib > 0) else {
        spans.push(Span::raw("none"));
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

/// Shares of the interval in which some, or all, waited; and the disks.
fn pressure<'a>(pressure: &Pressure, rates: &HostRates, look: &'a Look) -> Line<'a> {
    let Pressure { cpu_some, memory_some, memory_full, io_some, io_full } = *pressure;
    let mut spans = vec![label("PSI  ", look)];
    for (name, some, full) in
        [("cpu ", cpu_some, None), ("  memory ", memory_some, memory_full), ("  io ", io_some, io_full)]
    {
        spans.push(label(name, look));
        let mut text = cells::or_dash(some.map(|some| format!("{some:.0}")));
        if let Some(full) = full {
            let _ = write!(text, "/{full:.0}");
        }
        spans.push(Span::styled(text + " %", look.graded(some.unwrap_or(0.0), 10.0, 40.0)));
    }
    for (name, busy) in rates.disks.iter().take(3) {
        spans.push(Span::styled(format!("  {} ", printable(name)), look.label()));
        spans.push(Span::styled(format!("{busy:.0} %"), look.graded(*busy, 60.0, 90.0)));
    }
    Line::from(spans)
}

/// What the recorder says of itself.
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
    let gaps = state.marks().iter().filter(|mark| mark.kind == crate::top::MarkKind::Gap).count();
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
