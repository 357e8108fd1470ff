//! Decides which paths of a listing are in the bundle, and handles links.
//!
//! A link whose target is inside the bundle's directory stays a link, rewritten to a relative form if needed. A link to
//! another part of the repository is replaced by its target, which the host does not have. A link that leaves the
//! repository is left to the caller. Links are resolved in the listing, not on disk, by the kernel's rules
//! (`path_resolution(7)`), so that a commit and its checkout give the same bundle.

use std::collections::{BTreeMap, HashSet};

use proto::bundle::{MAX_ENTRIES, link::MAX_HOPS, path::parent};

use super::{
    choice::Choice,
    listing::{Kind, Listed},
    names::{below, join, relative},
};
use crate::error::{Error, Result};

/// The paths of a bundle. The first element of each pair is the path in the bundle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Files, and their paths in the listing.
    pub(super) files: Vec<(String, String)>,
    /// Links, and their targets.
    pub(super) links: Vec<(String, String)>,
    /// Broken links, and their targets.
    pub(super) broken: Vec<(String, String)>,
    /// Links that leave the repository, and their paths in the listing.
    pub(super) outside: Vec<(String, String)>,
    /// Submodules that are not checked out.
    pub(super) submodules: Vec<String>,
    /// A link leaves the listed part: list the whole repository and select again.
    pub(super) beyond: bool,
    /// Link targets outside the bundle's directory, as paths in the listing.
    pub(super) elsewhere: Vec<String>,
}

/// The final target of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// This path; `direct` if resolving it never left the bundle's directory.
    At {
        path: String,
        direct: bool,
    },
    Outside,
    Nowhere,
    /// Outside the listed part of the repository.
    Beyond,
}

/// Selects the paths below `prefix`. `whole` means that the whole repository was listed, not only `prefix`.
///
/// # Errors
/// A link leads to a directory that contains it, or the bundle has too many files.
pub(super) fn select(
    entries: &BTreeMap<String, Listed>,
    prefix: &str,
    whole: bool,
    choice: &Choice,
) -> Result<Selection> {
    let mut select = Select {
        entries,
        choice,
        listed: if whole { "" } else { prefix },
        through: Vec::new(),
        selection: Selection::default(),
    };
    select.directory(prefix, "")?;
    let mut selection = select.selection;
    selection.break_links();
    Ok(selection)
}

struct Select<'l> {
    entries: &'l BTreeMap<String, Listed>,
    choice: &'l Choice,
    /// The path that was listed.
    listed: &'l str,
    /// Directories of the links that are being replaced, outermost first; detects cycles.
    through: Vec<String>,
    selection: Selection,
}

