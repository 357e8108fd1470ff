//! A certificate that is read names one user or one host, is good for one purpose, and is nothing but itself.
#![no_main]

use std::sync::LazyLock;

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use proto::identity::{
    certificate::{CertificateError, HostCertificate, KeyDigest, UserCertificate},
    names,
};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, SerialNumber, date_time_ymd,
};

/// PKCS #8 of an Ed25519 key up to its 32 bytes (RFC 8410 §7): keys and signatures that are the same in every run.
const PKCS8: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let key = KeyPair::try_from([PKCS8.as_slice(), &[9; 32]].concat()).expect("a key");
    let sign = |name: SanType, purpose, organisation: &str| {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 8);
        params.serial_number = Some(SerialNumber::from(vec![1; 16]));
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![purpose];
        params.self_signed(&key).expect("it is signed").der().to_vec()
    };
    let uri = names::user("f", "ann").try_into().expect("ASCII");
    let host = names::host("db-1", "f").try_into().expect("ASCII");
    vec![
        sign(SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth, "magpie:admin"),
        sign(SanType::DnsName(host), ExtendedKeyUsagePurpose::ServerAuth, "Magpie"),
    ]
});

fuzz_target!(|data: &[u8]| {
    let mut der = foreign(&EXAMPLES, data);
    let user = UserCertificate::read(&der);
    let host = HostCertificate::read(&der, "db-1", "f");
    assert!(user.is_err() || host.is_err(), "good for two purposes");
    if let Ok(user) = &user {
        let uri = names::user(&user.fleet_id, &user.user.name);
        assert_eq!(names::parse_user(&uri), Some((user.fleet_id.as_str(), user.user.name.as_str())));
        assert_eq!(user.check_fleet(&user.fleet_id), Ok(()));
        assert!(user.check_fleet("another").is_err() || user.fleet_id == "another");
    }
    if let Ok(host) = &host {
        assert_eq!(KeyDigest::of_certificate(&der).as_ref(), Ok(&host.key));
        assert!(!host.serial.is_empty() && host.serial.len() < der.len());
        assert!(HostCertificate::read(&der, "db-2", "f").is_err());
    }
    if user.is_ok() || host.is_ok() {
        der.push(0);
        assert_eq!(UserCertificate::read(&der), Err(CertificateError::Malformed));
        assert_eq!(HostCertificate::read(&der, "db-1", "f"), Err(CertificateError::Malformed));
    }
});
