//! Formats the results as Markdown.

use std::io::{self, Write};

use crate::{
    Plan, Result,
    churn::{self, Churn},
    measure::Cost,
    queries::{Answered, Answers},
    recorders::BELOW_CHUNK,
    sizes::{BUSY, Cell, HELD, Outcome, PEER_SECONDS},
};

/// A table of all recorders and workloads: its caption, and its figure, if known.
type Table = (&'static str, fn(&Cost) -> Option<f64>);

const TABLES: [Table; 3] = [
    ("CPU a sample, ms", |cost| Some(cost.cpu_ms())),
    ("bytes a sample, kB", |cost| cost.bytes.map(|bytes| bytes / 1e3)),
    ("memory, MB RSS", |cost| Some(megabytes(cost.resident_kib))),
];

/// Tables of all recorders at all sizes, and the goals.
pub(crate) fn sizes(out: &mut impl Write, cells: &[Cell], plan: &Plan) -> Result<()> {
    writeln!(
        out,
        "One sample a second of every process, each recorder alone, in turn, on processes that sleep (idle) or of which {BUSY} wake 10 to 20 times a second and \
         work for up to a millisecond (busy). In parentheses how many times the figure of Magpie's first row. The machine's own processes, {} when it \
         began, come on top.\n",
        cells.first().map_or(0, |cell| cell.listed - cell.processes),
    )?;
    for table in TABLES {
        self::table(out, cells, table)?;
    }
    parts(out, cells)?;
    skipped(out, cells)?;
    goals(out, cells)?;
    writeln!(
        out,
        "\nCPU time is the kernel's account of a control group that holds the recorder and all that it starts; what the kernel does within a call is its caller's. \
         Magpie is watched for {} s, once it has read all command lines, the others for {PEER_SECONDS} (`below` with its dictionary for {BELOW_CHUNK}, a whole chunk). Of Magpie's \
         figures, those that are busy with 2,000 processes or more are medians of {} runs, of the others' those that are busy with 2,000; every other figure is of one run. \
         Memory is the most that was seen, of all processes of the recorder together. Bytes are what the store grew by, but Magpie's are foretold: it turns its newest samples into \
         blocks of hundreds, which no run here is long enough to see. The samples of the run are sealed by its own code, and what one more sample adds and what a block's first one \
         costs are put together as in a full block; the CPU time to compress is added. Checked by hand against blocks of 230 samples of the busy 2,000 alone: 373 to 449 bytes \
         foretold and 410 taken with BPF, 188 to 255 and 232 with /proc. What other processes of the machine do comes on top: while it compiled (38 ends and 4 new processes a second) \
         whole blocks took 1,144 to 1,488 and 1,061 to 1,104 bytes a sample. Only Magpie forces each sample to the disk within its time. \
         `pidstat` is told to print idle processes too (`-p ALL`), as the others record them. `ps` is sorted and appended to a file.\n\n\
         A profile taken by hand (perf, 2026-11-27, 2,000 processes, busy, on a machine that others used) found with BPF 29 % of the time in the program that reads each task, 50 % \
         elsewhere in the kernel (20 % in `get_pid_task` and `pid_nr_ns`, which are not the recorder's) and 19 % in the recorder's own code; with /proc 84 % in the kernel and 15 % in the \
         recorder's own code. 3.5 MB of the memory are pages of the program's file and of libraries.\n\n\
         Taken apart by hand (2026-11-28, the time of each thread from /proc, medians of three runs of 15 s in turn): with BPF and 2,000 processes the recorder took 3.40 ms a \
         sample, and 1.81 ms with a program that returns before it reads anything; with 200 processes 1.01 and 0.88 ms. So a sample costs 0.7 ms whatever the number of processes, \
         a third of it to store it; each process costs 0.5 µs for the kernel's own walk from task to task, and 0.8 µs to be read, handed over and compared, from some 30 cache \
         lines that others have used for a second. Not to touch what the recorder knows of a process whose record is byte for byte the one before was tried, and took 4 % off at \
         10,000 processes: too little for what it would complicate. A walk along the kernel's list of tasks instead of its table of process ids would save most of the 0.5 µs; it \
         needs an iterator that kernels have since Linux 6.7, and is not made.\n",
        plan.seconds, plan.rounds,
    )?;
    Ok(())
}

fn table(out: &mut impl Write, cells: &[Cell], (caption, figure): Table) -> io::Result<()> {
    write!(out, "| {caption} |")?;
    for cell in cells {
        write!(out, " {} |", workload(cell))?;
    }
    writeln!(out, "\n|---|{}", "---|".repeat(cells.len()))?;
    for (row, (name, _)) in cells.iter().flat_map(|cell| &cell.rows).take(rows(cells)).enumerate() {
        write!(out, "| {name} |")?;
        for cell in cells {
            match (value(&cell.rows[row].1, figure), value(&cell.rows[0].1, figure)) {
                (Some(value), Some(ours)) => write!(out, " {} ({:.1}×) |", digits(value), value / ours)?,
                (Some(value), None) => write!(out, " {} |", digits(value))?,
                (None, _) => write!(out, " – |")?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn rows(cells: &[Cell]) -> usize {
    cells.first().map_or(0, |cell| cell.rows.len())
}

fn workload(cell: &Cell) -> String {
    format!("{} {}", thousands(cell.processes), if cell.busy > 0 { "busy" } else { "idle" })
}

/// Magpie's CPU time by thread.
fn parts(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    writeln!(
        out,
        "| where Magpie's time goes in the first run, ms a sample | user | kernel | by thread | locked address space, MB |\n|---|---|---|---|---|"
    )?;
    for cell in cells {
        for (name, outcome) in cell.rows.iter().filter(|(name, _)| name.starts_with("magpie")) {
            let Outcome::Measured(costs) = outcome else { continue };
            let Some(cost) = costs.first() else { continue };
            let threads = cost.threads.iter().map(|(name, ms)| format!("{name} {}", digits(*ms)));
            writeln!(
                out,
                "| {name}, {} | {} | {} | {} | {} |",
                workload(cell),
                digits(cost.user_ms),
                digits(cost.system_ms),
                threads.collect::<Vec<_>>().join(", "),
                digits(megabytes(cost.locked_kib))
            )?;
        }
    }
    writeln!(out)
}

fn skipped(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    for cell in cells {
        for (name, outcome) in &cell.rows {
            if let Outcome::Skipped(why) = outcome {
                writeln!(out, "- {}: skipped {name}: {}", workload(cell), why.replace('\n', " "))?;
            }
        }
    }
    writeln!(out)
}

/// A goal: description, row, workload, figure and limit.
type Goal = (&'static str, usize, (usize, usize), fn(&Cost) -> Option<f64>, f64);

const GOALS: [Goal; 8] = [
    ("CPU with BPF, 2,000 busy, at most 3 ms", 0, (HELD, BUSY), |cost| Some(cost.cpu_ms()), 3.0),
    ("CPU with /proc, 2,000 busy, at most 20 ms", 1, (HELD, BUSY), |cost| Some(cost.cpu_ms()), 20.0),
    ("CPU with BPF, 10,000 idle, under 12 ms", 0, (10_000, 0), |cost| Some(cost.cpu_ms()), 12.0),
    ("CPU with BPF, 10,000 busy, under 12 ms", 0, (10_000, BUSY), |cost| Some(cost.cpu_ms()), 12.0),
    (
        "on disk with BPF, 2,000 busy, at most 1.5 kB",
        0,
        (HELD, BUSY),
        |cost| cost.bytes.map(|bytes| bytes / 1e3),
        1.5,
    ),
    (
        "on disk with /proc, 2,000 busy, at most 1.5 kB",
        1,
        (HELD, BUSY),
        |cost| cost.bytes.map(|bytes| bytes / 1e3),
        1.5,
    ),
    ("RSS with BPF, 2,000 busy, under 8 MB", 0, (HELD, BUSY), |cost| Some(megabytes(cost.resident_kib)), 8.0),
    (
        "RSS with /proc, 2,000 busy, under 8 MB",
        1,
        (HELD, BUSY),
        |cost| Some(megabytes(cost.resident_kib)),
        8.0,
    ),
];

fn goals(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    writeln!(out, "| held to | measured | |\n|---|---|---|")?;
    for (words, row, workload, figure, limit) in GOALS {
        let cell = cells.iter().find(|cell| (cell.processes, cell.busy) == workload);
        let measured = cell.and_then(|cell| value(&cell.rows[row].1, figure));
        match measured {
            Some(measured) => {
                writeln!(out, "| {words} | {} | {} |", digits(measured), verdict(measured <= limit))?
            }
            None => writeln!(out, "| {words} | not measured | |")?,
        }
    }
    Ok(())
}

/// The table about short-lived processes.
pub(crate) fn churn(
    out: &mut impl Write,
    churns: impl Iterator<Item = (&'static str, Result<Churn>)>,
) -> io::Result<()> {
    writeln!(
        out,
        "### Processes that live for a moment\n\n{} a second, made by shells that fork and wait.\n\n\
         | | made | a second | recorded | lost, says the kernel | one core, before | meanwhile | under 15 % |\n|---|---|---|---|---|---|---|---|",
        thousands(churn::RATE as usize)
    )?;
    for (name, churn) in churns {
        match churn {
            Ok(churn) => writeln!(
                out,
                "| {name} | {} | {:.0} | {} | {} | {:.1} % | {:.1} % | {} |",
                churn.made,
                churn.made as f64 / churn.seconds,
                churn.recorded,
                churn.lost.map_or_else(|| "–".to_owned(), |lost| lost.to_string()),
                churn.quiet_share * 100.0,
                churn.share * 100.0,
                verdict(churn.share < 0.15)
            )?,
            Err(error) => writeln!(out, "| {name} | skipped: {error} | | | | | | |")?,
        }
    }
    writeln!(out)
}

/// The table of queries over a day.
pub(crate) fn queries(out: &mut impl Write, answers: &Answers) -> io::Result<()> {
    writeln!(
        out,
        "### A day's record\n\n{} samples of 500 processes, a tenth of them busy, some that come and go, made up by a model of a web host: {:.1} MB, \
         {:.0} bytes a sample, made and written in {:.0} s. `ctl cpu-log --from-dir`, the whole command; medians of {} runs, the files in the page cache.\n\n\
         | query | seconds | range | lines | held to |\n|---|---|---|---|---|",
        thousands(answers.samples as usize),
        answers.bytes as f64 / 1e6,
        answers.bytes as f64 / answers.samples as f64,
        answers.written_seconds,
        crate::queries::REPEATS,
    )?;
    for (query, result) in &answers.queries {
        match result {
            Ok(Answered { times, lines }) => {
                let (low, high) =
                    times.iter().fold((f64::MAX, 0f64), |(low, high), s| (low.min(*s), high.max(*s)));
                let median = median(times.clone());
                writeln!(
                    out,
                    "| {}: `{}` | {median:.3} | {low:.3}–{high:.3} | {lines} | {} s: {} |",
                    query.name,
                    query.arguments.join(" "),
                    query.goal,
                    verdict(median <= query.goal)
                )?;
            }
            Err(error) => writeln!(out, "| {}: {} | | | | |", query.name, error.replace('\n', " "))?,
        }
    }
    writeln!(out)
}

fn value(outcome: &Outcome, figure: fn(&Cost) -> Option<f64>) -> Option<f64> {
    match outcome {
        Outcome::Measured(costs) => {
            let values: Vec<f64> = costs.iter().filter_map(figure).collect();
            (!values.is_empty()).then(|| median(values))
        }
        Outcome::Skipped(_) => None,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// Formats a number with about three significant digits.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}
