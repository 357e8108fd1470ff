//! Checks the EC2 settings and reports problems with the line in the file.

use std::path::Path;

use super::check as rules;
use crate::{
    config::{
        Config,
        place::{Problem, Step},
    },
    error::{Error, Result},
};

/// Checks `[ec2]` and the section of each role.
pub(in crate::config) fn check(config: &Config, text: &str, file: &str) -> Result<()> {
    let invalid = |problem: Problem, tables: &[Vec<Step>]| {
        Error::invalid(format!("{file}:{}", problem.sentence(text, tables)))
    };
    rules::fleet(&config.ec2).map_err(|problem| invalid(problem, &[vec![Step::key("ec2")]]))?;
    for (name, role) in &config.roles {
        rules::role(&role.ec2).map_err(|problem| invalid(problem, &tables(config, name)))?;
    }
    Ok(())
}

/// Reads the `user_data` files of all roles, and checks their content.
pub(in crate::config) fn read(config: &mut Config, text: &str, file: &str, directory: &Path) -> Result<()> {
    let names: Vec<String> = config.roles.keys().cloned().collect();
    for name in names {
        let tables = tables(config, &name);
        let Some(user_data) = config.roles.get_mut(&name).and_then(|role| role.ec2.user_data.as_mut()) else {
            continue;
        };
        let checked = match user_data.read(directory) {
            Ok(()) => rules::user_data(&user_data.content).map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot read {}: {error}", directory.join(&user_data.path).display())),
        };
        checked.map_err(|message| {
            let problem = Problem { path: vec![Step::key("user_data")], message };
            Error::invalid(format!("{file}:{}", problem.sentence(text, &tables)))
        })?;
    }
    Ok(())
}

