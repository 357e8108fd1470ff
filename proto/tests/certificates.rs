//! Leaf certificates with each defect that Magpie itself must refuse.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proto::identity::{
    Role,
    certificate::{CertificateError, HostCertificate, UserCertificate},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair, SanType,
};

fn user() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "magpie:operator");
    let uri = "magpie://fleet/user/ada".try_into().expect("ASCII");
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![Usage::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = SystemTime::now().into();
    params.not_after = (SystemTime::now() + Duration::from_secs(12 * 3600)).into();
    params
}

fn host() -> CertificateParams {
    let mut params = CertificateParams::new(["db-1.fleet.magpie.internal".to_owned()]).expect("a DNS name");
    params.extended_key_usages = vec![Usage::ServerAuth];
    params
}

fn der(params: &CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").der().to_vec()
}

fn read_user(change: impl FnOnce(&mut CertificateParams)) -> Result<UserCertificate, CertificateError> {
    let mut params = user();
    change(&mut params);
    UserCertificate::read(&der(&params))
}

fn read_host(change: impl FnOnce(&mut CertificateParams)) -> Result<HostCertificate, CertificateError> {
    let mut params = host();
    change(&mut params);
    HostCertificate::read(&der(&params), "db-1", "fleet")
}

#[test]
fn a_good_user_is_read() {
    let certificate = read_user(|_| ()).expect("it is good");
    assert_eq!((certificate.user.name.as_str(), certificate.user.role), ("ada", Role::Operator));
    assert!(certificate.check_fleet("fleet").is_ok());
    assert!(matches!(certificate.check_fleet("other"), Err(CertificateError::Other { .. })));
}

#[test]
fn a_good_host_is_read() {
    assert!(read_host(|_| ()).is_ok());
}

#[test]
fn usage_must_be_there_and_alone() {
    let bad: [&[Usage]; 5] = [
        &[],
        &[Usage::Any],
        &[Usage::ClientAuth, Usage::ServerAuth],
        &[Usage::ClientAuth, Usage::Any],
        &[Usage::CodeSigning],
    ];
    for usages in bad {
        let usages = usages.to_vec();
        let user = read_user(|params| params.extended_key_usages = usages.clone());
        assert_eq!(user, Err(CertificateError::Usage("clientAuth")), "{usages:?}");
        let host = read_host(|params| params.extended_key_usages = usages.clone());
        assert_eq!(host, Err(CertificateError::Usage("serverAuth")), "{usages:?}");
    }
    let host_as_user = read_user(|params| params.extended_key_usages = vec![Usage::ServerAuth]);
    assert_eq!(host_as_user, Err(CertificateError::Usage("clientAuth")));
    let user_as_host = read_host(|params| params.extended_key_usages = vec![Usage::ClientAuth]);
    assert_eq!(user_as_host, Err(CertificateError::Usage("serverAuth")));
}

#[test]
fn a_ca_is_not_a_leaf() {
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(read_user(|params| params.is_ca = ca), Err(CertificateError::IsCa));
    assert_eq!(read_host(|params| params.is_ca = ca), Err(CertificateError::IsCa));
}

#[test]
fn the_role_must_be_known_and_alone() {
    let organisation = |value: &'static str| {
        read_user(move |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, value);
        })
    };
    assert_eq!(organisation("magpie:root"), Err(CertificateError::Role));
    assert_eq!(organisation("ACME"), Err(CertificateError::Role));
    let none = read_user(|params| params.distinguished_name = rcgen::DistinguishedName::new());
    assert_eq!(none, Err(CertificateError::Role));
}

#[test]
fn the_name_must_be_ours_and_alone() {
    let uri = |uri: &str| SanType::URI(uri.try_into().expect("ASCII"));
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let bad = [
        vec![],
        vec![uri("https://fleet/user/ada")],
        vec![uri("magpie://fleet/user/a/b")],
        vec![uri("magpie://fleet/host/ada")],
        vec![uri("magpie://fleet/user/ada"), uri("magpie://fleet/user/bob")],
        vec![uri("magpie://fleet/user/ada"), dns("db-1.fleet.magpie.internal")],
        vec![dns("db-1.fleet.magpie.internal")],
    ];
    for names in bad {
        let result = read_user(|params| params.subject_alt_names = names.clone());
        assert_eq!(result, Err(CertificateError::Name), "{names:?}");
    }
    let several = vec![dns("db-1.fleet.magpie.internal"), dns("db-2.fleet.magpie.internal")];
    assert_eq!(read_host(|params| params.subject_alt_names = several.clone()), Err(CertificateError::Name));
    let other = read_host(|params| params.subject_alt_names = vec![dns("db-2.fleet.magpie.internal")]);
    assert!(matches!(other, Err(CertificateError::Other { .. })));
}

#[test]
fn a_user_certificate_lives_seven_days_at_most_and_a_readers_thirty() {
    let day = 24 * 3600;
    let lasting = |role: Role, seconds| {
        let start = SystemTime::now();
        read_user(move |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, role.organisation());
            params.not_before = start.into();
            params.not_after = (start + Duration::from_secs(seconds)).into();
        })
    };
    for (role, days) in [(Role::Reader, 30), (Role::Enroller, 7), (Role::Operator, 7), (Role::Admin, 7)] {
        assert!(lasting(role, days * day).is_ok(), "{role}");
        let seconds = (days * day + 1).cast_signed();
        assert_eq!(lasting(role, days * day + 1), Err(CertificateError::Lifetime { seconds, role }));
    }
}

#[test]
fn nothing_may_follow_the_certificate() {
    let mut der = der(&user());
    der.push(0);
    assert_eq!(UserCertificate::read(&der), Err(CertificateError::Malformed));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at: prop::sample::Index, value: u8) {
        let _ = UserCertificate::read(&bytes);
        let _ = HostCertificate::read(&bytes, "db-1", "fleet");
        let mut der = CERTIFICATE.with(Clone::clone);
        let at = at.index(der.len());
        der[at] = value;
        let _ = UserCertificate::read(&der);
        let _ = UserCertificate::read(&der[..at]);
    }
}

thread_local! {
    static CERTIFICATE: Vec<u8> = der(&user());
}
