//! What is read of a kill adds up, and is no larger than its text.
#![no_main]

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use record::oom::OomKill;

const TEXTS: [&str; 4] = [
    include_str!("../../../proto/record/src/oom/texts/2.6.32-rhel6.txt"),
    include_str!("../../../proto/record/src/oom/texts/4.4-memcg.txt"),
    include_str!("../../../proto/record/src/oom/texts/5.4-group.txt"),
    include_str!("../../../proto/record/src/oom/texts/6.18-cgroup-v1.txt"),
];

fuzz_target!(|data: &[u8]| {
    let examples = TEXTS.map(|text| text.as_bytes().to_vec());
    let text = foreign(&examples, data);
    let text = String::from_utf8_lossy(&text);
    let Some(kill) = OomKill::parse(&text) else { return };
    assert!(kill.table.len() + kill.victims.len() <= text.lines().count());
    assert_eq!(kill.biggest().is_some(), !kill.table.is_empty());
    let holders = kill.by_name();
    assert!(holders.is_sorted_by(|a, b| a.footprint_kib >= b.footprint_kib));
    assert_eq!(holders.iter().map(|holder| holder.processes).sum::<u64>(), kill.table.len() as u64);
});
