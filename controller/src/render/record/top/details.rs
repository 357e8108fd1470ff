//! The details popup of one process.

use std::sync::Arc;

use ratatui::{
    Frame,
    layout::Rect,
    text::Line,
    widgets::{Block, Clear, Paragraph, Wrap},
};
use record::{Identity, Process, Sample};

use super::{Look, cells, exits::ending};
use crate::{
    record::{
        names::{unit, user_name},
        time::started,
        top::State,
    },
    render::text::{duration, printable, size},
};

/// Draws the details over the process table.
pub(super) fn draw(frame: &mut Frame, area: Rect, state: &State, identity: Identity, look: &Look) {
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(format!(" process {} ", identity.pid));
    let width = usize::from(block.inner(area).width);
    let mut lines = match find(state.timeline.current(), identity) {
        Some(process) => about(process, state, look),
        None => vec![Line::raw(absent(state, identity, look))],
    };
    lines.extend(histories(state, identity, width));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

fn find(sample: Option<&Arc<Sample>>, identity: Identity) -> Option<&Process> {
    let processes = &sample?.processes;
    let index = processes.binary_search_by_key(&identity, |process| process.identity).ok()?;
    Some(&processes[index])
}

fn about<'a>(process: &Process, state: &State, look: &Look) -> Vec<Line<'a>> {
    let command = process.command.as_deref().map_or_else(|| format!("[{}]", process.comm), str::to_owned);
    let cgroup = process.cgroup.as_deref().unwrap_or("-");
    let unit = unit(cgroup).map(|unit| format!("  unit {unit}")).unwrap_or_default();
    let since = state.timeline.current().map_or_else(String::new, |sample| {
        cells::date(started(sample, process.identity).as_millisecond(), &look.zone)
    });
    let kib = |kib: Option<u64>| cells::or_dash(kib.map(cells::kib));
    let bytes = |bytes: Option<u64>| cells::or_dash(bytes.map(size));
    let wait = cells::or_dash(process.wait_us.map(|us| duration(us / 1_000)));
    [
        command,
        format!("control group {cgroup}{unit}"),
        format!(
            "user {}  parent {}  started {since}  state {}  threads {}",
            user_name(process),
            process.parent,
            char::from(process.state),
            process.threads
        ),
        format!(
            "cpu {} user, {} system, {wait} waited for a CPU",
            duration(process.user_us / 1_000),
            duration(process.system_us / 1_000)
        ),
        format!(
            "footprint {}  swap {}  rss {} (anon {}, file {}, shmem {})  virtual {}",
            cells::kib(process.footprint_kib()),
            kib(process.swap_kib),
            cells::kib(process.resident_kib),
            kib(process.anon_kib),
            kib(process.file_kib),
            kib(process.shmem_kib),
            cells::kib(process.virtual_kib)
        ),
        format!(
            "read {}  written {} (with exited children)  major faults {}",
            bytes(process.read_bytes),
            bytes(process.written_bytes),
            process.major_faults
        ),
    ]
    .into_iter()
    .map(|line| Line::raw(printable(&line)))
    .collect()
}

/// Why the process is missing from the current sample.
fn absent(state: &State, identity: Identity, look: &Look) -> String {
    let exits =
        state.timeline.samples().flat_map(|sample| sample.exits.iter().map(move |exit| (sample, exit)));
    let known = exits.into_iter().find(|(_, exit)| exit.identity == identity);
    match known {
        Some((sample, exit)) => format!(
            "not running at this time: {} until {}, {}",
            printable(&exit.comm),
            cells::clock(sample.wall_ms, &look.zone),
            ending(exit.status),
        ),
        None => "not running at this time".into(),
    }
}

/// CPU and footprint over the window, newest at the right.
fn histories<'a>(state: &State, identity: Identity, width: usize) -> Vec<Line<'a>> {
    let samples: Vec<_> = state.timeline.samples().collect();
    let seen: Vec<_> = samples.iter().map(|sample| find(Some(sample), identity)).collect();
    let shares = (0..samples.len()).map(|index| {
        let (sample, process) = (samples[index], seen[index]?);
        let (before, then) = (state.timeline.before(index)?, seen[index.checked_sub(1)?]?);
        let elapsed_us = sample.boottime_ns.saturating_sub(before.boottime_ns) as f64 / 1e3;
        Some(100.0 * process.cpu_us().saturating_sub(then.cpu_us()) as f64 / elapsed_us)
    });
    let sizes = seen.iter().map(|process| process.map(|process| process.footprint_kib() as f64));
    let cpu: Vec<_> = shares.collect();
    let footprint: Vec<_> = sizes.collect();
    let room = width.saturating_sub(1);
    vec![
        Line::raw(""),
        Line::raw(format!("CPU, peak {} %", cells::percent(highest(&cpu)))),
        Line::raw(graph(&cpu, room)),
        Line::raw(format!("footprint, peak {}", cells::kib(highest(&footprint) as u64))),
        Line::raw(graph(&footprint, room)),
    ]
}

fn highest(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(0.0, f64::max)
}

/// A one-line graph, scaled to the highest value. Each cell shows the maximum of its values.
fn graph(values: &[Option<f64>], width: usize) -> String {
    let top = highest(values).max(f64::MIN_POSITIVE);
    let per = values.len().div_ceil(width.max(1)).max(1);
    let cell = |values: &[Option<f64>]| {
        let known = values.iter().any(Option::is_some);
        cells::level(known.then(|| 100.0 * highest(values) / top))
    };
    values.chunks(per).map(cell).collect()
}
