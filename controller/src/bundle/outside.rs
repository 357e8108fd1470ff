//! Follows links that leave the repository; only with `outside_links`, and never for a revision.
//!
//! Such a link is replaced by its target on this machine, because the host does not have the target (Debian's
//! `/usr/share/puppet/modules` consists of such links). Links inside the target stay links, rewritten to a relative
//! form if needed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    listing::{Kind, Listed, Rules, walk},
    names::{join, relative},
};
use crate::error::{Error, Result};

/// The files and links, by path in the bundle, that replace the link at `link` on this machine, at `path` in the
/// bundle.
///
/// # Errors
/// The link is broken, leads to a directory that contains it, or its target cannot be read.
pub(super) fn follow(link: &Path, path: &str) -> Result<BTreeMap<String, Listed>> {
    let mut walk = Walk { found: BTreeMap::new(), through: Vec::new() };
    walk.replace(link, path.to_owned())?;
    Ok(walk.found)
}

struct Walk {
    found: BTreeMap<String, Listed>,
    /// Directories of the links that are being replaced, outermost first; detects cycles.
    through: Vec<PathBuf>,
}

impl Walk {
    /// Adds everything below `root`, at `prefix` in the bundle.
    fn directory(&mut self, root: &Path, prefix: &str) -> Result<()> {
        for found in walk(root, Rules::Everything) {
            let (entry, kind) = found?;
            let inside = entry.path().strip_prefix(root).expect("walked from the root");
            let path = join(prefix, utf8(inside)?);
            if kind.is_symlink() {
                self.link(entry.path(), path, root, prefix)?;
            } else if kind.is_file() {
                self.add(path, Kind::File, entry.into_path());
            } else {
                return Err(Error::invalid(format!("`{path}` is neither a file, a directory nor a link")));
            }
        }
        Ok(())
    }

    fn link(&mut self, link: &Path, path: String, root: &Path, prefix: &str) -> Result<()> {
        let end = fs::canonicalize(link).map_err(|error| unresolved(&path, &error))?;
        let text = fs::read_link(link).map_err(|error| unresolved(&path, &error))?;
        let Ok(inside) = end.strip_prefix(root) else { return self.replace(link, path) };
        let target = match simple(&text, &path, prefix) {
            Some(target) => target,
            None => relative(&path, &join(prefix, utf8(inside)?)),
        };
        self.add(path, Kind::Link(target), link.to_owned());
        Ok(())
    }

    fn replace(&mut self, link: &Path, path: String) -> Result<()> {
        let end = fs::canonicalize(link).map_err(|error| unresolved(&path, &error))?;
        if end.is_file() {
            self.add(path, Kind::File, end);
            return Ok(());
        }
        let here = link.parent().expect("a link lies in a directory");
        self.through.push(here.canonicalize().map_err(|error| unresolved(&path, &error))?);
        if self.through.iter().any(|directory| directory.starts_with(&end)) {
            return Err(Error::invalid(format!("the link `{path}` leads to a directory that contains it"))
                .hint(format!("its target is {}", end.display())));
        }
        self.directory(&end, &path)?;
        self.through.pop();
        Ok(())
    }

    fn add(&mut self, path: String, kind: Kind, disk: PathBuf) {
        self.found.insert(path, Listed { kind, disk: Some(disk), committed: None });
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("`{}` is not UTF-8", path.display())))
}

fn unresolved(path: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::invalid(format!("the link `{path}` is broken")),
        _ => Error::invalid(format!("cannot follow the link `{path}`: {error}")),
    }
}

/// The link's target without `.` and doubled slashes; `None` if it is absolute or leaves `prefix` on the way.
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

    #[test]
    fn outside_targets_are_copied_with_their_own_links() {
        let (_more, elsewhere) = tree(&["single.pp"]);
        let (_outside, modules) = tree(&["stdlib/manifests/init.pp", "stdlib/d/f"]);
        let stdlib = modules.join("stdlib");
        symlink("init.pp", stdlib.join("manifests/again.pp")).expect("a link");
        symlink(stdlib.join("d/f"), stdlib.join("absolute")).expect("a link");
        symlink(elsewhere.join("single.pp"), stdlib.join("far")).expect("a link");
        let (_temp, root) = tree(&["f"]);
        symlink(&stdlib, root.join("link")).expect("a link");
        let found = follow(&root.join("link"), "modules/stdlib").expect("followed");
        let listed: Vec<String> = found
            .into_iter()
            .map(|(path, listed)| match listed.kind {
                Kind::Link(text) => format!("{path} -> {text}"),
                _ => path,
            })
            .collect();
        assert_eq!(
            listed,
            [
                "modules/stdlib/absolute -> d/f",
                "modules/stdlib/d/f",
                "modules/stdlib/far",
                "modules/stdlib/manifests/again.pp -> init.pp",
                "modules/stdlib/manifests/init.pp",
            ]
        );
    }

    #[test]
    fn errors_name_the_broken_link() {
        for (target, message) in [
            ("../gone", "the link `x` is broken"),
            ("x", "cannot follow the link `x`"),
            ("..", "the link `x` leads to a directory that contains it"),
        ] {
            let (_temp, root) = tree(&["d/f"]);
            symlink(target, root.join("d/x")).expect("a link");
            let error = follow(&root.join("d/x"), "x").expect_err(message).to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
