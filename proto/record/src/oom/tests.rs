//! Tests that messages of all kernel generations yield trigger, victim and biggest memory users.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> OomKill {
    OomKill::parse(text).expect("a kill")
}

fn victims(kill: &OomKill) -> Vec<(u32, &str)> {
    kill.victims.iter().map(|victim| (victim.pid, victim.comm.as_str())).collect()
}

/// The process that was chosen, and the biggest memory users by name: name, processes, MiB.
fn summary(kill: &OomKill) -> (Option<u32>, Option<(&str, u64, u64)>) {
    let holders = kill.by_name();
    let first = holders.first().map(|holder| (holder.comm, holder.processes, holder.footprint_kib / 1024));
    (kill.scored.as_ref().map(|task| task.pid), first)
}

#[test]
fn the_first_generation_scores_one_process_and_kills_another() {
    let kill = parse(include_str!("texts/2.6.32.txt"));
    let trigger = kill.trigger.as_ref().unwrap();
    assert_eq!((trigger.comm.as_str(), trigger.pid, trigger.order), ("apache2", Some(22811), Some(0)));
    assert_eq!(trigger.gfp.as_deref(), Some("0x201da"));
    assert_eq!(kill.scored, Some(Task { pid: 4805, comm: "apache2".into() }));
    assert_eq!(victims(&kill), [(22433, "apache2")]);
    assert_eq!((kill.victims[0].anon_kib, kill.biggest()), (None, None));
}

#[test]
fn the_second_generation_has_a_table() {
    let kill = parse(include_str!("texts/3.16.txt"));
    assert_eq!(kill.trigger.as_ref().map(|trigger| trigger.pid), Some(Some(3077)));
    assert_eq!(victims(&kill), [(2901, "mysqld (main) x")]);
    assert_eq!((kill.victims[0].anon_kib, kill.victims[0].shmem_kib), (Some(36_000), None));
    let row = kill.biggest().unwrap();
    assert_eq!((row.pid, row.uid, row.comm.as_str()), (2901, 106, "mysqld (main) x"));
    assert_eq!((row.total_vm_kib, row.rss_kib, row.swap_kib), (840_000, 36_000, Some(120_000)));
    assert_eq!((row.pgtables_kib, row.oom_score_adj, row.anon_kib), (Some(480), Some(0), None));
    assert_eq!(kill.table[1].oom_score_adj, Some(-1000));
    assert_eq!(
        summary(&kill),
        (Some(2901), Some(("apache2", 3, 243))),
        "more than the victim, in three pieces"
    );
}

#[test]
fn red_hats_second_generation_names_the_user_in_between() {
    let kill = parse(include_str!("texts/2.6.32-rhel6.txt"));
    let victim = &kill.victims[0];
    assert_eq!((victim.pid, victim.comm.as_str(), victim.uid), (9120, "httpd", Some(48)));
    assert_eq!((victim.total_vm_kib, victim.file_kib), (Some(293_684), Some(588)));
    assert_eq!((kill.table[1].rss_kib, kill.table[1].swap_kib), (120_492, None));
    assert_eq!(kill.table[0].oom_score_adj, Some(-1000));
}

#[test]
fn a_control_groups_limit_is_parsed() {
    let kill = parse(include_str!("texts/4.4-memcg.txt"));
    assert_eq!(kill.oom_memcg.as_deref(), Some("/kubepods/burstable/pod7"));
    assert_eq!(kill.task_memcg.as_deref(), Some("/kubepods/burstable/pod7/5c1f"));
    assert_eq!((kill.usage_kib, kill.limit_kib), (Some(524_288), Some(524_288)));
    assert_eq!((summary(&kill).0, victims(&kill)), (Some(17380), vec![(17420, "java")]));
    assert_eq!(kill.table[1].pgtables_kib, Some(492 * 4));
}

#[test]
fn the_third_generation_has_a_line_of_keys() {
    let kill = parse(include_str!("texts/5.0.txt"));
    assert_eq!(kill.constraint.as_deref(), Some("CONSTRAINT_NONE"));
    assert_eq!(
        (kill.oom_memcg.as_deref(), kill.task_memcg.as_deref()),
        (None, Some("/user.slice/user-1000.slice"))
    );
    assert_eq!(
        (summary(&kill), victims(&kill)),
        ((Some(2217), Some(("stress", 1, 1722))), vec![(2217, "stress")])
    );
    assert_eq!((kill.reaped[0].pid, kill.reaped[0].anon_kib), (2217, Some(0)));
    assert_eq!(kill.table[0].pgtables_kib, Some(232));
}

