//! Failures that the flight recorder must survive: out-of-memory, power cuts, and kills of the recorder itself. Each test
//! prints its figures in one line (`--nocapture`). Needs root and what `make prerequisites-test` installs. `make soak`
//! runs the long versions.

mod beats;
mod chance;
mod hog;
mod killed;
mod machine;
mod stored;
mod unit;
