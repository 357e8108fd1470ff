//! Reads the machine's apt sources for use in hosts: both formats of sources.list(5), and only the distribution's
//! own suites.

use std::{fs, path::Path};

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// One entry, with the fields of deb822.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// A path, or an inline key of several lines.
    signed_by: Option<String>,
}

/// The distribution, from os-release(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Distribution {
    /// `debian` or `ubuntu`.
    pub(super) id: String,
    /// `bookworm`, `noble`, …
    pub(super) codename: String,
}

impl Distribution {
    /// The distribution of this machine.
    pub(super) fn of_this_machine() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release").doing(|| "cannot read /etc/os-release")?;
        Self::parse(&text).ok_or_else(|| {
            Error::invalid("local hosts run this machine's own distribution, which must be Debian or Ubuntu")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim().trim_matches(['"', '\'']).to_owned())
        };
        let (id, codename) = (field("ID")?, field("VERSION_CODENAME")?);
        ["debian", "ubuntu"].contains(&id.as_str()).then_some(Self { id, codename })
    }
}

/// The distribution's own entries below `apt`, which is `/etc/apt` except in tests.
pub(super) fn read(apt: &Path, distribution: &Distribution) -> Result<Vec<Source>> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_deb822(&text)),
            Some("list") => sources.extend(parse_one_line(&text)),
            _ => {}
        }
    }
    let own = select(sources, &distribution.codename);
    if own.is_empty() {
        return Err(Error::invalid(format!(
            "there is no apt source for {} in {}",
            distribution.codename,
            apt.display()
        ))
        .hint("`apt-get update` must work on this machine first"));
    }
    Ok(own)
}

/// Keeps the release and its updates. Third-party archives use the same suite names, so entries with their own key are
/// dropped, unless all entries have one (a company's mirror).
fn select(sources: Vec<Source>, codename: &str) -> Vec<Source> {
    let ours = ["", "-updates", "-security"].map(|suffix| format!("{codename}{suffix}"));
    let mut kept: Vec<Source> = sources
        .into_iter()
        .filter(|source| source.components.iter().any(|component| component == "main"))
        .map(|mut source| {
            source.suites.retain(|suite| ours.contains(suite));
            source
        })
        .filter(|source| !source.suites.is_empty())
        .collect();
    let archive = |source: &Source| source.own_key().is_none();
    if kept.iter().any(archive) {
        kept.retain(archive);
    }
    kept
}

impl Source {
    /// The key that a host needs in addition to those of the distribution.
    pub(super) fn own_key(&self) -> Option<&str> {
        let key = self.signed_by.as_deref()?;
        (!key.starts_with("/usr/share/keyrings/debian-archive")
            && !key.starts_with("/usr/share/keyrings/ubuntu-archive"))
        .then_some(key)
    }

    /// The entry in deb822 format.
    pub(super) fn to_deb822(&self) -> String {
        let key = self.signed_by.as_ref().map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
        format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n{key}\n",
            self.uris.join(" "),
            self.suites.join(" "),
            self.components.join(" ")
        )
    }
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    text.split("\n\n").filter_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &str) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let disabled = field("enabled").is_some_and(|value| ["no", "false", "0"].contains(&value));
    if disabled || !words(field("types")?).contains(&"deb".to_owned()) {
        return None;
    }
    Some(Source {
        uris: words(field("uris")?),
        suites: words(field("suites")?),
        components: words(field("components")?),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

/// `deb [ option=value … ] uri suite component …`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match line.strip_prefix('[') {
        Some(line) => line.split_once(']')?,
        None => ("", line),
    };
    let mut rest = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![rest.next()?],
        suites: vec![rest.next()?],
        components: rest.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| Some(option.strip_prefix("signed-by=")?.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# an old snapshot\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates bookworm-backports\n\
        Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: https://other.example\nSuites: bookworm\nComponents: main\nSigned-By: /etc/apt/keyrings/other.gpg\n\n\
        Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn only_the_distributions_own_suites() {
        let kept = select(parse_deb822(DEB822), "bookworm");
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(kept[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(parse_deb822(&kept[0].to_deb822()), kept, "what is written can be read again");
    }

    #[test]
    fn one_line_format_with_and_without_options() {
        let text = "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://m.example/ubuntu noble main universe # tail\n\
            deb-src http://m.example noble main\ndeb http://m.example/ubuntu noble-security main\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].own_key(), Some("/k.gpg"));
        assert_eq!(sources[1].suites, ["noble-security"]);
    }

    #[test]
    fn a_mirror_with_its_own_key_is_taken_when_there_is_no_other() {
        let text = "deb [signed-by=/etc/apt/keyrings/company.gpg] http://m.example bookworm main\n";
        assert_eq!(select(parse_one_line(text), "bookworm").len(), 1);
    }

    #[test]
    fn distributions_that_can_be_baked() {
        let debian = Distribution::parse("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap();
        assert_eq!(debian.codename, "bookworm");
        assert_eq!(Distribution::parse("ID=fedora\nVERSION_CODENAME=\"\"\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC*(\n\\PC*){0,6}") {
            parse_deb822(&text);
            parse_one_line(&text);
            Distribution::parse(&text);
        }
    }
}
