//! Loads the iterator and configures it for this machine.

use std::{
    fs::{self, File},
    hint::black_box,
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
};

use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned, programs::Iter};

/// The compiled program, built by `agent/recorder/bpf/build.sh`.
static OBJECT: &[u8] = include_bytes_aligned!("../../../bpf/tasks.bpf.o");

/// The program's name in the object.
const NAME: &str = "tasks";

/// Maximum number of CPUs whose separate counts are added (`MAX_CPUS` in the program): beyond that it costs too much.
const MAX_CPUS: u32 = 16;

/// Inode of the first pid namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The loaded iterator.
#[derive(Debug)]
pub(super) struct Program {
    loaded: Ebpf,
    /// Number of CPUs that may come online.
    pub(super) cpus: u32,
}

/// Why BPF cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the recorder is not in the first pid namespace, whose process ids BPF would show")]
    Namespace,
    #[error("the kernel does not describe its types: {0}")]
    Types(#[from] aya::BtfError),
    #[error("the kernel refused the BPF program: {}", whole(.0))]
    Load(#[from] aya::EbpfError),
    #[error("the kernel refused the BPF program: {}", whole(.0))]
    Program(#[from] aya::programs::ProgramError),
    #[error("the object has no iterator")]
    Missing,
    #[error("cannot read the iterator: {0}")]
    Read(#[from] io::Error),
}

/// An error with its causes, on one line. In the verifier's output, the reason comes last, before some statistics.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.contains(&error.to_string()) {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("processed "));
    let (first, last) = (lines.next().unwrap_or_default(), lines.next_back());
    last.map_or_else(|| first.to_owned(), |last| format!("{first} … {last}"))
}

impl Program {
    /// Loads the program into the kernel, which verifies it.
    pub(super) fn load(proc: &Path) -> Result<Self, Refusal> {
        if fs::metadata(proc.join("self/ns/pid"))
            .is_ok_and(|namespace| namespace.ino() != FIRST_PID_NAMESPACE)
        {
            return Err(Refusal::Namespace);
        }
        let (types, mut loader) = kernel_types()?;
        let cpus = possible_cpus();
        let asked = if cpus <= MAX_CPUS { cpus } else { 0 };
        let mut loaded = loader.btf(Some(&types)).override_global("cpus", &asked, true).load(OBJECT)?;
        iterator(&mut loaded)?.load("task", &types)?;
        forget(types)?;
        Ok(Self { loaded, cpus })
    }

    /// Begins a walk over all tasks; reading the file runs the program.
    ///
    /// Creates a new link each time, because an iterator cannot be rewound. Aya allocates nothing for that.
    pub(super) fn open(&mut self) -> Result<File, Refusal> {
        let iterator = iterator(&mut self.loaded)?;
        let link = iterator.attach()?;
        let link = iterator.take_link(link)?;
        link.into_file().map_err(|error| Refusal::Read(io::Error::other(error)))
    }
}

fn iterator(loaded: &mut Ebpf) -> Result<&mut Iter, Refusal> {
    Ok(loaded.program_mut(NAME).ok_or(Refusal::Missing)?.try_into()?)
}

/// The kernel's type information: tens of megabytes in small pieces, needed only during loading. A separate thread
/// allocates them, so that glibc uses a separate arena and can return all of its memory. A new loader also reads the
/// types, needed or not.
fn kernel_types() -> Result<(Btf, EbpfLoader<'static>), Refusal> {
    let read = || {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        Btf::from_sys_fs().map(|types| (types, loader))
    };
    let reader = thread::Builder::new().name("kernel types".into()).spawn(read)?;
    Ok(reader.join().expect("reading types does not panic")?)
}

/// Frees that memory. Small pieces stay allocated until a larger one is freed in the same arena (malloc_consolidate).
fn forget(types: Btf) -> io::Result<()> {
    let forgetter = thread::Builder::new().name("kernel types".into()).spawn(move || {
        drop(types);
        drop(black_box(Vec::<u8>::with_capacity(100 << 10)));
    })?;
    forgetter.join().expect("freeing memory does not panic");
    drop(black_box(Vec::<u8>::with_capacity(100 << 10)));
    Ok(())
}

/// Number of CPUs that may come online.
fn possible_cpus() -> u32 {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map_or(u32::MAX, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_object_is_what_its_source_compiles_to() {
        if Command::new("clang-14").arg("--version").output().is_err() {
            return eprintln!("skipped: there is no clang-14, which `deploy/prerequisites.sh test` installs");
        }
        let directory = tempfile::tempdir().unwrap();
        let object = directory.path().join("tasks.bpf.o");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/build.sh");
        assert!(Command::new("sh").arg(script).arg(&object).status().unwrap().success());
        assert!(
            fs::read(object).unwrap() == OBJECT,
            "agent/recorder/bpf/tasks.bpf.o is not up to date: run `make gen`"
        );
    }
}
