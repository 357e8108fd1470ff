//! Disks of the virtual machine: created without mounting anything on this machine, and read without trusting them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// Size of the system disk in bytes; unwritten parts take no space.
const SYSTEM_BYTES: u64 = 512 << 20;

/// Programs of Busybox that `/init` calls.
const APPLETS: [&str; 9] = ["cat", "ln", "mkdir", "mkswap", "mount", "sh", "sleep", "swapon", "uname"];

/// A Debian system with systemd.
#[derive(Debug)]
pub struct System<'a> {
    /// Packages, in addition to the essential ones.
    pub packages: &'a [&'a str],
    /// Files (path in the guest, content).
    pub files: &'a [(&'a str, &'a str)],
    /// Programs of this machine (path in the guest, program).
    pub programs: &'a [(&'a str, PathBuf)],
    /// Units in `/usr/lib/systemd/system` that are enabled (unit, target that wants it).
    pub wanted: &'a [(&'a str, &'a str)],
}

/// A system disk and a swap disk, in a temporary directory.
#[derive(Debug)]
pub struct Disks {
    directory: TempDir,
}

impl Disks {
    /// Makes them: busybox, this script as `/init`, `programs` (path in the guest, program of this machine) with the libraries
    /// that they are linked with, and the files of a directory, if there is one, in a directory of the guest.
    pub fn new(
        init: &Path,
        programs: &[(&str, PathBuf)],
        files: Option<(&str, &Path)>,
        swap_bytes: u64,
    ) -> Self {
        let disks = Self { directory: TempDir::with_prefix("magpie-vm-").expect("a temporary directory") };
        let tree = disks.directory.path().join("tree");
        for directory in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var/lib/magpie"] {
            fs::create_dir_all(tree.join(directory)).expect("made");
        }
        fs::copy(init, tree.join("init")).expect("copied");
        fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("written");
        install(&find("busybox"), &tree.join("bin/busybox"), &tree);
        for applet in APPLETS {
            symlink("busybox", tree.join("bin").join(applet)).expect("linked");
        }
        for (path, program) in programs {
            install(program, &tree.join(path.trim_start_matches('/')), &tree);
        }
        if let Some((path, directory)) = files {
            ran(Command::new("cp").arg("-r").arg(directory).arg(tree.join(path.trim_start_matches('/'))));
        }
        disks.fill(&tree, swap_bytes);
        disks
    }

    /// Makes them with a whole system, of the same release as this machine.
    pub fn of(system: &System<'_>) -> Self {
        let disks = Self { directory: TempDir::with_prefix("magpie-vm-").expect("a temporary directory") };
        let tree = disks.directory.path().join("tree");
        let include = format!("--include={}", system.packages.join(","));
        ran(Command::new("mmdebstrap").args(["--variant=minbase", &include, &codename()]).arg(&tree));
        for (path, content) in system.files {
            fs::write(tree.join(path.trim_start_matches('/')), content).expect("written");
        }
        for (path, program) in system.programs {
            copy(program, &tree.join(path.trim_start_matches('/')));
        }
        for (unit, target) in system.wanted {
            let wants = tree.join("etc/systemd/system").join(format!("{target}.wants"));
            fs::create_dir_all(&wants).expect("made");
            symlink(Path::new("/usr/lib/systemd/system").join(unit), wants.join(unit)).expect("linked");
        }
        disks.fill(&tree, 1 << 20);
        disks
    }

    fn fill(&self, tree: &Path, swap_bytes: u64) {
        let system = File::create(self.system()).and_then(|file| file.set_len(SYSTEM_BYTES));
        let swap = File::create(self.swap()).and_then(|file| file.set_len(swap_bytes));
        system.and(swap).expect("room for sparse files");
        ran(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).args([tree, &self.system()]));
        fs::remove_dir_all(tree).expect("removed");
    }

    pub(super) fn system(&self) -> PathBuf {
        self.directory.path().join("system")
    }

    pub(super) fn swap(&self) -> PathBuf {
        self.directory.path().join("swap")
    }

    /// Contents of a directory of the system disk after a power cut. The disk is not changed: the journal is
    /// replayed on a copy.
    pub fn directory_after_cut(&self, path: &str) -> TempDir {
        let copy = TempDir::with_prefix("magpie-vm-").expect("a temporary directory");
        let image = copy.path().join("image");
        ran(Command::new("cp").arg("--sparse=always").args([&self.system(), &image]));
        let checked = run(Command::new("e2fsck").arg("-fy").arg(&image));
        // e2fsck(8): 1 means that errors were corrected. Replaying a journal is not an error.
        let fine = matches!(checked.status.code(), Some(0 | 1));
        assert!(fine, "the disk is broken: {}", String::from_utf8_lossy(&checked.stdout));
        let extracted = copy.path().join("extracted");
        fs::create_dir(&extracted).expect("made");
        ran(Command::new("debugfs")
            .arg("-R")
            .arg(format!("rdump {path} {}", extracted.display()))
            .arg(&image));
        fs::remove_file(image).expect("removed");
        let name = Path::new(path).file_name().expect("not the root");
        let kept = TempDir::with_prefix("magpie-vm-").expect("a temporary directory");
        fs::rename(extracted.join(name), kept.path().join(name)).expect("the directory was on the disk");
        kept
    }
}

/// Copies a program without its debugging symbols.
fn copy(program: &Path, at: &Path) {
    fs::create_dir_all(at.parent().expect("a program is in a directory")).expect("made");
    ran(Command::new("strip").arg("-o").args([at, program]));
}

/// Copies a program, and the libraries that it needs to the paths where it looks for them.
fn install(program: &Path, at: &Path, tree: &Path) {
    copy(program, at);
    let listed = run(Command::new("ldd").arg(program));
    for library in libraries(&String::from_utf8_lossy(&listed.stdout)) {
        let copy = tree.join(library.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(copy.parent().expect("a library is in a directory")).expect("made");
        fs::copy(library, copy).expect("copied");
    }
}

/// Code name of this machine's release, from os-release(5).
fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    found.expect("this machine is a Debian").trim_matches('"').to_owned()
}

/// The files that ldd(1) names: `name => path (address)`, or `path (address)` for the loader. Nothing for a static program.
fn libraries(listed: &str) -> BTreeSet<&Path> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new).collect()
}

/// A program of this machine.
#[track_caller]
pub fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not there: run `make prerequisites-test` first"))
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_owned();
    command.output().unwrap_or_else(|error| refused(&name, &error))
}

fn refused(name: &OsStr, error: &io::Error) -> ! {
    panic!("{} cannot be started: {error}; `make prerequisites-test` installs it", name.display())
}

#[track_caller]
fn ran(command: &mut Command) {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
