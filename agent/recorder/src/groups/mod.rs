//! Counters of control groups: units, containers, slices. Read every few seconds on the thread for details, because a
//! reading takes some 0.2 ms for each group.

pub(crate) mod unified;
pub(crate) mod version1;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use record::{Group, GroupCounters};

use crate::host::ControlGroups;

/// Maximum number of recorded groups, in order of their paths, level by level.
const MOST: usize = 256;
/// Maximum depth of a recorded group: a pod's container is at 5.
const DEEPEST: usize = 6;
/// Interval for looking for new groups, ns: the tree is walked.
const FIND_EVERY_NS: u64 = 10_000_000_000;
/// Fits `memory.stat`, in bytes.
const BUFFER_BYTES: usize = 8 << 10;

type Parse = fn(&[u8], &mut GroupCounters);

/// The control groups of a host.
#[derive(Debug)]
pub(crate) struct Groups {
    hierarchy: Hierarchy,
    known: Vec<Files>,
    /// Time of the last walk, ns since boot.
    found_ns: u64,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

/// A group and its existing files.
#[derive(Debug)]
struct Files {
    path: Arc<str>,
    files: Vec<(PathBuf, Parse)>,
}

/// Where groups are found, and where the controllers have their files.
#[derive(Debug)]
struct Hierarchy {
    /// The tree whose directories are the groups.
    tree: PathBuf,
    /// Roots of the controllers, each with its files.
    controllers: Vec<(PathBuf, &'static [(&'static str, Parse)])>,
    /// The root is a group like the others: this is a container's part of the tree.
    has_root: bool,
}

impl Hierarchy {
    fn of(groups: &ControlGroups) -> Self {
        let root = &groups.own;
        if root.join("cgroup.controllers").exists() {
            let controllers = vec![(root.clone(), unified::FILES.as_slice())];
            // Exists in every group of version 2 except a machine's root.
            return Self { tree: root.clone(), controllers, has_root: root.join("cgroup.events").exists() };
        }
        let controllers =
            version1::CONTROLLERS.iter().map(|(name, files)| (root.join(name), *files)).collect();
        Self { tree: root.join("systemd"), controllers, has_root: false }
    }

    /// The group's directory below the tree's root becomes its path.
    fn files(&self, relative: &Path) -> Files {
        let all = self.controllers.iter().flat_map(|(root, files)| {
            files.iter().map(move |(name, parse)| (root.join(relative).join(name), *parse))
        });
        let path = format!("/{}", relative.to_string_lossy()).into();
        Files { path, files: all.filter(|(path, _)| path.exists()).collect() }
    }
}

impl Groups {
    /// The groups that exist now.
    pub(crate) fn open(groups: &ControlGroups) -> Self {
        let hierarchy = Hierarchy::of(groups);
        let mut opened =
            Self { hierarchy, known: Vec::new(), found_ns: 0, buffer: Box::new([0; BUFFER_BYTES]) };
        opened.find();
        opened
    }

    /// Looks for new groups and forgets those that are gone.
    fn find(&mut self) {
        let mut found = directories(&self.hierarchy.tree, self.hierarchy.has_root);
        found.sort();
        let path_of = |relative: &Path| format!("/{}", relative.to_string_lossy());
        let same = self.known.len() == found.len()
            && self.known.iter().zip(&found).all(|(known, found)| *known.path == *path_of(found));
        if !same {
            self.known = found.iter().map(|relative| self.hierarchy.files(relative)).collect();
        }
    }

    /// Replaces `groups` with the present counters of all groups, read at `now_ns` (ns since boot). Reuses its memory. New
    /// groups are found, and those that are gone forgotten, every ten seconds.
    pub(crate) fn read(&mut self, now_ns: u64, groups: &mut Vec<Group>) {
        if now_ns.saturating_sub(self.found_ns) >= FIND_EVERY_NS {
            self.find();
            self.found_ns = now_ns;
        }
        let Self { known, buffer, .. } = self;
        groups.truncate(known.len());
        groups.resize_with(known.len(), Group::default);
        for (group, known) in groups.iter_mut().zip(known) {
            if !Arc::ptr_eq(&group.path, &known.path) {
                group.path = Arc::clone(&known.path);
            }
            group.counters = GroupCounters { read_ns: Some(now_ns), ..GroupCounters::default() };
            for (path, parse) in &known.files {
                // A group may have gone since it was found.
                if let Ok(bytes) = read(path, buffer.as_mut_slice()) {
                    parse(bytes, &mut group.counters);
                }
            }
        }
    }
}

fn read<'a>(path: &Path, buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(&buffer[..filled])
}