#[test]
fn a_whole_group_is_killed_on_a_machine_with_large_pages() {
    let kill = parse(include_str!("texts/5.4-group.txt"));
    assert_eq!(kill.oom_memcg.as_deref(), Some("/system.slice/db,x.service"), "with a comma in its path");
    assert_eq!(kill.group.as_deref(), Some("/system.slice/db,x.service"));
    assert_eq!(victims(&kill), [(812, "mysqld"), (801, "sh"), (812, "mysqld")]);
    assert_eq!(kill.biggest().map(|row| (row.pid, row.rss_kib)), Some((812, 16_000 * 64)));
    assert_eq!(kill.victims[0].pgtables_kib, Some(1024), "the kernel says bytes and calls them kB");
    assert_eq!(kill.victims[1].pgtables_kib, Some(32));
}

#[test]
fn trigger_victim_and_culprit_are_three() {
    let kill = parse(include_str!("texts/6.1.txt"));
    assert_eq!(kill.trigger.as_ref().map(|trigger| trigger.comm.as_str()), Some("systemd-journal"));
    assert_eq!((victims(&kill), kill.victims[0].uid), (vec![(700, "mysqld")], Some(106)));
    assert_eq!(summary(&kill), (Some(700), Some(("apache2", 3, 200))));
    assert_eq!(kill.victims[0].pgtables_kib, Some(878));
}

#[test]
fn the_newest_table_splits_what_is_resident() {
    let kill = parse(include_str!("texts/6.18-cgroup-v1.txt"));
    let trigger = kill.trigger.as_ref().unwrap();
    assert_eq!((trigger.pid, trigger.gfp.as_deref()), (Some(5918), Some("0xcc0(GFP_KERNEL)")));
    assert_eq!(kill.constraint.as_deref(), Some("CONSTRAINT_MEMCG"));
    assert_eq!(kill.oom_memcg, kill.task_memcg);
    assert_eq!(kill.limit_kib, Some(61_440));
    assert_eq!(kill.table.len(), 4);
    let row = kill.biggest().unwrap();
    assert_eq!((row.pid, row.rss_kib, row.anon_kib), (5918, 16315 * 4, Some(15168 * 4)));
    assert_eq!((row.file_kib, row.shmem_kib, row.pgtables_kib), (Some(1147 * 4), Some(0), Some(180)));
    assert_eq!(row.anon_kib, kill.victims[0].anon_kib, "the table and the victim's line agree");
    assert_eq!(kill.victims[0].oom_score_adj, Some(0));
}

#[test]
fn a_kill_without_its_head_and_with_omitted_lines_is_parsed() {
    let line = "Out of memory: Killed process 7 ((sd-pam)) total-vm:9kB, anon-rss:1kB, file-rss:2kB, shmem-rss:3kB, UID:0 pgtables:4kB oom_score_adj:-5";
    let kill = parse(&format!("{line}\n{}", left_out(12)));
    assert_eq!((victims(&kill), kill.left_out), (vec![(7, "(sd-pam)")], 12));
    assert_eq!((kill.victims[0].shmem_kib, kill.victims[0].oom_score_adj), (Some(3), Some(-5)));
    assert_eq!(victims(&parse("OOM victim 9 (x) is already exiting. Skip killing the task")), [(9, "x")]);
    assert_eq!(
        OomKill::parse("usb 1-1: new device\n[ pid ] uid tgid total_vm rss name\n[ 1] 0 1 2 3 x"),
        None
    );
}

