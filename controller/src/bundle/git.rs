//! The only module that runs `git`. Nothing here changes a checkout, its index or its references.
//!
//! The content of a bundle must not depend on the machine's settings. So we only read git's lists and objects and never
//! check anything out: line ends, filters, `export-ignore`, replaced objects and a user's own ignore files have no
//! effect.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::error::{Error, Result};

/// The position of a tree in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkout {
    /// The root of the working tree.
    pub(super) toplevel: PathBuf,
    /// The tree's path within it; empty for the root.
    pub(super) prefix: String,
}

/// A line of the index or of a commit's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    /// Path in the repository.
    pub(super) path: Vec<u8>,
    pub(super) mode: Mode,
    /// Object id in hex.
    pub(super) object: String,
    /// Git ignores the file on disk (sparse checkouts, `update-index --assume-unchanged`).
    pub(super) unwatched: bool,
    /// The path has a merge conflict.
    pub(super) unmerged: bool,
}

/// The kind of a tracked path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    File { executable: bool },
    Link,
    Submodule,
}

/// Changed tracked paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Paths that differ from the commit, in the index or on disk.
    pub(super) any: HashSet<String>,
    /// Paths that differ on disk from the index.
    pub(super) on_disk: HashSet<String>,
}

impl Checkout {
    /// The checkout that contains `path`; `None` if there is none.
    ///
    /// # Errors
    /// Git cannot or will not read the checkout.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        let mut command = git(path);
        command.args(["rev-parse", "--show-toplevel", "--show-prefix"]);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return without_git(path),
            Err(error) => return Err(unstartable(&error)),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // Git prints the same for a checkout whose repository is missing, such as a worktree in a container.
            let there_is_none = said.contains("not a git repository") && !is_in_repository(path);
            return if there_is_none { Ok(None) } else { Err(refused(said.trim())) };
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let toplevel = PathBuf::from(lines.next().unwrap_or_default());
        let prefix = lines.next().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Some(Self { toplevel, prefix }))
    }

    /// The commit that is checked out; `None` before the first one.
    pub(super) fn head(&self) -> Option<String> {
        ask(&self.toplevel, &["rev-parse", "--verify", "--quiet", "HEAD"])
    }

    /// The full id of the commit that `revision` names.
    pub(super) fn commit(&self, revision: &str) -> Result<String> {
        let wanted = format!("{revision}^{{commit}}");
        ask(&self.toplevel, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).ok_or_else(
            || {
                Error::invalid(format!("unknown revision `{revision}` in {}", self.toplevel.display()))
                    .hint("`git fetch` gets revisions that others have pushed; `git log` lists yours")
            },
        )
    }

    /// All entries below `path` in the index.
    pub(super) fn tracked(&self, path: &str) -> Result<Vec<Tracked>> {
        let listing = self.list(&["ls-files", "-v", "--stage", "-z", "--", place(path)])?;
        Ok(lines(&listing).filter_map(parse_index).collect())
    }

    /// All paths below `path` on disk that are neither in the index nor ignored by a `.gitignore`; the path of a nested
    /// repository ends with a slash.
    pub(super) fn untracked(&self, path: &str) -> Result<Vec<Vec<u8>>> {
        let arguments =
            ["ls-files", "--others", "--exclude-per-directory=.gitignore", "-z", "--", place(path)];
        Ok(lines(&self.list(&arguments)?).map(<[u8]>::to_vec).collect())
    }

    /// All entries below `path` in a commit.
    pub(super) fn committed(&self, commit: &str, path: &str) -> Result<Vec<Tracked>> {
        let listing = self.list(&["ls-tree", "-r", "-z", "--full-tree", commit, "--", place(path)])?;
        Ok(lines(&listing).filter_map(parse_tree).collect())
    }

    /// The changed tracked paths below these paths.
    pub(super) fn changes(&self, paths: &[&str]) -> Result<Changes> {
        let mut arguments = vec![
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
            "--",
        ];
        arguments.extend(paths.iter().map(|path| place(path)));
        Ok(parse_status(&self.list(&arguments)?))
    }

    /// Whether git ignores the tree's directory.
    pub(super) fn ignored(&self) -> bool {
        !self.prefix.is_empty()
            && ask(&self.toplevel, &["check-ignore", "--quiet", "--", &self.prefix]).is_some()
    }

    /// `git cat-file --batch`, ready to be started.
    pub(super) fn objects(&self) -> Command {
        let mut command = git(&self.toplevel);
        command.args(["cat-file", "--batch", "--buffer"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn list(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = git(&self.toplevel);
        let Output { status, stdout, stderr } = command
            .arg("--literal-pathspecs")
            .args(arguments)
            .output()
            .map_err(|error| unstartable(&error))?;
        if status.success() { Ok(stdout) } else { Err(refused(String::from_utf8_lossy(&stderr).trim())) }
    }
}

/// The current user: the email address from git's configuration, or the login name.
pub(super) fn who(path: &Path) -> String {
    let email = ask(path, &["config", "user.email"]).filter(|email| !email.is_empty());
    email.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".to_owned())
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["--no-optional-locks", "--no-replace-objects", "-c", "core.fsmonitor=false"]);
    command.current_dir(directory).stdin(Stdio::null()).env("LC_ALL", "C");
    // Git sets these variables for its hooks; in a hook, `ctl` must still use its own directory.
    for variable in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE"]
    {
        command.env_remove(variable);
    }
    command
}

/// Without git, only a tree outside any repository is allowed: in a repository, the bundle would differ.
fn without_git(path: &Path) -> Result<Option<Checkout>> {
    if is_in_repository(path) {
        return Err(Error::invalid(format!(
            "{} is in a git repository, but git is not installed",
            path.display()
        ))
        .hint("install git: it decides which files belong to the bundle"));
    }
    Ok(None)
}

fn is_in_repository(path: &Path) -> bool {
    path.ancestors().any(|directory| directory.join(".git").exists())
}

fn unstartable(error: &io::Error) -> Error {
    Error::invalid(format!("cannot start git: {error}"))
}

fn refused(said: &str) -> Error {
    Error::invalid(format!("git cannot read the repository: {said}"))
}

/// The output of a git command; `None` if it fails.
fn ask(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = git(directory).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim_end_matches('\n').to_owned())
}

