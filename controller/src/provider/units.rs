//! The agent's systemd units, as packages, images and adopted machines have them.

/// Serves controllers.
pub(super) const AGENT: &str = include_str!("../../../deploy/systemd/magpie-agent.service");
/// Keeps the flight record.
pub(super) const RECORD: &str = include_str!("../../../deploy/systemd/magpie-record.service");