#[test]
fn memory_in_tmpfs_belongs_to_no_process() {
    let kill = parse(include_str!("texts/6.1-tmpfs.txt"));
    let memory = kill.memory.unwrap();
    assert_eq!(memory.total_kib, Some((110_592 - 14_336) * 4));
    // All but 200 of the locked pages are not file pages: 63,809 of page cache, 63,488 shared, 121 on the lists.
    assert_eq!(memory.anon_kib, Some((900 + 85_600 + 1_000 - 200 - 63_488) * 4));
    assert_eq!((memory.shmem_kib, memory.file_kib), (Some(63_488 * 4), Some(321 * 4)));
    assert_eq!(memory.kernel_kib, Some((1_423 + 2_543 + 788) * 4 + 1_984));
    assert_eq!(memory.free_kib, Some((1_034 + 56) * 4));
    let parts = [memory.anon_kib, memory.shmem_kib, memory.file_kib, memory.kernel_kib, memory.free_kib];
    let sum: u64 = parts.into_iter().flatten().sum();
    assert_eq!(memory.other_kib().map(|other| other + sum), memory.total_kib, "it adds up");
    assert_eq!(kill.biggest().map(Row::footprint_kib), Some(92_160), "a third of what tmpfs holds");
}

#[test]
fn a_control_groups_memory_use_is_parsed_in_three_formats() {
    let memory = |text| parse(text).memory.unwrap();
    let second = MemoryUse {
        total_kib: Some(627_712),
        anon_kib: Some(344_064),
        shmem_kib: Some(262_144),
        file_kib: Some(4_096),
        kernel_kib: Some(16_384),
        free_kib: None,
    };
    assert_eq!(memory(include_str!("texts/6.12-cgroup-v2.txt")), second);
    assert_eq!(second.other_kib(), Some(1_024));
    // Version 1 includes all groups below in its totals; kernel memory has a separate line.
    let first = MemoryUse {
        total_kib: Some(61_440),
        anon_kib: Some(62_484_480 / 1_024),
        shmem_kib: Some(0),
        file_kib: Some(0),
        kernel_kib: Some(420),
        free_kib: None,
    };
    assert_eq!(memory(include_str!("texts/6.18-cgroup-v1.txt")), first);
    assert_eq!(first.other_kib(), Some(0));
    // Before 5.2, each group of the tree has a line.
    let line = |path: &str| {
        format!("Memory cgroup stats for {path}: cache:1024KB rss:510KB rss_huge:0KB shmem:1000KB")
    };
    let text = format!("x invoked oom-killer: order=0\n{}\n{}\n", line("/a: rss:9KB"), line("/a/b"));
    let memory = memory(&text);
    assert_eq!((memory.anon_kib, memory.shmem_kib, memory.file_kib), (Some(1_020), Some(2_000), Some(48)));
    assert_eq!(memory.other_kib(), None, "the kernel's part is unknown");
}

#[test]
fn a_name_is_no_figure() {
    for text in
        ["Mem-Info: invoked oom-killer: order=0\nshmem:9", "kmem: usage 9kB invoked oom-killer: order=0"]
    {
        assert_eq!(parse(text).memory, None, "{text}");
    }
}

/// Lines that resemble those of a kill.
fn lines() -> impl Strategy<Value = String> {
    let texts = [
        include_str!("texts/2.6.32-rhel6.txt"),
        include_str!("texts/3.16.txt"),
        include_str!("texts/5.4-group.txt"),
        include_str!("texts/6.1-tmpfs.txt"),
        include_str!("texts/6.12-cgroup-v2.txt"),
        include_str!("texts/6.18-cgroup-v1.txt"),
    ];
    let known: Vec<_> = texts.iter().flat_map(|text| text.lines()).collect();
    let line = (prop::sample::select(known), any::<prop::sample::Index>(), "\\PC{0,3}").prop_map(
        |(line, at, new)| {
            let at =
                line.char_indices().nth(at.index(line.chars().count() + 1)).map_or(line.len(), |(at, _)| at);
            format!("{}{new}{}", &line[..at], &line[at..])
        },
    );
    prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_harmless(text in prop_oneof![lines(), "\\PC*", ".*"]) {
        let Some(kill) = OomKill::parse(&text) else { return Ok(()) };
        let total: u64 = kill.by_name().iter().map(|holder| holder.processes).sum();
        prop_assert_eq!(total as usize, kill.table.len());
        prop_assert_eq!(kill.biggest().is_some(), !kill.table.is_empty());
        if let Some((memory, other)) = kill.memory.and_then(|memory| Some((memory, memory.other_kib()?))) {
            let parts = [memory.anon_kib, memory.shmem_kib, memory.file_kib, memory.kernel_kib, memory.free_kib];
            let sum = parts.into_iter().flatten().fold(other, u64::saturating_add);
            prop_assert_eq!(Some(sum), memory.total_kib);
        }
    }
}
