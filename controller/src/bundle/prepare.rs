//! Runs the `prepare` command, which completes a tree, always in a copy.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use super::found::{Found, FoundKind};
use crate::error::{Error, Result};

/// Number of lines of a failed command's output to show.
const LINES_SHOWN: usize = 20;

/// Copies the entries into the existing directory `into`.
pub(super) fn copy(found: &[Found], into: &Path) -> Result<()> {
    for Found { path, kind } in found {
        let to = into.join(path);
        let parent = to.parent().expect("lies below `into`");
        let done = fs::create_dir_all(parent).and_then(|()| match kind {
            FoundKind::File(from) => fs::copy(&from.place, &to)
                .and_then(|_| fs::set_permissions(&to, PermissionsExt::from_mode(mode(from.executable)))),
            FoundKind::Link(target) => symlink(target, &to),
        });
        done.map_err(|error| {
            Error::invalid(format!("cannot copy `{path}` for the prepare command: {error}"))
        })?;
    }
    Ok(())
}

/// The file mode, as in a checkout: the command may change the files.
fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

/// Runs `command` with `sh -c` in `directory`.
pub(super) fn run(command: &str, directory: &Path) -> Result<()> {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::invalid(format!("cannot start the prepare command: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
    Err(Error::invalid(format!("the prepare command `{command}` failed ({}):\n{shown}", output.status))
        .hint("the command runs in a copy of the bundle's path, without files that git ignores"))
}
