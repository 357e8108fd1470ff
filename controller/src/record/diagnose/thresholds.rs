//! Every threshold of a diagnosis, with its source. Shares are of the time or of the whole, 1.0 for all of it.
//!
//! Pressure is time lost (the kernel's accounting/psi.rst), so it has a meaning of its own; utilisation has none: a healthy
//! host may be 85 % busy. Where no source is given, the value was set by incidents that were made for real.

/// Share of time in which all tasks waited for memory. systemd-oomd acts at 0.6 over 30 s (oomd.conf(5)): by then much is
/// lost.
pub(super) const MEMORY_FULL: f64 = 0.10;
/// Minimum time above [`MEMORY_FULL`], s.
pub(super) const MEMORY_SECONDS: f64 = 5.0;
/// Share of time in which all tasks waited for I/O.
pub(super) const IO_FULL: f64 = 0.20;
/// Share of time in which some task waited for I/O.
pub(super) const IO_SOME: f64 = 0.60;
/// Minimum time above one of these, s.
pub(super) const IO_SECONDS: f64 = 5.0;
/// Share of time in which some task waited for a CPU.
pub(super) const CPU_SOME: f64 = 0.40;
/// Share of CPU time in use.
pub(super) const CPU_BUSY: f64 = 0.85;
/// Minimum time above both, s.
pub(super) const CPU_SECONDS: f64 = 8.0;
/// Share of CPU time that the hypervisor gave to other guests. netdata warns at 0.10.
pub(super) const STEAL: f64 = 0.10;
/// Minimum time above [`STEAL`], s.
pub(super) const STEAL_SECONDS: f64 = 10.0;
/// Share of time in which a unit had to stop because of its CPU limit.
pub(super) const THROTTLED: f64 = 0.25;
/// Minimum time above [`THROTTLED`], s.
pub(super) const THROTTLED_SECONDS: f64 = 10.0;
/// A file system is full below this share free, if it had [`DISK_ROOM`] before.
pub(super) const DISK_FULL: f64 = 0.02;
/// Share that was free before.
pub(super) const DISK_ROOM: f64 = 0.05;
/// Share of a limit of tasks or files in use that counts as reached.
pub(super) const LIMIT_REACHED: f64 = 0.98;
/// Times above a threshold that are closer than this belong together, s.
pub(super) const TOGETHER_SECONDS: f64 = 10.0;

/// Growth that matters, as a share of the limit.
pub(super) const GROWTH: f64 = 0.10;
/// Minimum number of processes of a pool.
pub(super) const POOL: u64 = 4;
/// In a pool no process is larger than this multiple of the mean.
pub(super) const POOL_EVEN: f64 = 3.0;
/// Refaults of file pages per second above which the page cache is too small.
pub(super) const REFAULTS: f64 = 50.0;
/// Change of CPU use that matters, as a share of all CPUs.
pub(super) const CPU_CHANGE: f64 = 0.15;
/// One process has this share of the change of its group: it alone is meant.
pub(super) const ALONE: f64 = 0.70;
/// Share of the change that a storm of short-lived processes takes.
pub(super) const STORM: f64 = 0.40;
/// Minimum number of ended children per second in a storm.
pub(super) const STORM_RATE: f64 = 15.0;
/// One process or group has this share of the transferred bytes.
pub(super) const IO_SHARE: f64 = 0.50;
/// A request takes this many times longer than before: the device is slow.
pub(super) const SLOWER: f64 = 5.0;
/// Minimum time of a request of a slow device, ms.
pub(super) const SLOW_MS: f64 = 20.0;
/// A process is as before within this share.
pub(super) const STEADY: f64 = 0.30;

/// A runaway uses at least this share of one CPU, over [`RUNAWAY_SECONDS`].
pub(super) const RUNAWAY: f64 = 0.50;
/// Minimum multiple of its own past.
pub(super) const RUNAWAY_TIMES: f64 = 5.0;
/// Minimum time of a runaway, s.
pub(super) const RUNAWAY_SECONDS: f64 = 20.0;
