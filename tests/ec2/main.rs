//! The controller on EC2: the built `ctl`, the API of moto with EC2's rules and faults on demand, and real hosts
//! behind the instances. Needs root and what `make prerequisites-test` installs.

mod api;
mod bake;
mod cloud;
mod crashes;
mod identity;
mod patience;
mod pool;
mod refusals;
mod setup;
mod verbs;
