//! End to end: the built binaries, real hosts, real systemd, real Puppet. Needs root and what
//! `make prerequisites` installs.

mod adopt;
mod clone;
mod errors;
mod pool;
mod roles;
mod runs;
