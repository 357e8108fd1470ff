//! Computes git object ids.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The object id of a blob, with the hash algorithm of the id `like`.
pub(super) fn object_id(like: &str, bytes: &[u8]) -> String {
    let mut hasher = object_hasher(like, bytes.len() as u64);
    hasher.update(bytes);
    hex::encode(hasher.finish())
}

/// A hasher that has consumed the header of a blob of `size` bytes: an object id is the hash of `blob <size>`, NUL, and
/// the content. The length of an id shows the hash algorithm (`gitformat-pack(5)`, `hash-function-transition`).
pub(super) fn object_hasher(like: &str, size: u64) -> Context {
    let mut hasher = Context::new(if like.len() == 64 { &SHA256 } else { &SHA1_FOR_LEGACY_USE_ONLY });
    hasher.update(format!("blob {size}\0").as_bytes());
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        let sha1 = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert_eq!(object_id(sha1, b""), sha1);
        assert_eq!(object_id(sha1, b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        let sha256 = "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813";
        assert_eq!(object_id(sha256, b""), sha256);
    }
}
