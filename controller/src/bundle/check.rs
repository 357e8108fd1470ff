//! Checks that find mistakes in a bundle before any host is changed.

use std::{collections::BTreeSet, path::Path};

use proto::bundle::{
    Kind,
    environment::{self, Environment},
};

use super::Bundle;
use crate::error::{Error, Result};

/// Third-party code in `modules/` is parsed too, unless there are more files than this.
const MOST_VENDORED_FILES: usize = 500;

/// Checks that the bundle has a main manifest for `environment`, and that it defines `role`. Roles are the classes of a
/// module named `role`; a tree without such a module passes, because it may define roles in another way.
///
/// # Errors
/// No manifest, or no class `role::<role>`; the error lists the known roles.
pub fn check(bundle: &Bundle, environment: &str, role: &str) -> Result<()> {
    check_manifest(bundle, environment)?;
    let Some(roles) = roles(bundle)? else { return Ok(()) };
    if roles.contains(role) {
        return Ok(());
    }
    let mut error =
        Error::invalid(format!("the bundle has no role `{role}`: no module defines the class role::{role}"));
    if let Some(nearest) = nearest(role, &roles) {
        error = error.hint(format!("did you mean `{nearest}`?"));
    }
    let listed: Vec<&str> = roles.iter().map(String::as_str).collect();
    Err(error.hint(format!("roles in the bundle: {}", listed.join(", "))))
}

/// Without a manifest Puppet succeeds and configures nothing, so this is an error here.
fn check_manifest(bundle: &Bundle, name: &str) -> Result<()> {
    let settings = settings(bundle)?;
    let manifest = settings.manifest(name).map_err(|written| {
        Error::invalid(format!("environment.conf sets manifest = {written}, which is not in the bundle"))
            .hint("use a path relative to the root of the control repository")
    })?;
    let found = match bundle.manifest().get(&manifest).map(|entry| &entry.kind) {
        Some(Kind::File { .. } | Kind::Link { .. }) => true,
        Some(Kind::Directory) => has_code(bundle, &format!("{manifest}/")),
        None => manifest.is_empty() && has_code(bundle, ""),
    };
    if found {
        return Ok(());
    }
    let error = match manifest.as_str() {
        "manifests" => Error::invalid("the bundle has no manifests/site.pp or other .pp file in manifests/"),
        other => Error::invalid(format!(
            "environment.conf sets manifest = {other}, but the bundle has no code there"
        )),
    };
    Err(error.hint("`path` under [bundle] must be the root of a Puppet control repository"))
}

fn has_code(bundle: &Bundle, prefix: &str) -> bool {
    bundle.manifest().entries().iter().any(|entry| {
        entry.kind != Kind::Directory && entry.path.starts_with(prefix) && entry.path.ends_with(".pp")
    })
}

fn settings(bundle: &Bundle) -> Result<Environment> {
    Ok(Environment::parse(&bundle.text(environment::FILE)?.unwrap_or_default()))
}

/// The roles that the bundle defines; `None` if it has no module named `role`.
///
/// # Errors
/// `environment.conf` cannot be read.
pub fn roles(bundle: &Bundle) -> Result<Option<BTreeSet<String>>> {
    let directories = settings(bundle)?.module_directories();
    let modules: Vec<String> = directories.iter().map(|directory| format!("{directory}/role/")).collect();
    let in_module =
        |path: &str| modules.iter().find_map(|module| path.strip_prefix(module).map(str::to_owned));
    let files: Vec<String> = bundle.manifest().files().filter_map(|(path, _, _)| in_module(path)).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let classes = files.iter().filter_map(|file| file.strip_prefix("manifests/")?.strip_suffix(".pp"));
    Ok(Some(classes.filter(|class| *class != "init").map(|class| class.replace('/', "::")).collect()))
}

fn nearest<'r>(role: &str, roles: &'r BTreeSet<String>) -> Option<&'r str> {
    let nearest = roles.iter().min_by_key(|known| distance(role, known))?;
    (distance(role, nearest) <= 1 + role.len() / 3).then_some(nearest)
}

/// Levenshtein distance: how many letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The files to pass to `puppet parser validate`, by path in the bundle. Plans are left out: the validator accepts them
/// only with `--tasks`.
pub fn puppet_files<'b>(bundle: &'b Bundle, environment: &str) -> Vec<&'b str> {
    let first = settings(bundle).ok().and_then(|settings| settings.manifest(environment).ok());
    let is_first = |path: &str| first.as_deref() == Some(path);
    let is_plan = |path: &str| path.split('/').any(|name| name == "plans");
    let paths = bundle.manifest().files().map(|(path, _, _)| path);
    let (vendored, own): (Vec<&str>, Vec<&str>) = paths
        .filter(|path| (path.ends_with(".pp") && !is_plan(path)) || is_first(path))
        .partition(|path| path.starts_with("modules/"));
    let vendored = if vendored.len() <= MOST_VENDORED_FILES { vendored } else { Vec::new() };
    own.into_iter().chain(vendored).collect()
}

/// Converts the output of `puppet parser validate` to one error with a line for each complaint; `None` if there are
/// none. Puppet 6 to 8 print `<what> (file: <path>, line: <n>, column: <n>)`.
pub fn parser_errors(bundle: &Bundle, output: &str) -> Option<Error> {
    let output = without_colours(output);
    let complaints: Vec<String> = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Error: "))
        .filter(|line| !line.starts_with("Try 'puppet help"))
        .map(|line| complaint(bundle, line))
        .collect();
    (!complaints.is_empty())
        .then(|| Error::invalid(format!("the Puppet code is not valid:\n  {}", complaints.join("\n  "))))
}

