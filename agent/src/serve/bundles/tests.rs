use proto::{
    bundle::{Blob, Entry, Kind, Manifest, pack},
    identity::{Role, User},
    pb::bundles_client::BundlesClient,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Code,
    service::InterceptorLayer,
    transport::{Channel, Endpoint, Server},
};

use super::*;
use crate::paths::Paths;

const CONTENT: &[u8] = b"node default {}";

/// A service on loopback, and a client of it.
async fn service() -> (tempfile::TempDir, BundlesClient<Channel>) {
    let temp = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Store::open(Paths::new(temp.path()), 3).expect("a store"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let ada = InterceptorLayer::new(|mut request: Request<()>| {
        request.extensions_mut().insert(User { name: "ada".to_owned(), role: Role::Operator });
        Ok(request)
    });
    let mut server = Server::builder().layer(ada);
    let server = server.add_service(Service::new(store, BTreeSet::new).into_server());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::from_shared(address).expect("an address").connect().await.expect("connected");
    (temp, BundlesClient::new(channel))
}

fn bundle() -> (Manifest, Vec<u8>) {
    let blob = Blob { digest: Digest::of(CONTENT), size: CONTENT.len() as u64 };
    let entry = Entry { path: "site.pp".to_owned(), kind: Kind::File { executable: false, blob } };
    let stream = pack(&[blob], |_| Ok(CONTENT), Vec::new()).expect("packs");
    (Manifest::new(vec![entry]).expect("a valid tree"), stream)
}

async fn offer(client: &mut BundlesClient<Channel>, manifest: &Manifest, whole: bool) -> pb::OfferReply {
    let bytes = if whole { manifest.encode() } else { Vec::new() };
    let request =
        pb::OfferRequest { digest: manifest.digest().to_string(), manifest: bytes, provenance: None };
    client.offer(request).await.expect("a good offer").into_inner()
}

async fn upload(client: &mut BundlesClient<Channel>, parts: Vec<Part>) -> Result<pb::UploadReply, Status> {
    let requests = parts.into_iter().map(|part| pb::UploadRequest { part: Some(part) });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    Ok(client.upload(stream).await?.into_inner())
}

fn header(manifest: &Manifest) -> Part {
    Part::Header(pb::UploadHeader { digest: manifest.digest().to_string() })
}

#[tokio::test]
async fn a_bundle_is_offered_sent_and_then_present() {
    let (_temp, mut client) = service().await;
    let (manifest, stream) = bundle();
    let first = offer(&mut client, &manifest, false).await;
    assert!(first.manifest_wanted && !first.present);
    let second = offer(&mut client, &manifest, true).await;
    assert_eq!(second.missing, [Digest::of(CONTENT).as_bytes().to_vec()]);
    let pieces = stream.chunks(10).map(|piece| Part::Data(piece.to_vec()));
    upload(&mut client, std::iter::once(header(&manifest)).chain(pieces).collect()).await.expect("taken");
    assert!(offer(&mut client, &manifest, false).await.present);
}

#[tokio::test]
async fn refusals_have_the_code_that_says_what_to_do() {
    let (_temp, mut client) = service().await;
    let (manifest, stream) = bundle();
    let refused =
        async |client: &mut BundlesClient<Channel>, parts| upload(client, parts).await.expect_err("refused");
    let not_offered = refused(&mut client, vec![header(&manifest), Part::Data(stream.clone())]).await;
    assert_eq!(not_offered.code(), Code::Aborted, "{not_offered}");
    for (parts, message) in [
        (vec![Part::Data(stream.clone())], "must be its header"),
        (vec![Part::Header(pb::UploadHeader { digest: "../../etc".to_owned() })], "64 lower-case hex digits"),
        (vec![header(&manifest), Part::Data(stream[..20].to_vec())], "ends before blob"),
        (vec![header(&manifest), Part::Data(vec![0; CHUNK_BYTES + 1])], "in pieces of at most 262144 bytes"),
        (vec![header(&manifest), header(&manifest)], "only data"),
    ] {
        offer(&mut client, &manifest, true).await;
        let status = refused(&mut client, parts).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(message), "{status}");
    }
    assert!(!offer(&mut client, &manifest, false).await.present, "nothing was taken");
}

#[tokio::test]
async fn a_hanging_upload_does_not_block_others_of_the_same_digest() {
    let (_temp, mut client) = service().await;
    let (manifest, stream) = bundle();
    offer(&mut client, &manifest, true).await;
    let (sender, pieces) = mpsc::channel(2);
    let part = |part| pb::UploadRequest { part: Some(part) };
    sender.send(part(header(&manifest))).await.expect("taken");
    sender.send(part(Part::Data(stream[..1].to_vec()))).await.expect("taken");
    let mut hanging = client.clone();
    let hanging = tokio::spawn(async move { hanging.upload(ReceiverStream::new(pieces)).await });
    // Both messages have been sent.
    while sender.capacity() < 2 {
        tokio::task::yield_now().await;
    }
    upload(&mut client, vec![header(&manifest), Part::Data(stream.clone())]).await.expect("taken");
    assert!(offer(&mut client, &manifest, false).await.present);
    sender.send(part(Part::Data(stream[1..].to_vec()))).await.expect("taken");
    drop(sender);
    hanging.await.expect("no panic").expect("the bundle is there, and it is the same");
}

#[test]
fn patience_is_earned_by_bytes_and_has_an_end() {
    let mut patience = Patience::default();
    let second = Duration::from_secs(1);
    for _ in 0..59 {
        patience.account(second, 1);
    }
    assert_eq!(patience.left.as_secs(), 1, "a byte a second is too little");
    patience.account(second, LEAST_RATE as usize);
    assert_eq!(patience.left.as_secs(), 1, "8 KiB/s is enough");
    patience.account(second / 100, 100 << 20);
    assert_eq!(patience.left, PATIENCE, "what came fast does not pay for a long pause");
}
