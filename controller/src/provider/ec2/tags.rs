//! The facts stored about a host are tags of its instance. Only this module writes and reads them.

use std::collections::BTreeMap;

use crate::provider::{Fingerprint, Host, Launch, Standing, Usage};

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

/// The name shown in the EC2 console.
const CONSOLE_NAME: &str = "Name";
const NAME: &str = "magpie:name";
/// Id of the fleet, on every resource of the fleet.
pub(super) const FLEET: &str = "magpie:fleet";
/// Role of a host.
pub(super) const ROLE: &str = "magpie:role";
/// Enrolment transaction id.
pub(super) const TID: &str = "magpie:tid";
const STANDING: &str = "magpie:standing";
const OWNER: &str = "magpie:owner";
const HOLDER: &str = "magpie:holder";
const CLAIM: &str = "magpie:claim";
const LEASE: &str = "magpie:lease";
const COMMIT: &str = "magpie:commit";
const BUNDLE: &str = "magpie:bundle";
/// Original of a clone or of a temporary image.
pub(super) const CLONE_OF: &str = "magpie:clone-of";
const FINGERPRINT: &str = "magpie:fingerprint";
/// On a machine that builds an image: the key of the image's content.
pub(super) const BUILDER: &str = "magpie:builder";
/// On an image: the key of its content.
pub(super) const KEY: &str = "magpie:key";
/// On an image: version of its agent.
pub(super) const AGENT: &str = "magpie:agent";
/// On an image that passed its test boot.
pub(super) const CHECKED: &str = "magpie:checked";

/// Limit of a tag's value in characters (EC2 user guide, "Tag your Amazon EC2 resources").
const MAX_VALUE: usize = 256;
/// Longer values in a fingerprint are replaced by their hash; in bytes.
const MAX_SETTING: usize = 28;

/// The facts in a host's tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) fleet: String,
    pub(super) role: String,
    pub(super) tid: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) clone_of: Option<String>,
    pub(super) usage: Usage,
}

/// All tags of a new host; `more` are the user's.
pub(super) fn of_launch(launch: &Launch, more: &Tags) -> Tags {
    let mut tags = of_identity(&Identity {
        name: launch.name.clone(),
        fleet: launch.fleet.clone(),
        role: launch.role.clone(),
        tid: launch.tid.clone(),
        fingerprint: launch.fingerprint.clone(),
        clone_of: launch.clone_of.clone(),
        usage: launch.usage.clone(),
    });
    tags.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    tags
}

/// Tags of a machine that builds or tests an image. It looks like a host that was never enrolled, so it is cleared up
/// like one if its controller dies.
pub(super) fn of_builder(name: &str, fleet: &str, tid: &str, key: &str, usage: &Usage, more: &Tags) -> Tags {
    let mut tags = of_usage(usage);
    tags.extend(of_name(name));
    for (tag, value) in [(FLEET, fleet), (TID, tid), (BUILDER, key)] {
        tags.insert(tag.to_owned(), value.to_owned());
    }
    tags.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    tags
}

/// The tags that change while a host lives.
pub(super) fn of_mark(host: &Host) -> Tags {
    let mut tags = of_usage(&host.usage);
    tags.extend(of_name(&host.name));
    tags
}

