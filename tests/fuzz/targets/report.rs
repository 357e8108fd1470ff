//! What a report says adds up, and is no longer than the report.
#![no_main]

use agent::run::{origin::Origin, report::parse};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use proto::pb::ResourceStatus;

fuzz_target!(|data: &[u8]| {
    let Ok(report) = parse(data, &Origin::new(["/x".to_owned()]), &[]) else { return };
    let (resources, summary) = (&report.resources, &report.summary);
    let count = |status| resources.iter().filter(|resource| resource.status() == status).count();
    assert_eq!(summary.changed as usize, count(ResourceStatus::Changed));
    assert_eq!(summary.failed as usize, count(ResourceStatus::Failed));
    assert_eq!(summary.skipped as usize, count(ResourceStatus::Skipped));
    assert_eq!(summary.pending as usize, count(ResourceStatus::Pending));
    assert_eq!(count(ResourceStatus::Unspecified), 0);
    assert!(resources.len() <= summary.total as usize);
    assert_eq!(summary.failure.is_empty(), summary.failed == 0);
    let told: usize = resources.iter().map(Message::encoded_len).sum();
    assert!(told + summary.encoded_len() <= 4 * data.len() + 64);
});
