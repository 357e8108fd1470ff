//! Memory use at an out-of-memory kill, by kind, from the kernel's text. Without this, the biggest process would be
//! blamed for memory in tmpfs.
//!
//! The whole machine (mm/show_mem.c, mm/page_alloc.c before 6.6), in pages, is one record of several lines, which
//! /dev/kmsg separates by `\x0a`:
//!
//! ```text
//! Mem-Info:
//! active_anon:1211 inactive_anon:118002 isolated_anon:0
//!  active_file:45 inactive_file:76 isolated_file:0
//!  slab_reclaimable:3423 slab_unreclaimable:5543
//!  mapped:123 shmem:63488 pagetables:2288
//!  free:1234 free_pcp:12 free_cma:0
//! Node 0 active_anon:4844kB … kernel_stack:2032kB pagetables:9152kB
//! 63609 total pagecache pages
//! 0 pages in swap cache
//! 157158 pages RAM
//! 12345 pages reserved
//! ```
//!
//! A control group (mm/memcontrol.c): version 2 has lines like `anon 1234`, in bytes; version 1 has `total_rss 1234`,
//! or `cache:0KB rss:0KB …` for each group of the tree before Linux 5.2.

/// Memory use by kind, KiB. The parts do not overlap; absent means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Total: the machine's memory, or what was charged to the control group.
    pub total_kib: Option<u64>,
    /// Resident anonymous memory of processes.
    pub anon_kib: Option<u64>,
    /// Shared memory and files in tmpfs, which may be mapped by no process.
    pub shmem_kib: Option<u64>,
    /// Page cache without shared memory.
    pub file_kib: Option<u64>,
    /// Kernel memory: slab, page tables, stacks, socket buffers.
    pub kernel_kib: Option<u64>,
    /// Unused memory.
    pub free_kib: Option<u64>,
}

impl MemoryUse {
    /// Memory in none of the parts, KiB. Absent if the total or a large part is unknown, or if the parts were counted
    /// at different moments and exceed the total.
    pub fn other_kib(&self) -> Option<u64> {
        let known =
            [self.anon_kib?, self.shmem_kib?, self.file_kib?, self.kernel_kib?, self.free_kib.unwrap_or(0)];
        self.total_kib?.checked_sub(known.into_iter().fold(0, u64::saturating_add))
    }

    /// Parses the text of one kill. `usage_kib` is the memory charged to the control group that had reached its limit.
    pub(super) fn parse(text: &str, page_kib: u64, usage_kib: Option<u64>) -> Option<Self> {
        let (mut section, mut machine, mut group) = (Section::None, Machine::default(), Group::default());
        for line in text.lines().flat_map(|line| line.split("\\x0a")) {
            match (Section::beginning_with(line), section) {
                (Some(next), _) => {
                    section = next;
                    group.begin(line);
                }
                (None, Section::Machine) => machine.read(line),
                (None, Section::Group) => group.read(line),
                (None, Section::None) => group.read_head(line),
            }
        }
        let found = if group.seen { group.memory_use(usage_kib) } else { machine.memory_use(page_kib) };
        (found.anon_kib.is_some() || found.shmem_kib.is_some()).then_some(found)
    }
}

/// The kind of figures in the current lines. Other lines contain names that any program can choose, and are not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    None,
    Machine,
    Group,
}

impl Section {
    fn beginning_with(line: &str) -> Option<Self> {
        // Compare the whole line: a process may have this name.
        if line.trim_end() == "Mem-Info:" {
            return Some(Self::Machine);
        }
        if line.starts_with(GROUP) {
            return Some(Self::Group);
        }
        // The table of tasks, or the verdict if there is no table.
        let ends = ["Tasks state ", "[", "oom-kill:", "Out of memory", "Memory cgroup out of memory"];
        ends.iter().any(|end| line.starts_with(end)).then_some(Self::None)
    }
}

/// Text before the path of a control group and its figures.
const GROUP: &str = "Memory cgroup stats for ";

/// Figures of the machine, in pages.
#[derive(Debug, Default)]
struct Machine {
    /// Pages on the lists of anonymous memory, which includes shared memory.
    anon_lists: Option<u64>,
    file_lists: Option<u64>,
    /// Pages on neither list: locked, of any kind.
    unevictable: u64,
    shmem: Option<u64>,
    /// All page cache: files, shared memory, and copies of swapped pages.
    cache: Option<u64>,
    swap_cache: u64,
    slab: Option<u64>,
    page_tables: Option<u64>,
    free: Option<u64>,
    total: Option<u64>,
    reserved: u64,
    stacks_kib: u64,
}

impl Machine {
    fn read(&mut self, line: &str) {
        if let Some(node) = line.strip_prefix("Node ") {
            // For the node, or for each of its zones before Linux 5.11.
            let stacks = node.split_whitespace().filter_map(|word| word.strip_prefix("kernel_stack:"));
            let stacks = stacks.filter_map(|kib| kib.strip_suffix("kB")?.parse::<u64>().ok());
            self.stacks_kib = stacks.fold(self.stacks_kib, u64::saturating_add);
            return;
        }
        if let Some((Ok(pages), what)) =
            line.split_once(' ').map(|(pages, what)| (pages.parse(), what.trim_end()))
        {
            match what {
                "pages RAM" => self.total = Some(pages),
                "pages reserved" => self.reserved = pages,
                "total pagecache pages" => self.cache = Some(pages),
                "pages in swap cache" => self.swap_cache = pages,
                _ => {}
            }
            return;
        }
        for (key, pages) in line.split_whitespace().filter_map(|word| word.split_once(':')) {
            let Ok(pages) = pages.parse() else { continue };
            match key {
                "active_anon" | "inactive_anon" | "isolated_anon" => add(&mut self.anon_lists, pages),
                "active_file" | "inactive_file" | "isolated_file" => add(&mut self.file_lists, pages),
                "unevictable" => self.unevictable = pages,
                "slab_reclaimable" | "slab_unreclaimable" => add(&mut self.slab, pages),
                "shmem" => self.shmem = Some(pages),
                "pagetables" => self.page_tables = Some(pages),
                "free" | "free_pcp" => add(&mut self.free, pages),
                _ => {}
            }
        }
    }