/// The tags that stay the same while a host lives.
pub(super) fn lasting(tags: &Tags) -> Tags {
    const CHANGING: [&str; 7] = [STANDING, OWNER, HOLDER, CLAIM, LEASE, COMMIT, BUNDLE];
    tags.iter()
        .filter(|(key, _)| !CHANGING.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn of_identity(identity: &Identity) -> Tags {
    let mut tags = of_usage(&identity.usage);
    tags.extend(of_name(&identity.name));
    for (key, value) in [(FLEET, &identity.fleet), (ROLE, &identity.role), (TID, &identity.tid)] {
        tags.insert(key.to_owned(), value.clone());
    }
    tags.insert(FINGERPRINT.to_owned(), encode(&identity.fingerprint));
    if let Some(original) = &identity.clone_of {
        tags.insert(CLONE_OF.to_owned(), original.clone());
    }
    tags
}

fn of_name(name: &str) -> [(String, String); 2] {
    [CONSOLE_NAME, NAME].map(|key| (key.to_owned(), name.to_owned()))
}

fn of_usage(usage: &Usage) -> Tags {
    [
        (STANDING, usage.standing.name().to_owned()),
        (OWNER, usage.owner.clone()),
        (HOLDER, usage.holder.clone()),
        (CLAIM, usage.claim.clone()),
        (LEASE, usage.lease_until.to_string()),
        (COMMIT, usage.commit.clone()),
        (BUNDLE, usage.bundle.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.chars().take(MAX_VALUE).collect()))
    .collect()
}

/// Reads tags. They may have been edited by others: missing and invalid values become defaults.
pub(super) fn identity(tags: &Tags) -> Identity {
    let text = |key: &str| tags.get(key).cloned().unwrap_or_default();
    let standing = text(STANDING);
    Identity {
        name: text(NAME),
        fleet: text(FLEET),
        role: text(ROLE),
        tid: text(TID),
        fingerprint: decode(&text(FINGERPRINT)),
        clone_of: tags.get(CLONE_OF).cloned(),
        usage: Usage {
            standing: Standing::ALL.into_iter().find(|one| one.name() == standing).unwrap_or_default(),
            owner: text(OWNER),
            holder: text(HOLDER),
            claim: text(CLAIM),
            lease_until: text(LEASE).parse().unwrap_or_default(),
            commit: text(COMMIT),
            bundle: Usage::whole_digest(text(BUNDLE)),
        },
    }
}

/// A setting's value in a fingerprint: unchanged if it is short and plain, else `#` and 8 hex digits of its hash.
pub(super) fn setting(value: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !";=#".contains(c);
    if value.len() <= MAX_SETTING && value.chars().all(plain) {
        return value.to_owned();
    }
    hashed(value)
}

fn hashed(value: &str) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
    let hex = hex::encode(&sum.as_ref()[..4]);
    format!("#{hex}")
}

/// Shortens a fingerprint until its encoded form fits into a tag: the longest values become hashes.
pub(super) fn compact(mut settings: Fingerprint) -> Fingerprint {
    settings.values_mut().for_each(|value| *value = setting(value));
    while encoded_length(&settings) > MAX_VALUE {
        let longest =
            settings.values_mut().filter(|value| !value.starts_with('#')).max_by_key(|value| value.len());
        let Some(longest) = longest else { break };
        *longest = hashed(longest);
    }
    settings
}

fn encoded_length(settings: &Fingerprint) -> usize {
    settings.iter().map(|(key, value)| key.len() + value.len() + 2).sum()
}

/// `key=value;…` in order of key.
fn encode(fingerprint: &Fingerprint) -> String {
    fingerprint.iter().map(|(key, value)| format!("{key}={value};")).collect()
}

fn decode(text: &str) -> Fingerprint {
    let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, option, prelude::*, sample::select};

    use super::*;

    fn usage() -> impl Strategy<Value = Usage> {
        (
            select(Standing::ALL.to_vec()),
            ".{0,60}",
            ".{0,60}",
            "[a-z0-9-]{0,20}",
            any::<i64>(),
            "[0-9a-f]{12}[+]?|",
            "[0-9a-f]{64}|",
        )
            .prop_map(|(standing, owner, holder, claim, lease_until, commit, bundle)| Usage {
                standing,
                owner,
                holder,
                claim,
                lease_until,
                commit,
                bundle,
            })
    }

    proptest! {
        #[test]
        fn tags_come_back_as_they_were(
            name in "[a-z-]{1,30}", role in "[a-z_]{1,20}", clone_of in option::of("[a-z-]{1,30}"),
            settings in btree_map("[a-z_]{1,9}", ".{0,60}", 0..12), usage in usage(),
        ) {
            let fingerprint = compact(settings);
            let identity_was = Identity {
                name, fleet: "f".into(), role, tid: "t".into(), fingerprint, clone_of, usage,
            };
            let tags = of_identity(&identity_was);
            prop_assert!(tags.values().all(|value| value.chars().count() <= MAX_VALUE));
            prop_assert!(tags.len() <= 15);
            prop_assert_eq!(identity(&tags), identity_was);
        }

        #[test]
        fn foreign_tags_never_panic(tags in btree_map(".{0,20}|magpie:(fingerprint|lease|standing)", ".{0,40}", 0..8)) {
            identity(&tags);
        }
    }

    #[test]
    fn short_settings_stay_readable() {
        assert_eq!(setting("t3.small,t3a.small"), "t3.small,t3a.small");
        let hashed = setting("subnet-0123456789abcdef0,subnet-0123456789abcdef1");
        assert_eq!((hashed.len(), hashed.starts_with('#')), (9, true));
        assert_ne!(hashed, setting("subnet-0123456789abcdef0,subnet-0123456789abcdef2"));
        let fingerprint =
            Fingerprint::from([("image".into(), "ami-1".into()), ("type".into(), "t3.small".into())]);
        assert_eq!(encode(&fingerprint), "image=ami-1;type=t3.small;");
    }
}