impl Select<'_> {
    /// Adds everything below `directory` of the listing, at `place` in the bundle.
    fn directory(&mut self, directory: &str, place: &str) -> Result<()> {
        for (path, listed) in below(self.entries, directory) {
            let inside = path[directory.len()..].trim_start_matches('/');
            let name = join(place, inside);
            if self.choice.excludes(&name) {
                continue;
            }
            match &listed.kind {
                Kind::File => self.selection.files.push((name, path.clone())),
                Kind::Submodule => self.selection.submodules.push(name),
                Kind::Link(text) => self.link(path, name, text, directory, place)?,
            }
            if self.selection.files.len() + self.selection.links.len() > MAX_ENTRIES {
                return Err(Error::invalid(format!("the bundle has more than {MAX_ENTRIES} files and links"))
                    .hint("a bundle should contain only code; exclude the rest with .gitignore or `exclude` under [bundle]"));
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &str, name: String, text: &str, directory: &str, place: &str) -> Result<()> {
        match self.follow(path, text, directory) {
            End::Beyond => self.selection.beyond = true,
            End::Outside => self.selection.outside.push((name, path.to_owned())),
            End::Nowhere => self.selection.broken.push((name, text.to_owned())),
            End::At { path: end, direct } => match within(&end, directory) {
                Some(_) if direct => self.selection.links.push((name, simple(text))),
                Some(inside) => {
                    let text = relative(&name, &join(place, inside));
                    self.selection.links.push((name, text));
                }
                None => self.replace(path, name, end)?,
            },
        }
        Ok(())
    }

    /// Replaces a link with its target.
    fn replace(&mut self, link: &str, name: String, end: String) -> Result<()> {
        self.selection.elsewhere.push(end.clone());
        if self.entries.get(&end).is_some_and(|listed| listed.kind == Kind::File) {
            self.selection.files.push((name, end));
            return Ok(());
        }
        if self.entries.contains_key(&end) {
            self.selection.submodules.push(name);
            return Ok(());
        }
        self.through.push(parent(link).unwrap_or_default().to_owned());
        if self.through.iter().any(|directory| within(directory, &end).is_some()) {
            return Err(Error::invalid(format!("the link `{name}` leads to a directory that contains it"))
                .hint(format!(
                    "its target is `{}` in the repository",
                    if end.is_empty() { "." } else { &end }
                )));
        }
        self.directory(&end, &name)?;
        self.through.pop();
        Ok(())
    }

    fn follow(&self, link: &str, text: &str, directory: &str) -> End {
        let mut at: Vec<&str> = parent(link).map_or_else(Vec::new, |parent| parent.split('/').collect());
        let mut ahead: Vec<&str> = text.rsplit('/').collect();
        let (mut hops, mut direct, mut absolute) = (0, true, text.starts_with('/'));
        if text.is_empty() {
            return End::Nowhere;
        }
        while let Some(name) = ahead.pop() {
            if absolute {
                return End::Outside;
            }
            match name {
                "" | "." => continue,
                ".." if at.pop().is_none() => return End::Outside,
                ".." => {}
                name => at.push(name),
            }
            let here = at.join("/");
            direct &= within(&here, directory).is_some();
            if within(&here, self.listed).is_none() {
                return End::Beyond;
            }
            match self.entries.get(&here).map(|listed| &listed.kind) {
                Some(Kind::Link(text)) => {
                    hops += 1;
                    if hops == MAX_HOPS {
                        return End::Nowhere;
                    }
                    at.pop();
                    absolute = text.starts_with('/');
                    ahead.extend(text.rsplit('/'));
                }
                Some(_) if ahead.iter().any(|name| !matches!(*name, "" | ".")) => return End::Nowhere,
                Some(_) => {}
                None if here.is_empty() || below(self.entries, &here).next().is_some() => {}
                None => return End::Nowhere,
            }
        }
        End::At { path: at.join("/"), direct }
    }
}

impl Selection {
    /// Moves links to targets that were left out to `broken`.
    fn break_links(&mut self) {
        if self.links.is_empty() {
            return;
        }
        let mut places: HashSet<String> = HashSet::from([String::new()]);
        let all = [&self.files, &self.links, &self.outside, &self.broken].into_iter().flatten();
        for path in all.map(|(path, _)| path).chain(&self.submodules) {
            places.insert(path.clone());
            let mut at = path.as_str();
            while let Some(directory) = parent(at).filter(|directory| places.insert((*directory).to_owned()))
            {
                at = directory;
            }
        }
        // A target that passes through another link cannot be resolved from its text; the manifest checks it later.
        let target = |(link, text): &(String, String)| resolve(parent(link).unwrap_or_default(), text);
        let through_link: HashSet<&str> =
            self.links.iter().chain(&self.outside).map(|(path, _)| path.as_str()).collect();
        let leads = |pair: &(String, String)| {
            target(pair).is_none_or(|target| {
                places.contains(&target) || ancestors(&target).any(|path| through_link.contains(path))
            })
        };
        let (links, broken): (Vec<_>, Vec<_>) = self.links.iter().cloned().partition(leads);
        self.links = links;
        self.broken.extend(broken);
    }
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |path| parent(path))
}

/// Resolves `text` relative to `directory`, without looking at links.
fn resolve(directory: &str, text: &str) -> Option<String> {
    let mut at: Vec<&str> = directory.split('/').filter(|name| !name.is_empty()).collect();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(at.pop()?),
            name => at.push(name),
        }
    }
    Some(at.join("/"))
}