    fn memory_use(&self, page_kib: u64) -> MemoryUse {
        let kib = |pages: Option<u64>| pages.map(|pages| pages.saturating_mul(page_kib));
        let kernel = self.slab.zip(self.page_tables).map(|(slab, tables)| slab.saturating_add(tables));
        let file = self.file();
        MemoryUse {
            total_kib: kib(self.total.map(|total| total.saturating_sub(self.reserved))),
            anon_kib: kib(self.anon(file)),
            shmem_kib: kib(self.shmem),
            file_kib: kib(file),
            kernel_kib: kib(kernel).map(|kib| kib.saturating_add(self.stacks_kib)),
            free_kib: kib(self.free),
        }
    }

    fn file(&self) -> Option<u64> {
        let rest = |cache: u64| Some(cache.saturating_sub(self.swap_cache).saturating_sub(self.shmem?));
        self.cache.and_then(rest).or(self.file_lists)
    }

    /// Pages on the lists or locked that are neither file pages nor shared.
    fn anon(&self, file: Option<u64>) -> Option<u64> {
        let locked_files = file.unwrap_or(0).saturating_sub(self.file_lists.unwrap_or(0));
        let locked = self.unevictable.saturating_sub(locked_files);
        Some(self.anon_lists?.saturating_add(locked).saturating_sub(self.shmem?))
    }
}

/// Figures of a control group, in bytes.
#[derive(Debug, Default)]
struct Group {
    seen: bool,
    anon: Option<u64>,
    shmem: Option<u64>,
    /// Page cache, including shared memory.
    cache: Option<u64>,
    kernel: Option<u64>,
    /// Socket buffers, which the kernel counts separately.
    sockets: u64,
    /// Parts of kernel memory, if there is no single figure.
    kernel_parts: Option<u64>,
    /// Version 1, including all groups below: takes precedence.
    whole: [Option<u64>; 3],
    kernel_kib: Option<u64>,
}

impl Group {
    /// Parses figures on the same line, after the path: Linux 4.
    fn begin(&mut self, line: &str) {
        if !line.starts_with(GROUP) {
            return;
        }
        self.seen = true;
        let figures = line.rsplit_once(": ").map_or("", |(_, figures)| figures);
        for (key, kib) in figures.split_whitespace().filter_map(|word| word.split_once(':')) {
            let Some(bytes) =
                kib.strip_suffix("KB").and_then(|kib| kib.parse::<u64>().ok()?.checked_mul(1024))
            else {
                continue;
            };
            match key {
                "rss" => add(&mut self.anon, bytes),
                "cache" => add(&mut self.cache, bytes),
                "shmem" => add(&mut self.shmem, bytes),
                _ => {}
            }
        }
    }

    /// Parses version 1's `kmem: usage 420kB, limit …`, before the figures.
    fn read_head(&mut self, line: &str) {
        let kib =
            line.strip_prefix("kmem: usage ").and_then(|rest| rest.split_once("kB, limit ")?.0.parse().ok());
        self.kernel_kib = self.kernel_kib.or(kib);
    }

    fn read(&mut self, line: &str) {
        let Some((key, Ok(bytes))) =
            line.trim().split_once(' ').map(|(key, bytes)| (key, bytes.parse::<u64>()))
        else {
            return;
        };
        match key {
            "anon" | "rss" => self.anon = Some(bytes),
            "file" | "cache" => self.cache = Some(bytes),
            "shmem" => self.shmem = Some(bytes),
            "kernel" => self.kernel = Some(bytes),
            "sock" => self.sockets = bytes,
            "kernel_stack" | "pagetables" | "percpu" | "slab" => add(&mut self.kernel_parts, bytes),
            "total_rss" => self.whole[0] = Some(bytes),
            "total_cache" => self.whole[1] = Some(bytes),
            "total_shmem" => self.whole[2] = Some(bytes),
            _ => {}
        }
    }

    fn memory_use(&self, usage_kib: Option<u64>) -> MemoryUse {
        let [anon, cache, shmem] = self.whole;
        let (anon, cache, shmem) = (anon.or(self.anon), cache.or(self.cache), shmem.or(self.shmem));
        let kib = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
        let kernel = self.kernel.or(self.kernel_parts).map(|bytes| bytes.saturating_add(self.sockets));
        MemoryUse {
            total_kib: usage_kib,
            anon_kib: kib(anon),
            shmem_kib: kib(shmem),
            file_kib: kib(cache.zip(shmem).map(|(cache, shmem)| cache.saturating_sub(shmem))),
            kernel_kib: kib(kernel).or(self.kernel_kib),
            free_kib: None,
        }
    }
}

fn add(sum: &mut Option<u64>, more: u64) {
    *sum = Some(sum.unwrap_or(0).saturating_add(more));
}
