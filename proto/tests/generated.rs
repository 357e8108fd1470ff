//! The committed generated code is what the `.proto` files say. `MAGPIE_REGENERATE=1` rewrites it.

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources: Vec<_> = fs::read_dir(root.join("magpie/v1"))
        .expect("the .proto files are there")
        .map(|entry| entry.expect("readable entry").path())
        .collect();
    sources.sort();
    let descriptors = protox::compile(&sources, [root]).expect("the .proto files compile");
    let out = tempfile::tempdir().expect("a temporary directory");
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(descriptors).expect("code is generated");
    let fresh = fs::read_to_string(out.path().join("magpie.v1.rs")).expect("generated file");
    let committed = root.join("src/gen/magpie.v1.rs");
    if std::env::var_os("MAGPIE_REGENERATE").is_some() {
        fs::write(&committed, &fresh).expect("src/gen is writable");
    }
    let old = fs::read_to_string(&committed).unwrap_or_default();
    assert!(old == fresh, "src/gen/magpie.v1.rs is stale: run `make gen` and commit the result");
}