/// `path` relative to `directory`, if it is `directory` or below it.
pub(super) fn within<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    if directory.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// A link's target without `.` and doubled slashes.
fn simple(text: &str) -> String {
    let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.is_empty() { ".".to_owned() } else { names.join("/") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(listed: &[(&str, &str)]) -> BTreeMap<String, Listed> {
        let kind = |text: &str| if text.is_empty() { Kind::File } else { Kind::Link(text.to_owned()) };
        let entry = |kind| Listed { kind, disk: None, committed: None };
        listed.iter().map(|(path, text)| ((*path).to_owned(), entry(kind(text)))).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn selected(listed: &[(&str, &str)], prefix: &str, exclude: &[&str]) -> Result<Selection> {
        let exclude: Vec<String> = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        select(&entries(listed), prefix, true, &Choice::new(&exclude).expect("good"))
    }

    #[test]
    fn links_stay_are_replaced_or_leave() {
        let selection = selected(
            &[
                ("p/a/f", ""),
                ("p/inside", "./a//f"),
                ("p/a/round", "../../p/a/f"),
                ("p/a/up", ".."),
                ("p/file", "../shared/one"),
                ("p/tree", "../shared/d"),
                ("p/through", "tree/x"),
                ("p/gone", "nothing"),
                ("p/loop", "loop"),
                ("p/below", "a/f/x"),
                ("p/out", "../../elsewhere"),
                ("p/absolute", "/etc/passwd"),
                ("shared/one", ""),
                ("shared/d/x", ""),
                ("shared/d/y", "x"),
                ("shared/d/z", "../one"),
            ],
            "p",
            &[],
        )
        .expect("selected");
        assert_eq!(
            selection.files,
            pairs(&[
                ("a/f", "p/a/f"),
                ("file", "shared/one"),
                ("through", "shared/d/x"),
                ("tree/x", "shared/d/x"),
                ("tree/z", "shared/one"),
            ])
        );
        assert_eq!(
            selection.links,
            pairs(&[("a/round", "f"), ("a/up", ".."), ("inside", "a/f"), ("tree/y", "x")])
        );
        assert_eq!(selection.broken, pairs(&[("below", "a/f/x"), ("gone", "nothing"), ("loop", "loop")]));
        assert_eq!(selection.outside, pairs(&[("absolute", "p/absolute"), ("out", "p/out")]));
        assert!(!selection.beyond);
    }

    #[test]
    fn a_link_out_of_the_listed_part_is_reported() {
        let choice = Choice::new(&[]).expect("good");
        let beyond = |text: &str| {
            select(&entries(&[("p/a", ""), ("p/x", text)]), "p", false, &choice).expect("selected").beyond
        };
        assert!(beyond("../shared") && beyond("../p/../q"));
        assert!(!beyond("a") && !beyond("/etc/passwd") && !beyond("gone"));
    }

    #[test]
    fn links_to_excluded_paths_are_broken() {
        let tree = [("a/f", ""), ("a/g", ""), ("x", "a/f"), ("y", "a"), ("z", "y/g")];
        let selection = selected(&tree, "", &["/a/f"]).expect("selected");
        assert_eq!(selection.broken, pairs(&[("x", "a/f")]));
        assert_eq!(selection.links, pairs(&[("y", "a"), ("z", "y/g")]));
        assert_eq!(selected(&tree, "", &["/a/f", "x"]).expect("selected").broken, []);
    }

    #[test]
    fn directories_within_themselves_are_refused() {
        let error = selected(&[("p/d/f", ""), ("p/d/x", "../..")], "p", &[]).expect_err("a circle");
        assert_eq!(error.to_string(), "the link `d/x` leads to a directory that contains it");
        let both = [("p/a", "../q"), ("q/f", ""), ("q/b", "../r"), ("r/c", "../q")];
        assert!(selected(&both, "p", &[]).is_err());
    }

    #[test]
    fn links_cannot_multiply_a_bundle_endlessly() {
        let mut listed = vec![("p/start".to_owned(), "../d0".to_owned()), ("d9/f".to_owned(), String::new())];
        for level in 0..9 {
            for link in 0..9 {
                listed.push((format!("d{level}/{link}"), format!("../d{}", level + 1)));
            }
        }
        let listed: Vec<(&str, &str)> = listed.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let error = selected(&listed, "p", &[]).expect_err("9⁹ files");
        assert_eq!(error.to_string(), "the bundle has more than 100000 files and links");
    }

    proptest! {
        /// Whatever links a tree has, remaining links are relative and stay inside.
        #[test]
        fn no_link_leads_out(tree in proptest::collection::btree_map("[ab]{1}(/[ab]){0,3}", "((\\.\\.|a|b|\\.|)/){0,4}[ab]?", 0..12)) {
            let listed: Vec<(&str, &str)> = tree.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            if let Ok(selection) = selected(&listed, "a", &[]) {
                for (path, text) in &selection.links {
                    prop_assert!(!text.starts_with('/') && !text.is_empty());
                    let directory = parent(path).unwrap_or_default();
                    prop_assert!(resolve(directory, text).is_some(), "{path} -> {text}");
                }
            }
        }
    }
}
