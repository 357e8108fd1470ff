//! How an agent verifies users: good certificates, and certificates with every defect.

use std::time::{Duration, SystemTime};

use controller::error::Kind;
use proto::identity::{Role, tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, SanType};

use crate::{
    lab::{Lab, Machine, Pair, sign},
    raw,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Certificates with one defect each, with the name of the defect.
fn defects(lab: &Lab, other: &Lab) -> Vec<(&'static str, Pair)> {
    let (issuer, ca, now) = (lab.issuer("user-ca"), lab.fleet.user_ca(), SystemTime::now());
    let make = |name, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = lab.user_params();
        change(&mut params);
        (name, sign(&params, &issuer, ca))
    };
    let foreign_name = other.user_params().subject_alt_names;
    vec![
        make("no EKU", &|params| params.extended_key_usages.clear()),
        make("both EKUs", &|params| params.extended_key_usages.push(Usage::ServerAuth)),
        make("serverAuth", &|params| params.extended_key_usages = vec![Usage::ServerAuth]),
        make("CA:TRUE", &|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        make("expired", &|params| params.not_after = (now - Duration::from_secs(1)).into()),
        make("future", &|params| params.not_before = (now + Duration::from_secs(60)).into()),
        make("eight days", &|params| params.not_after = (now + 8 * DAY).into()),
        make("another fleet", &|params| params.subject_alt_names.clone_from(&foreign_name)),
        make("no name", &|params| params.subject_alt_names.clear()),
        make("no role", &|params| params.distinguished_name = rcgen::DistinguishedName::new()),
        make("unknown role", &|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "magpie:root");
        }),
        make("several names", &|params| {
            let name = SanType::DnsName("a.example".try_into().expect("ASCII"));
            params.subject_alt_names.push(name);
        }),
        ("wrong CA", sign(&lab.user_params(), &other.issuer("user-ca"), other.fleet.user_ca())),
        ("wrong CA behind the right one", sign(&lab.user_params(), &other.issuer("user-ca"), ca)),
        ("signed by the host CA", sign(&lab.user_params(), &lab.issuer("host-ca"), lab.fleet.host_ca())),
        ("self-signed", raw::self_signed()),
    ]
}

#[tokio::test]
async fn an_enrolled_host_refuses_every_defect() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (_machine, running) = Machine::enrolled(&lab).await;
    let attempt =
        |pair| async { raw::refusal(raw::client(running.address, pair, Some(tls::ALPN_MAIN)).await).await };
    let good = sign(&lab.user_params(), &lab.issuer("user-ca"), lab.fleet.user_ca());
    assert_eq!(attempt(Some(good)).await, None);
    assert!(attempt(None).await.is_some(), "no certificate");
    for (defect, pair) in defects(&lab, &other) {
        let refusal = attempt(Some(pair)).await;
        assert!(refusal.as_deref().is_some_and(|why| why != "closed"), "{defect}: {refusal:?}");
    }
}

#[tokio::test]
async fn a_host_to_be_enrolled_refuses_every_defect() {
    let (lab, other) = (Lab::new(), Lab::new());
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    let attempt =
        |pair| async { raw::refusal(raw::client(running.address, pair, Some(tls::ALPN_ENROL)).await).await };
    assert!(attempt(None).await.is_some(), "no certificate");
    for (defect, pair) in defects(&lab, &other) {
        // The host learns the name of its fleet only from the grant.
        if defect != "another fleet" {
            let refusal = attempt(Some(pair)).await;
            assert!(refusal.as_deref().is_some_and(|why| why != "closed"), "{defect}: {refusal:?}");
        }
    }
    let outcome = running.enrol(&lab.fleet).await;
    assert!(outcome.is_ok(), "after all that it can still be enrolled: {outcome:?}");
}

#[tokio::test]
async fn only_admins_and_enrollers_enrol() {
    let lab = Lab::new();
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    for role in [Role::Reader, Role::Operator] {
        let error = running.enrol(&lab.speaking_as(role)).await.expect_err("refused");
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.to_string().contains("rejected your certificate"), "{role}: {error}");
    }
    assert!(running.enrol(&lab.speaking_as(Role::Enroller)).await.is_ok());
}

#[tokio::test]
async fn each_role_reaches_what_it_may() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    for role in [Role::Reader, Role::Operator, Role::Admin] {
        assert!(running.status(&lab.speaking_as(role)).await.is_ok(), "{role}");
    }
    let error = running.status(&lab.speaking_as(Role::Enroller)).await.expect_err("denied");
    assert_eq!(error.to_string(), "db-1: enroller (enroller) may not call Host/Status: that needs reader");
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    let mut params = lab.user_params();
    params.not_after = (SystemTime::now() + Duration::from_secs(2)).into();
    let pair = sign(&params, &lab.issuer("user-ca"), lab.fleet.user_ca());
    let mut stream = raw::client(running.address, Some(pair), Some(tls::ALPN_MAIN)).await.expect("accepted");
    let mut all = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all);
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    assert!(ended.is_ok(), "the connection outlives its certificate");
    assert!(!all.is_empty(), "it was good until then");
}
