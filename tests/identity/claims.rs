//! Claims: several controllers want the same host at the same time.

use agent::serve::Server;
use controller::pki::Fleet;
use prost::Message;
use proto::{
    identity::Role,
    pb::{Claim, ClaimRequest, ExtendRequest, ReleaseRequest, host_client::HostClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::lab::{Lab, Machine, Running};

/// In the year 2100.
const LATER: i64 = 4_102_444_800_000;

async fn client(running: &Running, fleet: &Fleet) -> HostClient<Channel> {
    HostClient::new(running.connect(fleet).await.expect("connected"))
}

fn request(id: &str) -> ClaimRequest {
    ClaimRequest { id: id.to_owned(), until_unix_ms: LATER, ..ClaimRequest::default() }
}

fn release(id: &str) -> ReleaseRequest {
    ReleaseRequest { id: id.to_owned() }
}

/// The conflicting claim, from the details of a refusal.
fn held(refusal: Status) -> Claim {
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    assert!(refusal.message().starts_with("held by "), "{refusal}");
    Claim::decode(refusal.details()).expect("a claim")
}

#[tokio::test]
async fn a_claim_is_kept_until_it_is_given_back() {
    let lab = Lab::new();
    let (machine, running) = Machine::enrolled(&lab).await;
    let mut ada = client(&running, &lab.fleet).await;
    let taken = ada.claim(request("a")).await.expect("granted").into_inner();
    assert_eq!((taken.id.as_str(), taken.user.as_str()), ("a", "ada"), "the user is the certificate's");

    let mut other = client(&running, &lab.speaking_as(Role::Operator)).await;
    assert_eq!(held(other.claim(request("b")).await.expect_err("refused")), taken);
    assert_eq!(held(other.release(release("b")).await.expect_err("refused")), taken);

    running.kill().await;
    let running = machine.start().await;
    let seen = running.status(&lab.speaking_as(Role::Reader)).await.expect("it answers");
    assert_eq!(seen.claim, Some(taken.clone()), "it outlives the agent");

    let mut ada = client(&running, &lab.fleet).await;
    let longer = ada.extend(ExtendRequest { until_unix_ms: LATER + 1 }).await.expect("extended").into_inner();
    assert_eq!(longer, Claim { until_unix_ms: LATER + 1, ..taken });
    let had = ada.release(release("")).await.expect("released").into_inner().had;
    assert_eq!(had, Some(longer));
    assert_eq!(running.status(&lab.fleet).await.expect("it answers").claim, None);
    let nobody = ada.extend(ExtendRequest { until_unix_ms: LATER }).await.expect_err("refused");
    assert_eq!((nobody.code(), nobody.details()), (Code::FailedPrecondition, &b""[..]));
}

#[tokio::test]
async fn of_two_at_once_one_gets_the_host() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    let mut first = client(&running, &lab.fleet).await;
    let mut second = client(&running, &lab.speaking_as(Role::Operator)).await;
    let (first, second) = tokio::join!(first.claim(request("a")), second.claim(request("b")));
    let (granted, refused) = match (first, second) {
        (Ok(granted), Err(refused)) | (Err(refused), Ok(granted)) => (granted.into_inner(), refused),
        both => panic!("{both:?}"),
    };
    assert_eq!(held(refused), granted, "and the other learns who");
}

#[tokio::test]
async fn a_reader_takes_nothing() {
    let lab = Lab::new();
    let (_machine, running) = Machine::enrolled(&lab).await;
    let mut reader = client(&running, &lab.speaking_as(Role::Reader)).await;
    let refusals = [
        reader.claim(request("a")).await.map(drop),
        reader.release(release("")).await.map(drop),
        reader.extend(ExtendRequest { until_unix_ms: LATER }).await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.expect_err("refused").code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_clone_is_nobodys() {
    let lab = Lab::new();
    let (machine, running) = Machine::enrolled(&lab).await;
    client(&running, &lab.fleet).await.claim(request("a")).await.expect("granted");
    running.stop().await.expect("it stops");
    machine.set_machine_id("two");
    machine.leave(&lab.document());
    drop(Server::bind(machine.config()).await.expect("bound"));
    let (_machine, running) = machine.enrol(&lab).await;
    assert_eq!(running.status(&lab.fleet).await.expect("it answers").claim, None);
}
