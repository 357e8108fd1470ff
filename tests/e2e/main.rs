//! End to end: the built binaries, real hosts, real systemd, real Puppet. Needs root and what
//! `make prerequisites` installs.

mod adopt;
mod clone;
mod errors;
mod pool;
mod record;
mod roles;
mod runs;
mod top;
