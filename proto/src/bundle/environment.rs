//! `environment.conf` of a control repository: the settings that agent and controller must interpret like Puppet.
//!
//! The syntax is that of Puppet's `settings/ini_file.rb` and `settings/config_file.rb`: lines `name = value`, of
//! which the first for each name counts, comments that begin with `#`, and only the section `[main]`.

use std::collections::HashMap;

/// Path of the file in a bundle.
pub const FILE: &str = "environment.conf";

/// Puppet's default if the file does not set `manifest`: every `.pp` below this directory (Puppet's
/// `default_manifest`).
const DEFAULT_MANIFEST: &str = "manifests";

/// Puppet's expressions for the directory of the environment itself.
const OWN_DIRECTORY: [&str; 2] = ["$environmentpath/$environment", "${environmentpath}/${environment}"];

/// The settings of one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    settings: HashMap<String, String>,
}

impl Environment {
    /// Parses the text of the file; an empty text has no settings.
    pub fn parse(text: &str) -> Self {
        let mut settings = HashMap::new();
        let mut in_main = true;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                in_main = section == "main";
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| in_main) else { continue };
            settings.entry(name.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
        Self { settings }
    }

    /// The file that Puppet reads first, or the directory whose `.pp` files it reads at all depths. Returns a path
    /// relative to the bundle's root, which is the environment `name`; empty for the root itself.
    ///
    /// # Errors
    /// Returns the setting's value if it leads out of the bundle or refers to a setting of the host's own Puppet.
    pub fn manifest(&self, name: &str) -> Result<String, &str> {
        let written = self.settings.get("manifest").map_or(DEFAULT_MANIFEST, String::as_str);
        let own = OWN_DIRECTORY.iter().find_map(|own| written.strip_prefix(own));
        let path = match own {
            Some(rest) => rest.trim_start_matches('/'),
            None => written,
        };
        let path = path.replace("${environment}", name).replace("$environment", name);
        if path.starts_with('/') || path.contains('$') { Err(written) } else { within(&path).ok_or(written) }
    }

    /// The bundle's module directories, in the order of `modulepath`; omits `$basemodulepath` and absolute paths,
    /// which belong to the host.
    pub fn module_directories(&self) -> Vec<String> {
        let value = self.settings.get("modulepath").map_or("modules", String::as_str);
        let own = |directory: &&str| !directory.is_empty() && !directory.starts_with(['/', '$']);
        value.split(':').map(str::trim).filter(own).filter_map(within).collect()
    }
}

/// The simplest form of a relative path; `None` if it climbs above its start.
fn within(path: &str) -> Option<String> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(text: &str) -> Result<String, String> {
        Environment::parse(text).manifest("production").map_err(str::to_owned)
    }

    #[test]
    fn the_manifest_is_what_puppet_would_read() {
        for (text, path) in [
            ("", "manifests"),
            ("# manifest = other.pp\nmodulepath = site\n", "manifests"),
            ("manifest = site.pp\n", "site.pp"),
            ("[main]\n  manifest=./a//b/../main.pp  \n", "a/main.pp"),
            ("manifest = first.pp\nmanifest = second.pp\n", "first.pp"),
            ("[other]\nmanifest = ignored.pp\n", "manifests"),
            ("manifest = $environmentpath/$environment/top\n", "top"),
            ("manifest = ${environmentpath}/${environment}/top\n", "top"),
            ("manifest = sites/$environment.pp\n", "sites/production.pp"),
            ("manifest = .\n", ""),
        ] {
            assert_eq!(manifest(text), Ok(path.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_manifest_outside_of_the_bundle_is_refused() {
        for written in ["/etc/puppet/site.pp", "$confdir/site.pp", "../other/site.pp", "$codedir"] {
            assert_eq!(manifest(&format!("manifest = {written}\n")), Err(written.to_owned()));
        }
    }

    #[test]
    fn modules_are_found_where_the_file_says() {
        let directories = |text: &str| Environment::parse(text).module_directories();
        assert_eq!(directories(""), ["modules"]);
        assert_eq!(
            directories("modulepath = site:./vendor/:$basemodulepath:/etc/puppet/modules:../x\n"),
            ["site", "vendor"]
        );
    }

    proptest! {
        #[test]
        fn no_text_leads_out_of_the_bundle(text in "(manifest|modulepath| |=|\\.|/|\\$environment|:|a|\n){0,12}") {
            let environment = Environment::parse(&text);
            let manifest = environment.manifest("production").unwrap_or_default();
            for path in environment.module_directories().iter().chain([&manifest]) {
                prop_assert!(!path.starts_with('/') && path.split('/').all(|name| name != ".."));
            }
        }
    }
}
