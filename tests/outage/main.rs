//! What the flight recorder is for: hosts that run out of memory, machines that lose their power, and its own violent
//! death. Each test prints its figures in one line (`--nocapture`). Needs root and what `make prerequisites-test`
//! installs. The long forms are `make soak`.

mod beats;
mod chance;
mod hog;
mod killed;
mod machine;
mod stored;
mod unit;
