//! Finds modules that the code needs but the bundle lacks, because git ignores the directory that they are installed
//! in.

use std::path::Path;

use proto::bundle::environment::Environment;

/// Maximum number of module names in a warning.
const SHOWN: usize = 5;

/// Warnings about missing modules: modules of the `Puppetfile`, and directories on the modulepath that are not empty
/// below `root` on this machine, but empty in the bundle. `paths` are the paths of the bundle.
pub(super) fn missing<'p>(
    puppetfile: &str,
    environment: &str,
    paths: impl Iterator<Item = &'p str> + Clone,
    root: Option<&Path>,
) -> Vec<String> {
    let directories = Environment::parse(environment).module_directories();
    let holds = |directory: &str| {
        let directory = format!("{directory}/");
        paths.clone().any(|path| path.starts_with(&directory))
    };
    let wanted = modules(puppetfile);
    let lost: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|module| !directories.iter().any(|directory| holds(&format!("{directory}/{module}"))))
        .collect();
    if !lost.is_empty() {
        let more = if lost.len() > SHOWN { ", …" } else { "" };
        return vec![format!(
            "{} of {} modules of the Puppetfile are not in the bundle ({}{more}): to fetch them, set `prepare = \"r10k puppetfile \
             install\"` under [bundle]",
            lost.len(),
            wanted.len(),
            lost[..lost.len().min(SHOWN)].join(", "),
        )];
    }
    let is_filled = |directory: &&String| {
        let entries = root.and_then(|root| std::fs::read_dir(root.join(directory)).ok());
        entries.is_some_and(|mut entries| entries.next().is_some()) && !holds(directory)
    };
    let empty = directories.iter().filter(is_filled);
    empty
        .map(|directory| {
            format!(
                "`{directory}` is on the modulepath but not in the bundle, because git ignores its content; a `prepare` \
                 command under [bundle] can add it"
            )
        })
        .collect()
}

/// Module names without their authors, from lines such as `mod 'puppetlabs-ntp', '1.0.0'`.
fn modules(puppetfile: &str) -> Vec<&str> {
    let name = |line: &'_ str| -> Option<(usize, usize)> {
        let rest = line.trim_start().strip_prefix("mod")?;
        let quoted = rest.trim_start_matches([' ', '\t', '(']);
        let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let start = line.len() - quoted.len() + 1;
        Some((start, start + line[start..].find(quote)?))
    };
    let full = puppetfile.lines().filter_map(|line| name(line).map(|(start, end)| &line[start..end]));
    full.map(|name| name.rsplit(['-', '/']).next().unwrap_or(name)).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUPPETFILE: &str = "forge 'https://forge.example.org'\n# mod 'not-this'\nmod 'puppetlabs-ntp', '1.0.0'\n\
        mod \"puppetlabs/stdlib\"\nmod 'profile',\n  git: 'https://example.org/profile.git'\nmodule = 'x'\n";

    #[test]
    fn modules_are_named_without_their_authors() {
        assert_eq!(modules(PUPPETFILE), ["ntp", "stdlib", "profile"]);
    }

    #[test]
    fn modules_of_the_puppetfile_are_looked_for_on_the_modulepath() {
        let missing =
            |paths: &[&str]| missing(PUPPETFILE, "modulepath = site:modules", paths.iter().copied(), None);
        assert_eq!(
            missing(&["Puppetfile", "site/profile/manifests/init.pp", "other/ntp/x"]),
            ["2 of 3 modules of the Puppetfile are not in the bundle (ntp, stdlib): to fetch them, set \
              `prepare = \"r10k puppetfile install\"` under [bundle]"]
        );
        assert!(missing(&["modules/ntp/a", "modules/stdlib/a", "site/profile/a"]).is_empty());
    }

    #[test]
    fn a_modulepath_directory_missing_from_the_bundle_is_reported() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("modules/ntp")).expect("made");
        std::fs::create_dir_all(root.path().join("site")).expect("made");
        let missing = |paths: &[&str]| {
            missing("", "modulepath = site:modules", paths.iter().copied(), Some(root.path()))
        };
        assert_eq!(
            missing(&["manifests/site.pp"]),
            ["`modules` is on the modulepath but not in the bundle, because git ignores its content; a \
              `prepare` command under [bundle] can add it"]
        );
        assert!(missing(&["modules/ntp/manifests/init.pp"]).is_empty());
    }

    proptest! {
        #[test]
        fn any_puppetfile_is_harmless(text in "(mod| |'|\"|-|/|\\(|ä|\n){0,20}") {
            for name in modules(&text) {
                prop_assert!(!name.contains(['-', '/', '\n']));
            }
        }
    }
}
