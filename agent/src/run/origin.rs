//! Turns Puppet's absolute paths into paths relative to the bundle, which the author of the code knows.

/// The directories under which Puppet sees one bundle.
#[derive(Clone, Debug)]
pub struct Origin {
    prefixes: Vec<String>,
}

impl Origin {
    /// A bundle that Puppet may see under any of these directories.
    pub fn new(directories: impl IntoIterator<Item = String>) -> Self {
        let prefixes = directories.into_iter().map(|mut prefix| {
            prefix.truncate(prefix.trim_end_matches('/').len());
            prefix.push('/');
            prefix
        });
        Self { prefixes: prefixes.collect() }
    }

    /// Shortens all paths in a text.
    pub fn shorten(&self, text: &str) -> String {
        self.prefixes.iter().fold(text.to_owned(), |text, prefix| {
            if text.contains(prefix.as_str()) { text.replace(prefix.as_str(), "") } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_bundle_wherever_they_stand() {
        let origin = Origin::new(["/r/env/production/".to_owned(), "/b/tree".to_owned()]);
        assert_eq!(origin.shorten("/r/env/production/manifests/site.pp"), "manifests/site.pp");
        assert_eq!(origin.shorten("bad (file: /b/tree/x.pp, line: 3)"), "bad (file: x.pp, line: 3)");
        assert_eq!(origin.shorten("/etc/motd"), "/etc/motd");
    }
}
