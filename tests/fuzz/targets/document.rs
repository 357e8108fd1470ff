//! An enrol document that is read can be written and read again, and never shows its token.
#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use proto::identity::{certificate::KeyDigest, document::Document, names, secret::Secret};

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let document = Document {
        tid: "0123456789abcdef".to_owned(),
        token: Secret::from_hex(&"5a".repeat(32)).expect("hex"),
        user_ca_pin: KeyDigest::of(b"key"),
        expires: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    vec![document.to_json().expect("it is written").to_vec()]
});

fuzz_target!(|data: &[u8]| {
    let Ok(document) = Document::from_json(&foreign(&EXAMPLES, data)) else { return };
    assert!(names::is_tid(&document.tid));
    let json = document.to_json().expect("what was read can be written");
    assert_eq!(Document::from_json(&json).expect("and read again"), document);
    assert!(document.check(document.expires).is_err());
    assert!(!format!("{document:?}").contains(document.token.to_hex().as_str()));
});