fn place(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn lines(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    listing.split(|byte| *byte == 0).filter(|line| !line.is_empty())
}

/// A line of `git ls-files -v --stage -z`: tag, mode, object, stage, tab, path.
fn parse_index(line: &[u8]) -> Option<Tracked> {
    let (head, path) = split(line)?;
    let [tag, mode, object, stage] = head.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let unwatched = tag.eq_ignore_ascii_case("S") || tag.starts_with(|tag: char| tag.is_ascii_lowercase());
    Some(Tracked {
        path,
        mode: parse_mode(mode)?,
        object: object.to_owned(),
        unwatched,
        unmerged: stage != "0",
    })
}

/// A line of `git ls-tree -r -z`: mode, type, object, tab, path.
fn parse_tree(line: &[u8]) -> Option<Tracked> {
    let (head, path) = split(line)?;
    let [mode, _, object] = head.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some(Tracked {
        path,
        mode: parse_mode(mode)?,
        object: object.to_owned(),
        unwatched: false,
        unmerged: false,
    })
}

fn split(line: &[u8]) -> Option<(&str, Vec<u8>)> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    Some((str::from_utf8(&line[..tab]).ok()?, line[tab + 1..].to_vec()))
}

fn parse_mode(mode: &str) -> Option<Mode> {
    match mode {
        "100755" => Some(Mode::File { executable: true }),
        "120000" => Some(Mode::Link),
        "160000" => Some(Mode::Submodule),
        mode => mode.starts_with("100").then_some(Mode::File { executable: false }),
    }
}

/// `git status --porcelain=v1 -z --no-renames`: two letters (index, disk), a space, the path.
fn parse_status(listing: &[u8]) -> Changes {
    let mut changes = Changes::default();
    for line in lines(listing).filter(|line| line.len() > 3) {
        let path = String::from_utf8_lossy(&line[3..]).into_owned();
        if line[1] != b' ' {
            changes.on_disk.insert(path.clone());
        }
        changes.any.insert(path);
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(paths: &[&str]) -> HashSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn status_separates_index_and_disk_changes() {
        let changes = parse_status(b" M puppet/a.pp\0M  puppet/new file\0MD puppet/gone\0");
        assert_eq!(changes.any, set(&["puppet/a.pp", "puppet/new file", "puppet/gone"]));
        assert_eq!(changes.on_disk, set(&["puppet/a.pp", "puppet/gone"]));
        assert_eq!(parse_status(b""), Changes::default());
    }

    #[test]
    fn listings_are_read_column_by_column() {
        let object = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        let tracked = |path: &str, mode| Tracked {
            path: path.into(),
            mode,
            object: object.to_owned(),
            unwatched: false,
            unmerged: false,
        };
        let file = tracked("a b\tc", Mode::File { executable: false });
        let parse = |line: &str| parse_index(line.replace('@', object).as_bytes());
        assert_eq!(parse("H 100644 @ 0\ta b\tc"), Some(file.clone()));
        assert_eq!(parse("S 100644 @ 0\ta b\tc"), Some(Tracked { unwatched: true, ..file.clone() }));
        assert_eq!(parse("h 100644 @ 0\ta b\tc"), Some(Tracked { unwatched: true, ..file.clone() }));
        assert_eq!(parse("M 100644 @ 2\ta b\tc"), Some(Tracked { unmerged: true, ..file.clone() }));
        let parse = |line: &str| parse_tree(line.replace('@', object).as_bytes());
        assert_eq!(parse("100644 blob @\ta b\tc"), Some(file));
        assert_eq!(parse("100755 blob @\tx"), Some(tracked("x", Mode::File { executable: true })));
        assert_eq!(parse("120000 blob @\tx"), Some(tracked("x", Mode::Link)));
        assert_eq!(parse("160000 commit @\tx"), Some(tracked("x", Mode::Submodule)));
    }

    proptest! {
        #[test]
        fn any_listing_is_harmless(listing in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse_status(&listing);
            let read = lines(&listing).filter_map(parse_index).chain(lines(&listing).filter_map(parse_tree));
            prop_assert!(read.count() <= 2 * listing.len());
        }
    }
}
