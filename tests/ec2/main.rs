//! The controller on EC2: the built `ctl`, the API of moto with EC2's rules and faults on demand, and real hosts
//! behind the instances. Needs root and what `make prerequisites-test` installs.

mod cloud;
mod verbs;
