//! Names of hosts and users in certificates.
//!
//! A host is `<host-id>.<fleet-id>.magpie.internal` (`.internal` is reserved for private use, ICANN
//! resolution 2024.07.29.06), a user is `magpie://<fleet-id>/user/<name>`.

/// The parent domain of all hosts' certificate names.
const DOMAIN: &str = "magpie.internal";

/// Whether `text` is a valid host-id or fleet-id: a lower-case DNS label (RFC 1035 §2.3.1, with the leading digit of
/// RFC 1123 §2.1).
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a valid user name: 1 to 64 of `[A-Za-z0-9._@-]`, which are safe in a file name and need no
/// escaping in a URI.
pub fn is_user(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['.', '-'])
}

/// Whether `text` is a valid transaction id of an enrolment: 1 to 64 of `[a-z0-9-]`, which every provider accepts in
/// a tag and EC2 accepts as a ClientToken.
pub fn is_tid(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(inner)
}

/// The DNS name in a host's certificate.
pub fn host(host_id: &str, fleet_id: &str) -> String {
    format!("{host_id}.{fleet_id}.{DOMAIN}")
}

/// The URI in a user's certificate.
pub fn user(fleet_id: &str, name: &str) -> String {
    format!("magpie://{fleet_id}/user/{name}")
}

/// Fleet-id and name in a user's URI; `None` for any other URI.
pub fn parse_user(uri: &str) -> Option<(&str, &str)> {
    let (fleet_id, name) = uri.strip_prefix("magpie://")?.split_once("/user/")?;
    (is_label(fleet_id) && is_user(name)).then_some((fleet_id, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_users_uri_is_read_back(fleet in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", name in "[A-Za-z0-9_@][A-Za-z0-9._@-]{0,63}") {
            let uri = user(&fleet, &name);
            prop_assert_eq!(parse_user(&uri), Some((fleet.as_str(), name.as_str())));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(uri in ".{0,80}|magpie://[^/]{0,9}/user/.{0,9}") {
            if let Some((fleet, name)) = parse_user(&uri) {
                prop_assert_eq!(user(fleet, name), uri.clone());
                prop_assert!(!name.contains('/'));
            }
        }
    }

    #[test]
    fn labels_are_dns_labels() {
        for good in ["a", "i-0abc", "0", &"x".repeat(63)] {
            assert!(is_label(good), "{good:?}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }

    #[test]
    fn user_names_are_file_names() {
        for bad in ["", ".", "..", ".x", "-x", "a/b", "a b", "a\0", &"x".repeat(65)] {
            assert!(!is_user(bad), "{bad:?}");
        }
    }
}
