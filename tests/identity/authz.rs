//! The table of roles and the API contract list the same calls.

use std::{collections::BTreeSet, fs, path::Path};

use agent::serve::{authz, metrics};
use proto::identity::Role;

#[test]
fn every_rpc_has_a_row_and_every_row_an_rpc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let sources = fs::read_dir(root.join("magpie/v1")).expect("the .proto files");
    let sources: Vec<_> = sources.map(|entry| entry.expect("an entry").path()).collect();
    let contract = protox::compile(sources, [root]).expect("the .proto files compile");
    let mut rpcs = BTreeSet::new();
    for file in &contract.file {
        for service in &file.service {
            for method in &service.method {
                rpcs.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    let rows: Vec<_> = authz::table().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(rows.len(), rows.iter().collect::<BTreeSet<_>>().len(), "a path has two rows");
    // The only path that is not an RPC.
    rpcs.insert(metrics::PATH.to_owned());
    assert_eq!(rpcs, rows.into_iter().collect());
}

#[test]
fn what_changes_a_host_takes_an_operator() {
    let changing: BTreeSet<_> =
        authz::table().filter(|(_, least)| *least == Role::Operator).map(|(path, _)| path).collect();
    let expected = [
        "/magpie.v1.Bundles/Offer",
        "/magpie.v1.Bundles/Upload",
        "/magpie.v1.Host/Claim",
        "/magpie.v1.Host/Extend",
        "/magpie.v1.Host/Release",
        "/magpie.v1.Host/Renew",
        "/magpie.v1.Runs/Cancel",
        "/magpie.v1.Runs/Start",
    ];
    assert_eq!(changing, expected.into());
}
