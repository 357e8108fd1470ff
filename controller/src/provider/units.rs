//! The agent's systemd units, the same in packages, images and adopted machines.

/// Unit that serves controllers.
pub(super) const AGENT: &str = include_str!("../../../deploy/systemd/magpie-agent.service");
/// Unit that writes the flight record.
pub(super) const RECORD: &str = include_str!("../../../deploy/systemd/magpie-record.service");
