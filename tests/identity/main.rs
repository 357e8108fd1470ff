//! Agent and controller meet: enrolment and mutual TLS in full, over loopback and in one process.

mod authz;
mod enrolment;
mod hosts;
mod lab;
mod raw;
mod transport;
mod users;
