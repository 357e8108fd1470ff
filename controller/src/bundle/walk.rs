//! Which files of a directory belong to the bundle.
//!
//! Regular files and symbolic links do; empty directories do not, as in git. `.git` never does. Links that end inside the tree stay links,
//! rewritten to a relative form where needed; links that leave it are replaced by what they lead to, since the host does
//! not have it (Debian's `/usr/share/puppet/modules` is made of such links).

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use ignore::WalkBuilder;

use crate::error::{Error, Result};

/// Which files are left out besides `.git`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// None.
    Everything,
    /// What `.gitignore` files in the tree name, also outside git. A person's own global ignore file does not
    /// count: it would give two people two digests.
    Gitignore {
        /// The tree lies in a git repository, so `.gitignore` files above it count too.
        in_repository: bool,
    },
}

/// Something that belongs to the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// In the bundle.
    pub(super) path: String,
    pub(super) kind: FoundKind,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    /// A regular file, and where it lies on this machine.
    File(PathBuf),
    /// A link, and its text in the bundle.
    Link(String),
}

/// Everything below `root` (a canonical path) that `rules` let through, in no particular order.
pub(super) fn walk(root: &Path, rules: Rules) -> Result<Vec<Found>> {
    let mut walk = Walk { found: Vec::new(), through: Vec::new() };
    walk.directory(root, "", rules)?;
    Ok(walk.found)
}

struct Walk {
    found: Vec<Found>,
    /// Directories whose links are being replaced by what they lead to, outermost first.
    through: Vec<PathBuf>,
}

impl Walk {
    /// Adds what is below `root`, as `prefix` in the bundle.
    fn directory(&mut self, root: &Path, prefix: &str, rules: Rules) -> Result<()> {
        for entry in builder(root, rules).build() {
            let entry = entry.map_err(|error| Error::invalid(format!("cannot read the bundle: {error}")))?;
            let kind = entry.file_type().expect("only stdin has no type, and it is not walked");
            if kind.is_dir() {
                continue;
            }
            let inside = entry.path().strip_prefix(root).expect("walked from the root");
            let path = join(prefix, utf8(inside)?);
            if kind.is_symlink() {
                self.link(entry.path(), path, root, prefix)?;
            } else if kind.is_file() {
                self.found.push(Found { path, kind: FoundKind::File(entry.into_path()) });
            } else {
                return Err(Error::invalid(format!("`{path}` is neither a file, a directory nor a link")));
            }
        }
        Ok(())
    }

    fn link(&mut self, link: &Path, path: String, root: &Path, prefix: &str) -> Result<()> {
        let end = fs::canonicalize(link).map_err(|error| unresolved(&path, &error))?;
        let text = fs::read_link(link).map_err(|error| unresolved(&path, &error))?;
        if let Ok(inside) = end.strip_prefix(root) {
            let target = match simple(&text, &path, prefix) {
                Some(target) => target,
                None => relative(&path, &join(prefix, utf8(inside)?)),
            };
            self.found.push(Found { path, kind: FoundKind::Link(target) });
            return Ok(());
        }
        if end.is_file() {
            self.found.push(Found { path, kind: FoundKind::File(end) });
            return Ok(());
        }
        let here = link.parent().expect("a link lies in a directory").to_owned();
        self.through.push(here);
        if self.through.iter().any(|directory| directory.starts_with(&end)) {
            return Err(Error::invalid(format!("the link `{path}` leads to a directory that contains it"))
                .hint(format!("it ends at {}", end.display())));
        }
        self.directory(&end, &path, Rules::Everything)?;
        self.through.pop();
        Ok(())
    }
}

fn builder(root: &Path, rules: Rules) -> WalkBuilder {
    let mut builder = WalkBuilder::new(root);
    builder.standard_filters(false).filter_entry(|entry| entry.file_name() != ".git");
    if let Rules::Gitignore { in_repository } = rules {
        builder.git_ignore(true).require_git(false).parents(in_repository);
    }
    builder
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("`{}` is not UTF-8", path.display())))
}

fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) => format!("{prefix}/{path}"),
    }
}

fn unresolved(path: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::invalid(format!("the link `{path}` points at nothing")),
        _ => Error::invalid(format!("the link `{path}` cannot be followed: {error}")),
    }
}

/// The link's own text without `.` and doubled slashes; `None` if it is absolute or climbs above `prefix` on its way.
fn simple(text: &Path, path: &str, prefix: &str) -> Option<String> {
    let depth = |path: &str| path.split('/').filter(|name| !name.is_empty()).count();
    let mut above = depth(path).checked_sub(depth(prefix) + 1)?;
    let mut names = Vec::new();
    for component in text.components() {
        match component {
            Component::CurDir => continue,
            Component::ParentDir => {
                above = above.checked_sub(1)?;
                names.push("..");
            }
            Component::Normal(name) => {
                above += 1;
                names.push(name.to_str()?);
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(if names.is_empty() { ".".to_owned() } else { names.join("/") })
}

/// The way from the directory of the link at `path` to `target`, both in the bundle.
fn relative(path: &str, target: &str) -> String {
    let names =
        |path: &str| path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (mut from, to) = (names(path), names(target));
    from.pop();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    let way: Vec<&str> = up.chain(to[shared..].iter().map(String::as_str)).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().expect("a directory");
        let root = temp.path().canonicalize().expect("a path");
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, file).expect("a file");
        }
        (temp, root)
    }

    fn listed(root: &Path, rules: Rules) -> Vec<String> {
        let mut listed: Vec<String> = walk(root, rules)
            .expect("walks")
            .into_iter()
            .map(|found| match found.kind {
                FoundKind::File(_) => found.path,
                FoundKind::Link(target) => format!("{} -> {target}", found.path),
            })
            .collect();
        listed.sort();
        listed
    }

    #[test]
    fn gitignore_counts_with_and_without_git() {
        let (_temp, root) = tree(&[
            ".git/HEAD",
            ".gitignore",
            ".fixtures.yml",
            "a.pp",
            "b.log",
            "s/.gitignore",
            "s/c",
            "s/d",
        ]);
        fs::write(root.join(".gitignore"), "*.log\n").expect("a file");
        fs::write(root.join("s/.gitignore"), "d\n").expect("a file");
        for in_repository in [false, true] {
            let kept = listed(&root, Rules::Gitignore { in_repository });
            assert_eq!(kept, [".fixtures.yml", ".gitignore", "a.pp", "s/.gitignore", "s/c"]);
        }
        assert_eq!(listed(&root, Rules::Everything).len(), 7, "only .git is left out");
    }

    #[test]
    fn links_inside_stay_and_links_outside_are_replaced() {
        let (_outside, modules) = tree(&["stdlib/manifests/init.pp", "single.pp"]);
        symlink("init.pp", modules.join("stdlib/manifests/again.pp")).expect("a link");
        let (_temp, root) = tree(&["d/e/f"]);
        for (target, link) in [
            (PathBuf::from("./d//e"), "inside"),
            (root.join("d/e/f"), "d/absolute"),
            (modules.join("stdlib"), "stdlib"),
            (modules.join("single.pp"), "d/single.pp"),
            (PathBuf::from(format!("../{}/d", root.file_name().expect("a name").display())), "roundabout"),
        ] {
            symlink(target, root.join(link)).expect("a link");
        }
        assert_eq!(
            listed(&root, Rules::Everything),
            [
                "d/absolute -> e/f",
                "d/e/f",
                "d/single.pp",
                "inside -> d/e",
                "roundabout -> d",
                "stdlib/manifests/again.pp -> init.pp",
                "stdlib/manifests/init.pp",
            ]
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_named() {
        for (target, message) in [
            ("gone", "the link `d/x` points at nothing"),
            ("x", "the link `d/x` cannot be followed"),
            ("../..", "the link `d/x` leads to a directory that contains it"),
        ] {
            let (_temp, root) = tree(&["d/f"]);
            symlink(target, root.join("d/x")).expect("a link");
            let error = walk(&root, Rules::Everything).expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
