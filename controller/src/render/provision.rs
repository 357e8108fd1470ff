//! Time from launch to a host ready for Puppet.

use std::time::Duration;

use serde_json::json;

use super::{Output, live::Live, text::duration};
use crate::{error::Result, provider::Host};

/// Reports a ready host: `boot` is the time from launch to an open port, `enrol` from there to mutual TLS.
pub(crate) fn ready(
    output: &Output,
    live: &Live,
    host: &Host,
    boot: Duration,
    enrol: Duration,
) -> Result<()> {
    let (boot_ms, enrol_ms) = (milliseconds(boot), milliseconds(enrol));
    if output.is_json() {
        return output
            .record("ready", json!({ "host": host.name, "boot_ms": boot_ms, "enrol_ms": enrol_ms }));
    }
    live.step(&host.name, &format!("booted in {}, enrolled in {}", duration(boot_ms), duration(enrol_ms)));
    Ok(())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
