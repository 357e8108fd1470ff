//! Activity of whole disks: `/proc/diskstats` (the kernel's iostats.rst).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use record::Disk;

use crate::{
    lines::{lines, words},
    number::number,
};

/// Size of a sector in that file, whatever the disk's own sector size.
const SECTOR_BYTES: u64 = 512;

/// The disks at the last reading.
#[derive(Debug)]
pub(super) struct Disks {
    /// Contains a directory for each whole disk, but not for partitions.
    block: PathBuf,
    /// The device on each line, in the order of the file.
    devices: Vec<Device>,
    disks: Vec<Disk>,
}

#[derive(Debug)]
struct Device {
    name: Arc<str>,
    counts: bool,
}

impl Disks {
    pub(super) fn new(sys: &Path) -> Self {
        Self { block: sys.join("block"), devices: Vec::new(), disks: Vec::new() }
    }

    pub(super) fn all(&self) -> &[Disk] {
        &self.disks
    }

    /// Parses the file. Allocates only if the set of devices has changed.
    pub(super) fn parse(&mut self, bytes: &[u8]) {
        let mut disk = 0;
        for (index, (name, counters)) in lines(bytes).filter_map(parse_line).enumerate() {
            if self.devices.get(index).is_none_or(|device| device.name.as_bytes() != name) {
                self.devices.truncate(index);
                self.devices.push(self.look_up(name));
            }
            let device = &self.devices[index];
            if !device.counts {
                continue;
            }
            if disk == self.disks.len() {
                self.disks.push(Disk::default());
            }
            counters.enter(&mut self.disks[disk], &device.name);
            disk += 1;
        }
        self.disks.truncate(disk);
    }

    fn look_up(&self, name: &[u8]) -> Device {
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        let virtual_one = ["loop", "ram"].iter().any(|prefix| {
            name.strip_prefix(prefix).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        // In sysfs, a slash in a name becomes `!`.
        let counts = !virtual_one && self.block.join(name.replace('/', "!")).exists();
        Device { name, counts }
    }
}

/// Reads completed, merged, sectors read, ms; the same for writes; requests in flight, ms busy, weighted ms.
struct Counters([u64; 11]);

impl Counters {
    fn enter(&self, disk: &mut Disk, name: &Arc<str>) {
        if disk.name != *name {
            disk.name = Arc::clone(name);
        }
        let Self([reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms, queued_ms]) = self;
        disk.reads = *reads;
        disk.read_bytes = sectors_read.saturating_mul(SECTOR_BYTES);
        disk.writes = *writes;
        disk.written_bytes = sectors_written.saturating_mul(SECTOR_BYTES);
        disk.busy_ms = *busy_ms;
        disk.queued_ms = *queued_ms;
    }
}

/// A device's name and counters.
fn parse_line(line: &[u8]) -> Option<(&[u8], Counters)> {
    let mut words = words(line).skip(2);
    let name = words.next()?;
    let mut counters = [0; 11];
    for counter in &mut counters {
        *counter = number(words.next()?)?;
    }
    Some((name, Counters(counters)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_disks_count_and_their_partitions_do_not() {
        let sys = tempfile::tempdir().unwrap();
        for name in ["vda", "zram0", "loop0", "cciss!c0d0"] {
            fs::create_dir_all(sys.path().join("block").join(name)).unwrap();
        }
        let mut disks = Disks::new(sys.path());
        let vda = "   8 0 vda 10 1 200 3 40 5 600 7 1 80 90 0 0 0 0 0 0\n";
        let others = "   8 1 vda1 1 0 0 0 0 0 0 0 0 0 0\n   7 0 loop0 1 0 0 0 0 0 0 0 0 0 0\n \
            104 0 cciss/c0d0 2 0 0 0 0 0 0 0 0 0 0\n 253 0 zram0 3 0 0 0 0 0 0 0 0 0 0\n";
        disks.parse(format!("{vda}{others}").as_bytes());
        let names: Vec<&str> = disks.all().iter().map(|disk| disk.name.as_ref()).collect();
        assert_eq!(names, ["vda", "cciss/c0d0", "zram0"]);
        let expected = Disk {
            name: "vda".into(),
            reads: 10,
            read_bytes: 102_400,
            writes: 40,
            written_bytes: 307_200,
            busy_ms: 80,
            queued_ms: 90,
        };
        assert_eq!(disks.all()[0], expected);

        disks.parse(others.as_bytes());
        assert_eq!(disks.all().len(), 2, "a disk that was taken out is not shown any more");
        assert_eq!((disks.all()[0].name.as_ref(), disks.all()[0].reads), ("cciss/c0d0", 2));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            Disks::new(Path::new("/nonexistent")).parse(&bytes);
        }
    }
}
