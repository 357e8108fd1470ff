//! User-data that others wrote holds one enrol document or none; what is composed beside foreign bytes gives its own.
#![no_main]

use std::sync::LazyLock;

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use proto::identity::userdata::{LIMIT, compose, enrol_document};

const DOCUMENT: &[u8] = br#"{"v":1}"#;

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let nested = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--x--\n";
    let extras =
        [None, Some(b"#!/bin/sh\necho \xc3\xa9\n".as_slice()), Some(b"#cloud-config\n"), Some(nested)];
    extras.map(|extra| compose(DOCUMENT, extra).expect("it is composed")).to_vec()
});

fuzz_target!(|data: &[u8]| {
    let user_data = foreign(&EXAMPLES, data);
    if let Ok(Some(document)) = enrol_document(&user_data) {
        assert!(document.len() < user_data.len());
    }
    for extra in [data, user_data.as_slice()] {
        let Ok(composed) = compose(DOCUMENT, Some(extra)) else { continue };
        assert!(composed.len() <= LIMIT);
        assert_eq!(enrol_document(&composed).expect("it is well-formed"), Some(DOCUMENT));
    }
});
