//! Which machine this is: an identity on a cloned disk must not be used.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

/// The machine properties that an identity is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// machine-id(5); created at first boot, cleared when an image is built.
    pub machine_id: Option<String>,
    /// The SMBIOS system UUID, set by the hypervisor; only root can read it, and containers may have none.
    pub product_uuid: Option<String>,
    /// The cloud's instance id; known only if a metadata service is configured.
    #[serde(default)]
    pub instance_id: Option<String>,
}

impl Binding {
    /// Reads machine-id and UUID; `root` is `/` except in tests.
    pub fn read(root: &Path) -> Self {
        Self {
            machine_id: line(root, "etc/machine-id").filter(|id| id != "uninitialized"),
            product_uuid: line(root, "sys/class/dmi/id/product_uuid"),
            instance_id: None,
        }
    }

    /// The same machine with this instance id.
    pub fn of_instance(self, id: String) -> Self {
        Self { instance_id: Some(id), ..self }
    }

    /// Whether an identity bound to `self` may be used on `machine`. The machine-ids must be equal. The UUIDs must be
    /// equal if both are known, because a change of privileges or kernel may hide one. If the identity is bound to an
    /// instance, the instance id must be known and equal.
    pub fn fits(&self, machine: &Self) -> bool {
        let same_uuid = match (&self.product_uuid, &machine.product_uuid) {
            (Some(bound), Some(found)) => bound == found,
            _ => true,
        };
        let same_instance = self.instance_id.is_none() || self.instance_id == machine.instance_id;
        self.machine_id == machine.machine_id && same_uuid && same_instance
    }
}

/// The id of the current boot (random(4)).
pub fn boot_id(root: &Path) -> Option<String> {
    line(root, "proc/sys/kernel/random/boot_id")
}

fn line(root: &Path, path: &str) -> Option<String> {
    let text = fs::read_to_string(root.join(path)).ok()?;
    Some(text.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(machine_id: Option<&str>, product_uuid: Option<&str>) -> Binding {
        Binding {
            machine_id: machine_id.map(str::to_owned),
            product_uuid: product_uuid.map(str::to_owned),
            instance_id: None,
        }
    }

    #[test]
    fn a_clone_does_not_fit() {
        let bound = binding(Some("m"), Some("u"));
        assert!(bound.fits(&bound));
        assert!(bound.fits(&binding(Some("m"), None)), "the UUID became unreadable");
        assert!(!bound.fits(&binding(Some("m"), Some("v"))));
        assert!(!bound.fits(&binding(Some("n"), Some("u"))));
        assert!(!bound.fits(&binding(None, Some("u"))));
    }

    #[test]
    fn another_instance_does_not_fit() {
        let machine = binding(Some("m"), Some("u"));
        let bound = machine.clone().of_instance("i-1".to_owned());
        assert!(bound.fits(&bound));
        assert!(machine.fits(&bound), "it was bound before the metadata service was configured");
        assert!(!bound.fits(&machine.clone().of_instance("i-2".to_owned())));
        assert!(!bound.fits(&machine), "the instance is not known");
        assert!(!bound.fits(&binding(Some("n"), Some("u")).of_instance("i-1".to_owned())));
    }

    #[test]
    fn a_binding_without_instance_is_still_read() {
        let old = r#"{"machine_id":"m","product_uuid":null}"#;
        assert_eq!(serde_json::from_str::<Binding>(old).expect("readable"), binding(Some("m"), None));
    }
}
