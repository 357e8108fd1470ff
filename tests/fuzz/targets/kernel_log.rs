//! A record of the kernel's log is one line, and no longer than its bytes justify.
#![no_main]

use recorder::kernel_log::Record;
use fuzz::foreign;
use libfuzzer_sys::fuzz_target;

const RECORD: &[u8] =
    b"4,356,2136931053,-,caller=T1;caf\\xc3\\xa9 invoked oom-killer: order=0\n SUBSYSTEM=x\n";

fuzz_target!(|data: &[u8]| {
    let bytes = foreign(&[RECORD.to_vec()], data);
    let Some(record) = Record::parse(&bytes) else { return };
    let mut line = "left from before".to_owned();
    record.text(&mut line);
    assert!(!line.chars().any(|c| c.is_ascii_control() && c != '\t'));
    assert!(line.len() <= 4 * bytes.len());
});
