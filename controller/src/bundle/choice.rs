//! What is left out of a bundle: paths in `exclude`, and invalid paths where Puppet never looks.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, Result};

/// Directories of an environment or a module that Puppet reads; everything below them belongs to the bundle.
const READ: [&str; 11] = [
    "data",
    "facts.d",
    "files",
    "functions",
    "lib",
    "locales",
    "manifests",
    "plans",
    "tasks",
    "templates",
    "types",
];

/// Directories that are only for developing a module.
const UNREAD: [&str; 7] = ["acceptance", "doc", "docs", "examples", "spec", "test", "tests"];

/// Decides for each path whether to leave it out, and collects warnings.
#[derive(Debug)]
pub(super) struct Choice {
    exclude: Gitignore,
    /// One sentence for each path that was left out although `exclude` does not match it.
    pub(super) warnings: Vec<String>,
}

impl Choice {
    /// Parses `exclude`: patterns in `.gitignore` syntax, relative to the bundle's root.
    pub(super) fn new(exclude: &[String]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in exclude {
            builder.add_line(None, pattern).map_err(|error| {
                Error::invalid(format!("`{pattern}` in `exclude` under [bundle] is not valid: {error}"))
                    .hint("use .gitignore syntax for patterns")
            })?;
        }
        let exclude =
            builder.build().map_err(|error| Error::invalid(format!("`exclude` under [bundle]: {error}")))?;
        Ok(Self { exclude, warnings: Vec::new() })
    }

    /// Whether `exclude` matches this path of the bundle, which must not be a directory.
    pub(super) fn excludes(&self, path: impl AsRef<Path>) -> bool {
        !self.exclude.is_empty() && self.exclude.matched_path_or_any_parents(path, false).is_ignore()
    }

    /// Handles an invalid `path`: leaves it out with a warning if Puppet never reads it, else returns the error.
    pub(super) fn leave_out(&mut self, path: &str, error: Error) -> Result<()> {
        if is_unread(path) {
            self.warnings.push(format!("left out, because Puppet does not read it: {error}"));
            return Ok(());
        }
        Err(error.hint(format!("to leave it out: `exclude = [\"/{path}\"]` under [bundle]")))
    }
}

/// Whether the path is in a directory for tests, examples or documentation of an environment or a module.
fn is_unread(path: &str) -> bool {
    let mut directories = path.split('/');
    directories.next_back();
    directories
        .find(|name| READ.contains(name) || UNREAD.contains(name))
        .is_some_and(|name| UNREAD.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puppet_reads_neither_tests_nor_examples() {
        for (path, unread) in [
            ("modules/ntp/spec/fixtures/modules/ntp", true),
            ("spec/classes/files/x", true),
            ("site/role/tests/init.pp", true),
            ("modules/ntp/files/tests/x", false),
            ("modules/ntp/lib/spec/x.rb", false),
            ("modules/spec", false),
            ("manifests/examples/x.pp", false),
            ("x", false),
        ] {
            assert_eq!(is_unread(path), unread, "{path}");
        }
    }

    #[test]
    fn patterns_use_gitignore_syntax() {
        let patterns = ["/spec", "*.log", "modules/*/spec/", "!keep.log"].map(str::to_owned);
        let choice = Choice::new(&patterns).expect("good");
        for (path, excluded) in [
            ("spec/a", true),
            ("site/spec/a", false),
            ("a/b/x.log", true),
            ("keep.log", false),
            ("modules/ntp/spec/fixtures/a", true),
            ("modules/ntp/manifests/init.pp", false),
        ] {
            assert_eq!(choice.excludes(path), excluded, "{path}");
        }
        assert!(!Choice::new(&[]).expect("good").excludes("a"));
        assert!(Choice::new(&["[z-a]".to_owned()]).is_err());
    }

    #[test]
    fn an_invalid_path_that_puppet_reads_is_refused_with_a_hint() {
        let mut choice = Choice::new(&[]).expect("good");
        choice.leave_out("modules/a/spec/x", Error::invalid("`x` is bad")).expect("a warning");
        assert_eq!(choice.warnings, ["left out, because Puppet does not read it: `x` is bad"]);
        let error = choice.leave_out("modules/a/files/x", Error::invalid("`x` is bad")).expect_err("refused");
        assert_eq!(error.hints(), ["to leave it out: `exclude = [\"/modules/a/files/x\"]` under [bundle]"]);
    }
}
