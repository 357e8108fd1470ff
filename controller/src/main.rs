//! `ctl`: the controller's command.

use std::process::ExitCode;

use controller::provider::local;

fn main() -> ExitCode {
    // Before any thread exists: namespaces are refused to a process with several.
    if let Some(code) = local::reexecuted(std::env::args_os()) {
        return code;
    }
    ExitCode::FAILURE
}
