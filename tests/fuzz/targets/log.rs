//! Whatever Puppet logs, a resource is begun before it ends, ends with a status, and nothing said is much longer than its line.
#![no_main]

use agent::run::{log::Interpreter, origin::Origin};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use proto::pb::{ResourceStatus, event::What};

fuzz_target!(|data: &[u8]| {
    for noop in [false, true] {
        let mut interpreter = Interpreter::new(Origin::new(["/x".to_owned()]), noop);
        let mut begun = None;
        for line in data.split(|byte| *byte == b'\n') {
            let Some(what) = interpreter.line(line) else { continue };
            let length = match what {
                What::Progress(progress) => {
                    assert!(!progress.resource.is_empty());
                    begun = Some(progress.resource);
                    0
                }
                What::Resource(resource) => {
                    assert_eq!(begun.take().as_ref(), Some(&resource.resource));
                    assert_ne!(resource.status(), ResourceStatus::Unspecified);
                    assert!(!noop || resource.status() != ResourceStatus::Changed);
                    assert!(interpreter.has_told(&resource));
                    0
                }
                What::Log(log) => log.encoded_len(),
                other => panic!("a log line is not {other:?}"),
            };
            // A byte that is not UTF-8 is shown as a character of three.
            assert!(length <= 3 * line.len() + 32);
        }
        assert!(interpreter.last_error().is_none_or(|error| !error.level.is_empty()));
    }
});
