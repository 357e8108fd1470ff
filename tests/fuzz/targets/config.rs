//! A configuration is understood or refused with a sentence that is no longer than it deserves.
#![no_main]

use std::sync::LazyLock;

use controller::config::{parse, template};
use fuzz::foreign;
use libfuzzer_sys::fuzz_target;

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![template("shop", "puppet").into_bytes()]);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = String::from_utf8(foreign(&EXAMPLES, data)) else { return };
    match parse(&text) {
        Ok(config) => {
            for name in config.roles.keys() {
                let role = config.role(name).expect("it is there");
                assert_ne!(role.memory, Some(0));
            }
            let unknown = config.roles.keys().map(String::as_str).collect::<String>() + "x";
            assert_eq!(config.role(&unknown).expect_err("it is not there").hints().len(), 2);
        }
        Err(error) => {
            assert_eq!(error.kind().exit_code(), 2);
            assert!(error.to_string().len() <= 8 * text.len() + 512);
        }
    }
});