/// The sections where a role's setting may be: its own, then those of the roles that it extends.
fn tables(config: &Config, role: &str) -> Vec<Vec<Step>> {
    let mut names = vec![role];
    while let Some(parent) = names.last().and_then(|name| config.roles.get(*name)?.extends.as_deref()) {
        names.push(parent);
    }
    names.into_iter().map(|name| ["roles", name, "ec2"].map(Step::key).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Spot, parse};

    const HEAD: &str = "[fleet]\nname = \"a\"\n[bundle]\npath = \"puppet\"\n";

    fn error(text: &str) -> String {
        parse(&format!("{HEAD}{text}")).expect_err(text).to_string()
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        assert_eq!(
            error(
                "[roles.db.ec2]\n[[roles.db.ec2.volumes]]\ndevice = \"/dev/sdf\"\ntype = \"gp2\"\niops = 9\n"
            ),
            "magpie.toml:9: roles.db.ec2.volumes[0].iops: type gp2 has no iops setting"
        );
        assert_eq!(
            error("[roles.db]\nec2 = { subnets = [\"subnet-01234567\",\n\"subnet-x\"] }\n"),
            "magpie.toml:7: roles.db.ec2.subnets[1]: \"subnet-x\" is not an id such as subnet-0123456789abcdef0"
        );
        assert_eq!(
            error("[ec2.bake]\nsha256 = \"\"\n"),
            "magpie.toml:6: ec2.bake.sha256: must be 64 lower-case hex digits, as sha256sum prints them"
        );
    }

    #[test]
    fn a_missing_setting_is_reported_where_it_should_be() {
        let text = "[roles.db.ec2]\nvolumes = [\n  { device = \"/dev/sdf\", type = \"io1\" },\n]\n";
        assert_eq!(error(text), "magpie.toml:7: roles.db.ec2.volumes[0].iops: required for type io1");
    }

    #[test]
    fn an_inherited_setting_is_reported_where_it_is_written() {
        let text = "[roles.base.ec2]\nimage = \"ami-x\"\n[roles.app]\nextends = \"base\"\n";
        assert!(error(text).starts_with("magpie.toml:6: roles.base.ec2.image: \"ami-x\""), "{}", error(text));
    }

    #[test]
    fn each_setting_is_checked() {
        for (setting, key) in [
            ("image = { name = \"x-*\", owner = \"me\" }", "image.owner"),
            ("image = { parameter = \"aws\" }", "image.parameter"),
            ("instance_type = [\"t3.small\", \"big\"]", "instance_type"),
            ("instance_type = []", "instance_type"),
            ("security_groups = [\"default\"]", "security_groups[0]"),
            ("key_pair = \"\"", "key_pair"),
            ("tags = { \"magpie:x\" = \"1\" }", "tags.magpie:x"),
            ("tags = { Name = \"1\" }", "tags.Name"),
            ("spot = \"fallback\"\ntenancy = \"host\"", "tenancy"),
            (
                "subnets = [\"subnet-01234567\"]\nplacement = { availability_zone = \"eu-central-1a\" }",
                "placement.availability_zone",
            ),
            (
                "volumes = [{ device = \"xvdb\" }, { device = \"xvdb\" }]",
                "volumes[1].device: xvdb is listed twice",
            ),
        ] {
            let message = error(&format!("[roles.db.ec2]\n{setting}\n"));
            assert!(message.contains(&format!("roles.db.ec2.{key}")), "{setting}: {message}");
        }
        for (setting, key) in [
            ("region = \"Frankfurt\"", "region"),
            ("bake = { base = { parameter = \"/aws/x\" } }", "bake.base"),
            ("bake = { package = \"target/magpie.deb\" }", "bake.package"),
            ("bake = { package = \"https://example.net/a.deb\" }", "bake.package"),
            ("bake = { packages = [\"a\", \"--b\"] }", "bake.packages[1]"),
        ] {
            let message = error(&format!("[ec2]\n{setting}\n"));
            assert!(message.contains(&format!("magpie.toml:6: ec2.{key}: ")), "{setting}: {message}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_errors_of_their_line() {
        for (setting, says) in [
            ("subnet = \"subnet-01234567\"", "unknown field `subnet`"),
            ("spot = \"maybe\"", "spot is true, false or \"fallback\""),
            ("image = 3", "an image is \"ami-…\""),
            ("image = { name = \"x\" }", "an image is \"ami-…\""),
            ("placement = { zone = \"x\" }", "unknown field `zone`"),
            ("tenancy = \"mine\"", "unknown variant `mine`"),
            ("volumes = [{ device = \"xvdb\", sise = \"1G\" }]", "unknown field `sise`"),
        ] {
            let message = error(&format!("[roles.db.ec2]\n{setting}\n"));
            assert!(message.contains(says) && message.contains("line 6"), "{setting}: {message}");
        }
    }

    #[test]
    fn roles_inherit_key_by_key() {
        let config = parse(&format!(
            "{HEAD}[roles.base.ec2]\nspot = \"fallback\"\ninstance_type = \"t3.small\"\n\
             tags = {{ team = \"a\", cost = \"1\" }}\nplacement = {{ group = \"g\" }}\n\
             [roles.db]\nextends = \"base\"\n[roles.db.ec2]\nspot = false\ntags = {{ team = \"b\" }}\n\
             placement = {{ availability_zone = \"eu-central-1a\" }}\n"
        ))
        .expect("good");
        let db = &config.roles["db"].ec2;
        assert_eq!((db.spot, db.instance_types()), (Some(Spot::Only(false)), vec!["t3.small"]));
        assert_eq!((db.tags["team"].as_str(), db.tags["cost"].as_str()), ("b", "1"));
        assert_eq!(db.placement.group.as_deref(), Some("g"));
        assert_eq!(db.placement.availability_zone.as_deref(), Some("eu-central-1a"));
    }

    #[test]
    fn user_data_is_read_and_checked() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("magpie.toml");
        std::fs::write(&file, format!("{HEAD}[roles.db.ec2]\nuser_data = \"boot.sh\"\n")).expect("written");
        let load = || crate::config::Config::load(Some(&file), root.path());
        let error = load().expect_err("no such file").to_string();
        assert!(error.contains("magpie.toml:6: roles.db.ec2.user_data: cannot read"), "{error}");
        std::fs::write(root.path().join("boot.sh"), "echo\n").expect("written");
        let error = load().expect_err("of no kind").to_string();
        assert!(error.contains("cannot tell the type of user-data that begins with \"echo\""), "{error}");
        std::fs::write(root.path().join("boot.sh"), "#!/bin/sh\n").expect("written");
        let (config, _) = load().expect("good");
        assert_eq!(config.roles["db"].ec2.user_data.as_ref().expect("there").content, b"#!/bin/sh\n");
    }
}
