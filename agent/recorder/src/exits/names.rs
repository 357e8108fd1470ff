//! Shared strings for program names: most exiting processes have the name of an earlier one.

use std::{collections::HashSet, sync::Arc};

/// Maximum number of names. Beyond that, each new name costs only an allocation.
const MAX_NAMES: usize = 512;

/// Recently seen names.
#[derive(Debug)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Default for Names {
    fn default() -> Self {
        Self(HashSet::with_capacity(MAX_NAMES))
    }
}

impl Names {
    /// The name as a shared string.
    pub(super) fn intern(&mut self, name: &[u8]) -> Arc<str> {
        let name = String::from_utf8_lossy(name);
        if let Some(known) = self.0.get(&*name) {
            return known.clone();
        }
        if self.0.len() == MAX_NAMES {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shared_and_the_store_bounded() {
        let mut names = Names::default();
        let first = names.intern(b"apache2");
        assert!(Arc::ptr_eq(&first, &names.intern(b"apache2")));
        assert_eq!(&*names.intern(b"\xff"), "\u{fffd}");
        (0..5000).for_each(|number: u32| drop(names.intern(number.to_string().as_bytes())));
        assert!(names.0.len() <= MAX_NAMES);
    }
}
