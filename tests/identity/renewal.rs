//! Renewal of a host certificate that is about to expire: who may renew it, and what must not. Tests move the clock of the
//! controller that enrolled the host.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use controller::pki::Fleet;
use proto::{
    identity::{
        Role,
        certificate::{HostCertificate, KeyDigest},
    },
    pb::{RenewRequest, StatusRequest, host_client::HostClient},
};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use tonic::Code;

use crate::{
    enrolment::enrolled_at,
    lab::{HOST, Lab, Machine, Running},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A host that was enrolled this long ago.
async fn enrolled_before(lab: &Lab, age: Duration) -> (Machine, Running) {
    let machine = Machine::with(&lab.document());
    let running = machine.start().await;
    enrolled_at(lab, &running, SystemTime::now() - age).await;
    machine.console.wait_for("done").await;
    (machine, running)
}

/// Days left of the host's certificate, and the status's warning about it, as seen by a reader, which never renews it.
async fn left(lab: &Lab, running: &Running) -> (u64, Option<String>) {
    let status = running.status(&lab.speaking_as(Role::Reader)).await.expect("it answers");
    let until = UNIX_EPOCH + Duration::from_millis(status.certificate_until_unix_ms.cast_unsigned());
    let left = until.duration_since(SystemTime::now()).expect("not over");
    let warning = status.degraded.into_iter().find(|sentence| sentence.contains("certificate"));
    (left.as_secs().div_ceil(DAY.as_secs()), warning)
}

/// The same CA directory without this file.
fn without(lab: &Lab, name: &str) -> Fleet {
    let copy = lab.dir.path().join("copy");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(lab.dir.path().join("fleet")).arg(&copy).status();
    assert!(copied.expect("cp").success());
    fs::remove_file(copy.join(name)).expect("removed");
    Fleet::open(&copy).expect("opened").with_user("ada")
}

fn stored(machine: &Machine) -> Vec<u8> {
    fs::read(machine.paths().state().join("host.der")).expect("a certificate")
}

#[tokio::test]
async fn any_ctl_that_can_renews_in_passing() {
    let lab = Lab::new();
    let (machine, running) = enrolled_before(&lab, 75 * DAY).await;
    let (days, warning) = left(&lab, &running).await;
    assert_eq!(days, 15);
    let expected = "this host's certificate expires in 14 days: `ctl` renews it when an operator who has host-ca.key connects";
    assert_eq!(warning.as_deref(), Some(expected));

    running.status(&without(&lab, "host-ca.key")).await.expect("it answers");
    assert_eq!(left(&lab, &running).await.0, 15, "who cannot sign renews nothing");

    let mut open = HostClient::new(running.connect(&lab.speaking_as(Role::Reader)).await.expect("connected"));
    let operator = lab.speaking_as(Role::Operator);
    let both = tokio::join!(running.status(&operator), running.status(&lab.fleet));
    assert!(both.0.is_ok() && both.1.is_ok(), "two at once: {both:?}");
    assert_eq!(left(&lab, &running).await, (90, None));
    open.status(StatusRequest {}).await.expect("connections that are open go on");

    let new = stored(&machine);
    running.kill().await;
    let running = machine.start().await;
    assert_eq!(left(&lab, &running).await, (90, None), "it outlives the agent");
    running.status(&operator).await.expect("it answers");
    assert_eq!(stored(&machine), new, "one that lasts is left alone");
}

#[tokio::test]
async fn with_more_than_two_months_left_nothing_is_renewed() {
    let lab = Lab::new();
    let (_machine, running) = enrolled_before(&lab, 29 * DAY).await;
    running.status(&lab.fleet).await.expect("it answers");
    assert_eq!(left(&lab, &running).await, (61, None));
}

#[tokio::test]
async fn only_the_right_certificate_is_taken() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (machine, running) = enrolled_before(&lab, Duration::ZERO).await;
    let before = stored(&machine);
    let present = HostCertificate::read(&before, HOST, lab.fleet.id()).expect("its own");
    let now = SystemTime::now();
    let sign = |fleet: &Fleet, present: &HostCertificate, host: &str, now| {
        fleet.renew_host(present, host, now).expect("signed").to_vec()
    };
    let stranger = KeyPair::generate().expect("a key").subject_public_key_info();
    let stranger = HostCertificate { key: KeyDigest::of(&stranger), public_key: stranger, ..present.clone() };
    let longer = now + DAY;
    let refused = [
        ("nothing", Vec::new()),
        ("another host", sign(&lab.fleet, &present, "db-2", now)),
        ("another fleet", sign(&other.fleet, &present, HOST, now)),
        ("another key", sign(&lab.fleet, &stranger, HOST, now)),
        ("not valid yet", sign(&lab.fleet, &present, HOST, longer)),
        ("over", sign(&lab.fleet, &present, HOST, now - 91 * DAY)),
        ("another CA", another_ca(&lab, &other, &present)),
    ];
    let mut client = HostClient::new(running.connect(&lab.fleet).await.expect("connected"));
    for (what, certificate) in refused {
        let refusal = client.renew(RenewRequest { certificate }).await.expect_err(what);
        assert_eq!(refusal.code(), Code::InvalidArgument, "{what}: {refusal}");
    }
    let shorter = sign(&lab.fleet, &present, HOST, now - 5 * DAY);
    let reply = client.renew(RenewRequest { certificate: shorter }).await.expect("not an error").into_inner();
    assert_eq!(reply.until_unix_ms / 86_400_000, (unix_ms(now) + 90 * 86_400_000) / 86_400_000);
    assert_eq!(stored(&machine), before, "nothing has changed");

    let mut reader =
        HostClient::new(running.connect(&lab.speaking_as(Role::Reader)).await.expect("connected"));
    let good = sign(&lab.fleet, &present, HOST, now);
    let refusal = reader.renew(RenewRequest { certificate: good }).await.expect_err("denied");
    assert_eq!(refusal.code(), Code::PermissionDenied);
}

/// A certificate like this fleet's, but signed by another fleet's CA.
fn another_ca(lab: &Lab, other: &Lab, present: &HostCertificate) -> Vec<u8> {
    let key = rcgen::SubjectPublicKeyInfo::from_der(&present.public_key).expect("a key");
    let signed = lab.host_params().signed_by(&key, &other.issuer("host-ca")).expect("signed");
    CertificateDer::from(signed).to_vec()
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis().try_into().expect("not yet")
}
