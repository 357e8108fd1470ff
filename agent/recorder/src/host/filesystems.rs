//! Usage of the host's file systems.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use procfs::process::MountInfo;
use record::Filesystem;
use rustix::fs::statvfs;

/// Types that are always full.
const IMAGES: [&str; 3] = ["squashfs", "erofs", "iso9660"];

/// Types whose content is in memory or swap (tmpfs(5)).
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Smaller file systems in memory are left out.
const SMALL_BYTES: u64 = 8 << 20;

/// Reads all file systems on local block devices and in memory, and the root on any device: a container's is an overlay.
/// Each is read only once, however often it is mounted. May block: do not call this on the sampling thread.
pub(crate) fn read(proc: &Path) -> Vec<Filesystem> {
    let text = fs::read(proc.join("self/mountinfo")).unwrap_or_default();
    let mounts = mounts(&String::from_utf8_lossy(&text)).into_iter();
    mounts.filter_map(|(mount, in_memory)| ask(&mount, in_memory)).collect()
}

/// Mount points to read, and whether the file system is in memory.
fn mounts(text: &str) -> Vec<(PathBuf, bool)> {
    let mut devices = HashSet::new();
    let mut found = Vec::new();
    for mount in text.lines().filter_map(|line| MountInfo::from_line(line).ok()) {
        let on_device = mount.mount_source.is_some_and(|source| source.starts_with("/dev/"));
        let is_root = mount.mount_point == Path::new("/");
        let in_memory = IN_MEMORY.contains(&mount.fs_type.as_str());
        let is_wanted = on_device || in_memory || is_root;
        if is_wanted && !IMAGES.contains(&mount.fs_type.as_str()) && devices.insert(mount.majmin) {
            found.push((unescape(mount.mount_point), in_memory));
        }
    }
    found
}

/// The kernel writes spaces and some other characters as `\` and three octal digits (mangle in fs/proc_namespace.c).
fn unescape(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let [first, behind @ ..] = rest {
        let octal =
            behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    OsString::from_vec(plain).into()
}

fn ask(mount: &Path, in_memory: bool) -> Option<Filesystem> {
    let answer = statvfs(mount).ok()?;
    let total_bytes = answer.f_blocks.saturating_mul(answer.f_frsize);
    // Each unit with credentials has a small one.
    if in_memory && total_bytes < SMALL_BYTES {
        return None;
    }
    Some(Filesystem {
        mount: mount.to_string_lossy().into(),
        total_bytes,
        free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
        files: answer.f_files,
        free_files: answer.f_favail,
        in_memory,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNTINFO: &str = "\
        22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a\n\
        28 27 254:1 / /srv/a\\040b rw shared:4 - ext4 /dev/vdb rw\n\
        29 27 254:1 /sub /mnt/bound rw - ext4 /dev/vdb rw\n\
        30 27 7:0 / /snap/x ro - squashfs /dev/loop0 ro\n\
        31 27 0:60 / /tmp rw - tmpfs tmpfs rw\n\
        broken\n";

    #[test]
    fn each_file_system_on_a_device_or_in_memory_is_read_once() {
        let expected = [("/", false), ("/srv/a b", false), ("/tmp", true)];
        assert_eq!(mounts(MOUNTINFO), expected.map(|(mount, in_memory)| (mount.into(), in_memory)));
    }

    #[test]
    fn the_root_of_this_machine_has_a_size() {
        let filesystems = read(Path::new("/proc"));
        let root = filesystems.iter().find(|filesystem| filesystem.mount.as_ref() == "/").unwrap();
        assert!(root.total_bytes > 0 && root.free_bytes <= root.total_bytes);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String, path: Vec<u8>) {
            let _ = mounts(&text);
            let _ = unescape(OsString::from_vec(path).into());
        }
    }
}
