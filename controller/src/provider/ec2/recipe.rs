//! Contents of an image, the key of these contents, and the scripts that build and test the image on an instance.

use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    config::BakeConfig,
    error::{Error, Result},
    provider::ImageId,
};

/// Installs the agent and Puppet, and removes everything that identifies a machine.
const INSTALL: &str = include_str!("../../../../deploy/image/install.sh");
/// End marker of the installer inside the builder's script.
const END: &str = "MAGPIE_END_OF_INSTALLER";
/// A builder's last console line: this and the agent's version, or `FAILED` and the reason.
const DONE: &str = "MAGPIE-BAKE done";
const FAILED: &str = "MAGPIE-BAKE failed:";
/// A trial's last console line: this, or `REFUSED` and the reason.
const CLEAN: &str = "MAGPIE-IMAGE clean";
const REFUSED: &str = "MAGPIE-IMAGE refused:";

/// Contents of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Image to start from.
    pub(super) base: ImageId,
    /// URL of the agent's package, and its digest.
    package: String,
    sha256: String,
    packages: Vec<String>,
}

impl Recipe {
    /// # Errors
    /// A setting is missing.
    pub(super) fn new(settings: &BakeConfig, base: ImageId) -> Result<Self> {
        let missing = |what: &str| Error::invalid(format!("[ec2.bake] has no {what}"));
        Ok(Self {
            base,
            package: settings.package.clone().ok_or_else(|| {
                missing("package").hint(
                    "set it to the URL of magpie-agent's .deb or .rpm, where instances can fetch it: user-data \
                     is limited to 16 KiB, so ctl cannot send the package",
                )
            })?,
            sha256: settings.sha256.clone().ok_or_else(|| missing("sha256"))?,
            packages: settings.packages.clone(),
        })
    }

    /// 16 hex digits, the same for the same content. The package counts by its digest, not by its URL.
    pub(super) fn key(&self) -> String {
        let mut packages = self.packages.clone();
        packages.sort_unstable();
        packages.dedup();
        let mut context = Context::new(&SHA256);
        for part in [self.base.0.as_str(), INSTALL, &self.sha256, &packages.join(" ")] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        hex::encode(&context.finish().as_ref()[..8])
    }

    /// User-data of the builder; cloud-init runs it once, as root.
    pub(super) fn script(&self) -> String {
        let [package, sha256, packages] =
            [&self.package, &self.sha256, &self.packages.join(" ")].map(|text| quoted(text));
        format!(
            "#!/bin/sh\n\
             work=$(mktemp -d)\n\
             cat >\"$work/install.sh\" <<'{END}'\n{INSTALL}{END}\n\
             if sh \"$work/install.sh\" --package {package} --sha256 {sha256} --packages {packages} --ec2 --seal \\\n\
             \x20   >\"$work/log\" 2>&1; then\n\
             \x20   said=\"{DONE} $(/usr/lib/magpie/agent --version | sed 's/.* //')\"\n\
             else\n\
             \x20   said=\"{FAILED} $(tail -n 1 \"$work/log\")\"\n\
             \x20   tail -n 20 \"$work/log\" >/dev/console\n\
             fi\n\
             rm -rf \"$work\"\n\
             sync\n\
             echo \"$said\" >/dev/console\n\
             poweroff\n"
        )
    }
}

/// User-data of the trial, which fails if the image contains an identity.
pub(super) fn trial_script() -> String {
    format!(
        "#!/bin/sh\n\
         if said=$(/usr/lib/magpie/agent seal --check 2>&1); then\n\
         \x20   said='{CLEAN}'\n\
         else\n\
         \x20   said=\"{REFUSED} $(echo \"$said\" | tail -n 1)\"\n\
         fi\n\
         echo \"$said\" >/dev/console\n\
         poweroff\n"
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A builder's result from its console: `Ok` with the agent's version, `Err` with the reason, `None` if there is no
/// result yet.
pub(super) fn built(console: &str) -> Option<std::result::Result<String, String>> {
    verdict(console, DONE, FAILED)
}

/// [`built`] for a trial; `Ok` is empty.
pub(super) fn tried(console: &str) -> Option<std::result::Result<String, String>> {
    verdict(console, CLEAN, REFUSED)
}

/// The marker need not start its line: the kernel and cloud-init may print something before it.
fn verdict(console: &str, good: &str, bad: &str) -> Option<std::result::Result<String, String>> {
    let after = |line: &str, word: &str| line.split_once(word).map(|(_, rest)| rest.trim().to_owned());
    console.lines().rev().find_map(|line| after(line, good).map(Ok).or_else(|| after(line, bad).map(Err)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proto::identity::userdata;

    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            base: ImageId("ami-1".into()),
            package: "https://example.net/it's.deb".into(),
            sha256: "00".repeat(32),
            packages: vec!["b".into(), "a".into()],
        }
    }

    #[test]
    fn content_makes_the_key() {
        let key = recipe().key();
        assert_eq!(key.len(), 16);
        let same = Recipe { package: "s3://x".into(), packages: vec!["a".into(), "b".into()], ..recipe() };
        assert_eq!(same.key(), key);
        for other in [
            Recipe { base: ImageId("ami-2".into()), ..recipe() },
            Recipe { sha256: "11".repeat(32), ..recipe() },
            Recipe { packages: vec!["a".into()], ..recipe() },
        ] {
            assert_ne!(other.key(), key);
        }
    }

    #[test]
    fn scripts_are_valid_and_fit() {
        assert!(!INSTALL.contains(END) && INSTALL.ends_with('\n'));
        for script in [recipe().script(), trial_script()] {
            assert!(script.len() <= userdata::LIMIT, "{} bytes", script.len());
            let checked = Command::new("sh").args(["-n", "-c", &script]).output().expect("a shell");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
        assert!(recipe().script().contains(r"--package 'https://example.net/it'\''s.deb'"));
    }

    #[test]
    fn the_result_is_read_from_the_console() {
        assert_eq!(
            built("boot\n[ 12.3] MAGPIE-BAKE done 0.1.0\r\nreboot: Power down\n"),
            Some(Ok("0.1.0".into()))
        );
        assert_eq!(built("MAGPIE-BAKE failed: no network\n"), Some(Err("no network".into())));
        assert_eq!(built("MAGPIE"), None);
        assert_eq!(tried("x\nMAGPIE-IMAGE clean\n"), Some(Ok(String::new())));
        assert_eq!(tried("MAGPIE-IMAGE refused: 1 thing"), Some(Err("1 thing".into())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Recipe::new(&BakeConfig::default(), ImageId::default()).expect_err("no package");
        assert_eq!(error.to_string(), "[ec2.bake] has no package");
        assert!(error.hints()[0].contains("16 KiB"));
    }
}
