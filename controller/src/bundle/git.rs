//! The only place that starts `git`. Nothing here changes a checkout, its index or its references.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::error::{Error, Result};

/// Where a tree lies in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkout {
    /// The root of the working tree.
    pub(super) toplevel: PathBuf,
    /// The tree's path within it, with a slash at the end; empty for the root.
    pub(super) prefix: String,
}

impl Checkout {
    /// The checkout that `path` is in; `None` if it is in none, or there is no git.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let text = ask(path, &["rev-parse", "--show-toplevel", "--show-prefix"])?;
        let mut lines = text.lines();
        let toplevel = PathBuf::from(lines.next()?);
        Some(Self { toplevel, prefix: lines.next().unwrap_or_default().to_owned() })
    }

    /// The commit that is checked out; `None` before the first one.
    pub(super) fn head(&self) -> Option<String> {
        ask(&self.toplevel, &["rev-parse", "--verify", "--quiet", "HEAD"])
    }

    /// Paths below the tree that differ from the commit, relative to the tree, untracked ones included.
    pub(super) fn dirty(&self) -> Vec<String> {
        let tree = if self.prefix.is_empty() { "." } else { self.prefix.as_str() };
        let arguments =
            ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", tree];
        parse_status(&ask(&self.toplevel, &arguments).unwrap_or_default(), &self.prefix)
    }

    /// The full id of the commit that `revision` names.
    pub(super) fn commit(&self, revision: &str) -> Result<String> {
        let wanted = format!("{revision}^{{commit}}");
        ask(&self.toplevel, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).ok_or_else(
            || {
                Error::invalid(format!("revision `{revision}` is not known in {}", self.toplevel.display()))
                    .hint("`git fetch` brings revisions that others have pushed; `git log` lists yours")
            },
        )
    }

    /// Writes the tree as it was at `commit` into the new directory `into`, as a checkout would (line ends and filters included), through an index
    /// of its own below `scratch`.
    pub(super) fn export(&self, commit: &str, scratch: &Path, into: &Path) -> Result<()> {
        let index = scratch.join("index");
        let tree = format!("{commit}:{}", self.prefix.trim_end_matches('/'));
        let mut read = git(&self.toplevel);
        read.env("GIT_INDEX_FILE", &index).args(["read-tree", "--end-of-options", &tree]);
        run(read).map_err(|error| {
            error.context(format!("commit {commit} has no directory `{}`", self.prefix.trim_end_matches('/')))
        })?;
        let mut list = git(&self.toplevel);
        list.env("GIT_INDEX_FILE", &index).args(["ls-files", "--stage", "-z"]);
        if let Some(path) = submodule(&run(list)?) {
            return Err(Error::invalid(format!(
                "`{path}` is a git submodule, which a revision does not contain"
            ))
            .hint("fetch it in the `prepare` command, or push the working tree"));
        }
        let mut checkout = git(&self.toplevel);
        let prefix = format!("--prefix={}/", into.display());
        checkout.env("GIT_INDEX_FILE", &index).args(["checkout-index", "--all", "--quiet", &prefix]);
        fs::create_dir(into)
            .map_err(|error| Error::invalid(format!("cannot create {}: {error}", into.display())))?;
        run(checkout).map(drop)
    }
}

/// Who is at the keyboard, by git's configuration or by the login.
pub(super) fn who(path: &Path) -> String {
    let email = ask(path, &["config", "user.email"]).filter(|email| !email.is_empty());
    email.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".to_owned())
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("--no-optional-locks").current_dir(directory).stdin(Stdio::null()).env("LC_ALL", "C");
    // Set by git for its hooks; `ctl` in a hook means the directory that it was told, not the hook's.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command
}

/// The output of a question to which a failure is an answer too.
fn ask(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = git(directory).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim_end_matches('\n').to_owned())
}

fn run(mut command: Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().map_err(|error| Error::invalid(format!("cannot start git: {error}")))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(Error::invalid(String::from_utf8_lossy(&stderr).trim()))
}

/// Paths of `git status --porcelain=v1 -z --no-renames`: two letters, a space, the path, a NUL.
fn parse_status(text: &str, prefix: &str) -> Vec<String> {
    let paths = text.split('\0').filter_map(|line| line.get(3..));
    paths.filter_map(|path| path.strip_prefix(prefix)).map(str::to_owned).collect()
}

/// The first submodule in `git ls-files --stage -z`: mode, object, stage, tab, path.
fn submodule(listing: &str) -> Option<&str> {
    let line = listing.split('\0').find(|line| line.starts_with("160000 "))?;
    line.split_once('\t').map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_relative_to_the_tree() {
        let status = " M puppet/a.pp\0?? puppet/new file\0D  puppet/gone\0";
        assert_eq!(parse_status(status, "puppet/"), ["a.pp", "new file", "gone"]);
        assert_eq!(parse_status("", ""), Vec::<String>::new());
    }

    #[test]
    fn submodules_are_found_in_a_listing() {
        let file = "100644 e69de29bb2d1d6434b8b29ae775ad8c2e48c5391 0\tREADME\0";
        assert_eq!(submodule(file), None);
        let listing = format!("{file}160000 9d5d9bfbc6f3b0bf1b5a3c0a9e0a3a7d9e4c5f60 0\tmodules/ntp\0");
        assert_eq!(submodule(&listing), Some("modules/ntp"));
    }
}
