//! Agent and controller meet: enrolment and mutual TLS in full, over loopback and in one process.

mod authz;
mod claims;
mod enrolment;
mod hosts;
mod lab;
mod load;
mod metadata;
mod metrics;
mod raw;
mod renewal;
mod stalling;
mod transport;
mod users;