fn complaint(bundle: &Bundle, line: &str) -> String {
    // Drop the useless first half of "Could not parse for environment production: Syntax error …".
    let line = line
        .strip_prefix("Could not parse for environment ")
        .and_then(|rest| rest.split_once(": "))
        .map_or(line, |(_, what)| what);
    let Some((what, place)) = line.rsplit_once(" (file: ") else { return line.to_owned() };
    let place = place.trim_end_matches(')');
    let (file, place) = place.split_once(", ").unwrap_or((place, ""));
    let path = bundle
        .manifest()
        .files()
        .map(|(path, _, _)| path)
        .find(|path| bundle.file(path) == Some(Path::new(file)));
    let number = place.strip_prefix("line: ").and_then(|rest| rest.split(',').next());
    let at = number.map_or_else(String::new, |number| format!(":{number}"));
    format!("{}{at}: {what}", path.unwrap_or(file))
}

/// Drops Puppet's colour escape sequences (`ESC [ … m`).
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;
    use crate::bundle::{BundleConfig, source::from_working_tree};

    fn bundle(files: &[(&str, &str)]) -> (tempfile::TempDir, Bundle) {
        let temp = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }
        let bundle =
            from_working_tree(temp.path(), &BundleConfig::new("."), SystemTime::now()).expect("a bundle");
        (temp, bundle)
    }

    const CONTROL_REPOSITORY: [(&str, &str); 6] = [
        ("environment.conf", "# where\nmodulepath = site:./vendor/:$basemodulepath:/etc/puppet/modules\n"),
        ("manifests/site.pp", "include role\n"),
        ("site/role/manifests/init.pp", "class role {}\n"),
        ("site/role/manifests/db.pp", "class role::db {}\n"),
        ("site/role/manifests/web/edge.pp", "class role::web::edge {}\n"),
        ("modules/role/manifests/other.pp", "class role::other {} # not on the modulepath\n"),
    ];

    #[test]
    fn the_error_for_an_unknown_role_lists_the_known_roles() {
        let (_temp, bundle) = bundle(&CONTROL_REPOSITORY);
        assert!(check(&bundle, "production", "db").is_ok());
        assert!(check(&bundle, "production", "web::edge").is_ok());
        let error = check(&bundle, "production", "dbb").expect_err("no such role");
        assert_eq!(error.to_string(), "the bundle has no role `dbb`: no module defines the class role::dbb");
        assert_eq!(error.hints(), ["did you mean `db`?", "roles in the bundle: db, web::edge"]);
        assert_eq!(check(&bundle, "production", "kafka").expect_err("no such role").hints().len(), 1);
    }

    #[test]
    fn a_tree_without_code_or_roles() {
        let missing = "the bundle has no manifests/site.pp or other .pp file in manifests/";
        for (files, refusal) in [
            (vec![("README.md", "")], Some(missing)),
            (vec![("manifests/README.md", "")], Some(missing)),
            (vec![("manifests/site.pp", "")], None),
            (vec![("manifests/a/nodes.pp", "")], None),
            (vec![("environment.conf", "manifest = top.pp\n"), ("top.pp", "")], None),
            (vec![("environment.conf", "manifest = .\n"), ("top.pp", "")], None),
            (
                vec![("environment.conf", "manifest = top.pp\n"), ("manifests/site.pp", "")],
                Some("environment.conf sets manifest = top.pp, but the bundle has no code there"),
            ),
            (
                vec![("environment.conf", "manifest = /etc/site.pp\n"), ("manifests/site.pp", "")],
                Some("environment.conf sets manifest = /etc/site.pp, which is not in the bundle"),
            ),
        ] {
            let (_temp, bundle) = bundle(&files);
            let refused = check(&bundle, "production", "anything").err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), refusal, "{files:?}");
        }
    }

    #[test]
    fn the_manifest_is_validated_whatever_it_is_called() {
        let (_temp, bundle) = bundle(&[
            ("environment.conf", "manifest = sites/$environment\n"),
            ("sites/production", ""),
            ("manifests/nodes.pp", ""),
        ]);
        assert_eq!(puppet_files(&bundle, "production"), ["manifests/nodes.pp", "sites/production"]);
    }

    #[test]
    fn parser_errors_name_files_of_the_bundle() {
        let (_temp, bundle) = bundle(&CONTROL_REPOSITORY);
        let site = bundle.file("manifests/site.pp").expect("a file").display().to_string();
        let output = format!(
            "\u{1b}[1;31mError: Could not parse for environment production: Syntax error at '}}' (file: {site}, line: 3, column: 1)\u{1b}[0m\n\
             Error: Could not parse for environment production: Illegal variable name (file: /elsewhere.pp, line: 1)\n\
             Error: Try 'puppet help parser validate' for usage\n"
        );
        let error = parser_errors(&bundle, &output).expect("two errors");
        assert_eq!(
            error.to_string(),
            "the Puppet code is not valid:\n  manifests/site.pp:3: Syntax error at '}'\n  /elsewhere.pp:1: Illegal variable name"
        );
        assert!(parser_errors(&bundle, "Warning: something\n").is_none());
    }

    #[test]
    fn own_code_is_validated_and_plans_are_not() {
        let (_temp, bundle) = bundle(&[
            ("manifests/site.pp", ""),
            ("modules/a/plans/x.pp", "#"),
            ("modules/a/manifests/init.pp", "class a {}"),
            ("a.rb", ""),
        ]);
        let files = puppet_files(&bundle, "production");
        assert_eq!(files.len(), 2);
        assert!(files[0].ends_with("manifests/site.pp") && files[1].ends_with("modules/a/manifests/init.pp"));
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("db", "db", 0),
            ("dbb", "db", 1),
            ("web", "bew", 2),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