/// Directories below `tree`, relative to it, level by level.
fn directories(tree: &Path, has_root: bool) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let (mut next, mut depth_end, mut depth) = (0, 1, 0);
    while next < found.len() && depth < DEEPEST {
        let children = fs::read_dir(tree.join(&found[next])).into_iter().flatten().flatten();
        let mut names: Vec<_> = children
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| found[next].join(entry.file_name()))
            .collect();
        names.sort();
        found.extend(names);
        if found.len() > MOST {
            break;
        }
        next += 1;
        if next == depth_end {
            (depth_end, depth) = (found.len(), depth + 1);
        }
    }
    found.truncate(MOST + 1);
    if !has_root {
        found.remove(0);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(root: &Path, group: &str, files: &[(&str, &str)]) {
        let directory = root.join(group);
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    fn look(groups: &mut Groups) -> Vec<Group> {
        let mut all = Vec::new();
        groups.read(7, &mut all);
        all
    }

    #[test]
    fn every_group_of_version_2_has_its_own_counters() {
        let root = tempfile::tempdir().unwrap();
        let own = ControlGroups::below(root.path());
        write(&own.own, "", &[("cgroup.controllers", "memory pids\n")]);
        write(
            &own.own,
            "system.slice/web.service",
            &[
                ("memory.current", "1048576\n"),
                ("memory.peak", "2097152\n"),
                ("memory.max", "4194304\n"),
                ("memory.high", "max\n"),
                (
                    "memory.stat",
                    "anon 409600\nfile 307200\nkernel 102400\nshmem 204800\nfile_dirty 4096\nworkingset_refault_file 9\nworkingset_refault_anon 8\npgmajfault 7\n",
                ),
                ("memory.events", "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n"),
                ("pids.current", "12\n"),
                ("pids.max", "100\n"),
                ("pids.events", "max 5\n"),
                (
                    "cpu.stat",
                    "usage_usec 900\nuser_usec 500\nsystem_usec 400\nnr_periods 0\nnr_throttled 0\nthrottled_usec 33\n",
                ),
                ("cpu.max", "50000 100000\n"),
                (
                    "cpu.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                ),
                (
                    "memory.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=22\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=21\n",
                ),
                (
                    "io.stat",
                    "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=2 rios=1 wios=1\n",
                ),
            ],
        );
        let mut groups = Groups::open(&own);
        let all = look(&mut groups);
        assert_eq!(
            all.iter().map(|group| &*group.path).collect::<Vec<_>>(),
            ["/system.slice", "/system.slice/web.service"]
        );
        assert_eq!(all[0].counters, GroupCounters { read_ns: Some(7), ..GroupCounters::default() });
        let expected = GroupCounters {
            read_ns: Some(7),
            memory_kib: Some(1024),
            peak_kib: Some(2048),
            limit_kib: Some(4096),
            anon_kib: Some(400),
            file_kib: Some(300),
            shmem_kib: Some(200),
            kernel_kib: Some(100),
            dirty_kib: Some(4),
            refault_file: Some(9),
            refault_anon: Some(8),
            major_faults: Some(7),
            high_events: Some(3),
            limit_events: Some(17),
            oom_events: Some(2),
            oom_kills: Some(1),
            tasks: Some(12),
            tasks_limit: Some(100),
            tasks_refused: Some(5),
            cpu_us: Some(900),
            throttled_us: Some(33),
            cpu_limit_permille: Some(500),
            pressure_cpu_some_us: Some(11),
            pressure_memory_some_us: Some(22),
            pressure_memory_full_us: Some(21),
            read_bytes: Some(4097),
            written_bytes: Some(8194),
            ..GroupCounters::default()
        };
        assert_eq!(all[1].counters, expected);
        fs::remove_dir_all(own.own.join("system.slice/web.service")).unwrap();
        assert_eq!(look(&mut groups)[1].counters.memory_kib, None, "it is gone");
        groups.find();
        assert_eq!(look(&mut groups).len(), 1);
    }

    #[test]
    fn a_container_is_a_group_too() {
        let root = tempfile::tempdir().unwrap();
        let own = ControlGroups::below(root.path());
        write(
            &own.own,
            "",
            &[("cgroup.controllers", ""), ("cgroup.events", "populated 1\n"), ("pids.current", "9\n")],
        );
        let all = look(&mut Groups::open(&own));
        assert_eq!((&*all[0].path, all[0].counters.tasks), ("/", Some(9)));
    }

    #[test]
    fn groups_of_version_1_have_a_directory_for_each_controller() {
        let root = tempfile::tempdir().unwrap();
        let own = ControlGroups::below(root.path());
        write(&own.own, "systemd/system.slice/web.service", &[]);
        write(
            &own.own,
            "memory/system.slice/web.service",
            &[
                ("memory.usage_in_bytes", "8192\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.failcnt", "4\n"),
                (
                    "memory.stat",
                    "rss 1\ntotal_cache 3072\ntotal_rss 4096\ntotal_shmem 2048\ntotal_swap 1024\n",
                ),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ],
        );
        write(&own.own, "cpuacct/system.slice/web.service", &[("cpuacct.usage", "5000000\n")]);
        let all = look(&mut Groups::open(&own));
        let expected = GroupCounters {
            read_ns: Some(7),
            memory_kib: Some(8),
            anon_kib: Some(4),
            file_kib: Some(3),
            shmem_kib: Some(2),
            swap_kib: Some(1),
            limit_events: Some(4),
            oom_kills: Some(3),
            cpu_us: Some(5_000),
            ..GroupCounters::default()
        };
        assert_eq!((&*all[1].path, all[1].counters), ("/system.slice/web.service", expected));
    }

    #[test]
    fn this_machine_has_groups_and_their_number_is_limited() {
        let root = tempfile::tempdir().unwrap();
        let own = ControlGroups::below(root.path());
        write(&own.own, "", &[("cgroup.controllers", "")]);
        (0..300).for_each(|index| write(&own.own, &format!("a/{index}"), &[]));
        assert_eq!(look(&mut Groups::open(&own)).len(), MOST);
        look(&mut Groups::open(&ControlGroups::below(Path::new("/"))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let mut counters = GroupCounters::default();
            let version1 = version1::CONTROLLERS.iter().flat_map(|(_, files)| files.iter());
            unified::FILES.iter().chain(version1).for_each(|(_, parse)| parse(&bytes, &mut counters));
        }
    }
}
