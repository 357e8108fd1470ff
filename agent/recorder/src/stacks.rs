//! Where tasks wait in the kernel: their stacks, while the host is short of memory or I/O.
//!
//! A task in state D says only that it waits; its stack says for what: a page from swap, a slot in a queue, a lock.

use std::fmt::Write;

use record::{HostCounters, Process};

use super::proc::Directory;

/// Maximum number of tasks in one reading.
pub(super) const MOST: usize = 20;
/// Maximum number of kernel functions recorded for a task.
const DEPTH: usize = 12;
/// Share of time in which all tasks waited, above which stacks are read, in percent.
const STALLED_PERCENT: u64 = 10;

/// Decides when to read stacks.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    last: Option<(u64, [Option<u64>; 2])>,
}

impl Stalls {
    /// Whether all tasks waited for memory or I/O for much of the time since the last call. `now_ns` is since boot.
    pub(super) fn note(&mut self, now_ns: u64, host: &HostCounters) -> bool {
        let full = [host.pressure_memory_full_us, host.pressure_io_full_us];
        let Some((then_ns, before)) = self.last.replace((now_ns, full)) else { return false };
        let elapsed_us = now_ns.saturating_sub(then_ns) / 1_000;
        let waited = before.into_iter().zip(full).filter_map(|(before, now)| now?.checked_sub(before?));
        waited.max().is_some_and(|us| us.saturating_mul(100) > elapsed_us.saturating_mul(STALLED_PERCENT))
    }
}

/// Pids and names of the first tasks that wait uninterruptibly; kernel threads do not count: they wait for work.
pub(super) fn waiting(processes: &[Process]) -> impl Iterator<Item = &Process> {
    processes.iter().filter(|process| process.state == b'D' && process.command.is_some()).take(MOST)
}

/// Appends a line for a task: its pid, its name, and the functions that it waits in, innermost first. Nothing if the
/// stack cannot be read (it takes CAP_SYS_ADMIN) or the task no longer waits.
pub(super) fn read(directory: &Directory, pid: u32, comm: &str, buffer: &mut [u8], text: &mut String) {
    let Ok(bytes) = directory.read(pid, "stack", buffer) else { return };
    let bytes = String::from_utf8_lossy(bytes);
    let mut functions = functions(&bytes).take(DEPTH).peekable();
    if functions.peek().is_none() {
        return;
    }
    let _ = write!(text, "{pid} {comm}:");
    for function in functions {
        let _ = write!(text, " {function}");
    }
    text.push('\n');
}

/// The functions in /proc/PID/stack: `[<0>] folio_wait_bit_common+0x13d/0x350`.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (_, symbol) = line.split_once("] ")?;
        let name = symbol.split('+').next()?;
        (!name.is_empty() && !name.starts_with("0x")).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn functions_are_named_without_addresses() {
        let text = "[<0>] folio_wait_bit_common+0x13d/0x350\n[<0>] do_swap_page+0x1/0x2 [zram]\n[<0>] 0xffffffffffffffff\n";
        assert_eq!(functions(text).collect::<Vec<_>>(), ["folio_wait_bit_common", "do_swap_page"]);
    }

    #[test]
    fn stacks_are_wanted_while_all_tasks_wait() {
        let host = |memory, io| HostCounters {
            pressure_memory_full_us: memory,
            pressure_io_full_us: Some(io),
            ..HostCounters::default()
        };
        let second = 1_000_000_000;
        let mut stalls = Stalls::default();
        assert!(!stalls.note(second, &host(Some(900_000), 0)), "there is nothing to compare with");
        assert!(!stalls.note(2 * second, &host(Some(950_000), 0)));
        assert!(stalls.note(3 * second, &host(Some(1_150_000), 0)));
        assert!(stalls.note(4 * second, &host(None, 110_000)));
        assert!(!stalls.note(5 * second, &host(None, 110_000)));
    }

    #[test]
    fn a_waiting_task_s_stack_is_read() {
        let directory = Directory::open(std::path::Path::new("/proc")).unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        // A sleeping process of our own has a stack as well.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        read(&directory, child.id(), "sleep", &mut buffer, &mut text);
        child.kill().unwrap();
        child.wait().unwrap();
        if text.is_empty() {
            return eprintln!("skipped: stacks cannot be read here");
        }
        assert!(text.starts_with(&format!("{} sleep: ", child.id())) && text.ends_with('\n'), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            functions(&text).for_each(drop);
        }
    }
}
