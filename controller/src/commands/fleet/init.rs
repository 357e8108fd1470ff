//! `ctl init`: magpie.toml, CA directory, first admin certificate.

use std::{env, fs, path::Path, time::SystemTime};

use proto::identity::Role;

use crate::{
    cli::Init,
    config,
    error::{Error, Result},
    pki::{self, DEFAULT_LIFETIME, Fleet},
    render::Output,
};

/// Creates a fleet in the current directory; an error if there already is one.
pub(in crate::commands) fn init(args: &Init, output: &Output) -> Result<()> {
    let here =
        env::current_dir().map_err(|error| Error::invalid(format!("no current directory: {error}")))?;
    let file = here.join(config::FILE);
    if file.exists() {
        return Err(Error::invalid(format!("{} already exists", file.display()))
            .hint("this directory already has a fleet; `ctl hosts` lists its hosts"));
    }
    let name = fleet_name(args.name.as_deref(), &here)?;
    let directory = here.join(".magpie");
    let now = SystemTime::now();
    let fleet = Fleet::create(&directory, &name, now)?;
    fleet.issue_user(&pki::login(), Role::Admin, DEFAULT_LIFETIME, now)?;
    // The directory holds the keys to every host: git must never pick it up.
    write(&directory.join(".gitignore"), "*\n")?;
    write(&file, &config::template(&name, "puppet"))?;
    output.note(&format!("created {} and the CA directory {}", file.display(), directory.display()));
    if !here.join("puppet/manifests/site.pp").exists() {
        output.note("next: put Puppet code into puppet/ (manifests/site.pp), or set `path` in [bundle]");
    }
    output.note("then: ctl provision --role ROLE");
    Ok(())
}

fn fleet_name(given: Option<&str>, here: &Path) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => here.file_name().unwrap_or_default().to_string_lossy().to_lowercase(),
    };
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(valid) {
        return Err(Error::invalid(format!(
            "{name:?} is not a valid fleet name: use 1 to 32 of a-z, 0-9 and -"
        ))
        .hint("`ctl init --name NAME` sets another name"));
    }
    Ok(name)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::invalid(format!("cannot write {}: {error}", path.display())))
}
