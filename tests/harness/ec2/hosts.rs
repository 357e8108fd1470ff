//! Local hosts behind the lab's instances, and their images.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use controller::provider::{ImageId, ImageSpec, Launch, Provider, local::Local};
use tokio::runtime::{Builder, Runtime};

use crate::{binary, target_dir};

/// Fleet name of the lab's hosts at the local provider; the controllers under test do not know this fleet.
pub const FLEET: &str = "ec2-lab";

/// Address of the instances' metadata service. Also works around layers, which an instance's disk does not have: the agent
/// quarantines an identity by renaming its directory, and overlayfs refuses to rename a directory of a lower layer, as in
/// a host that was launched from another host's disk (kernel documentation filesystems/overlayfs.rst, "Renaming
/// directories"). So the directory is created again in the uppermost layer.
const METADATA: &str = "[Service]\nEnvironment=MAGPIE_METADATA=http://169.254.169.254\n\
    ExecStartPre=/bin/sh -c 'cd /var/lib/magpie && [ ! -d state ] || \
    { cp -a state fresh && rm -r state && mv fresh state; }'\n";
/// cloud-init as on EC2, without network configuration: a local host has its network when it boots.
const CLOUD_INIT: &str = "datasource_list: [ Ec2Lab ]\nnetwork: { config: disabled }\n\
    manage_etc_hosts: false\npreserve_hostname: true\napt_preserve_sources_list: true\n";
/// cloud-init's own EC2 data source. Without DMI it cannot detect EC2, so it is selected here. cloud-init looks for such
/// modules first in Python's own path.
const DATA_SOURCE: &str = "from cloudinit import sources\nfrom cloudinit.sources import DataSourceEc2 as ec2\n\n\
    ec2.identify_platform = lambda: ec2.CloudNames.AWS\n\n\ndef get_datasource_list(depends):\n    \
    when = (sources.DEP_FILESYSTEM, sources.DEP_NETWORK)\n    \
    return sources.list_from_depends(depends, [(ec2.DataSourceEc2, when)])\n";

/// The local provider with a state directory of the lab.
pub fn open(state: &Path) -> Local {
    open_with(state, &[])
}

fn open_with(state: &Path, packages: &[&str]) -> Local {
    let packages = packages.iter().map(ToString::to_string).collect();
    Local::open(state.to_owned(), binary("ctl"), ImageSpec { agent: binary("agent"), packages })
        .expect("a state directory can be made")
}

/// Launches the host of an instance, which gets all its configuration from its metadata service.
pub fn instance(id: &str, image: &ImageId) -> Launch {
    Launch {
        fleet: FLEET.to_owned(),
        role: "instance".to_owned(),
        name: "instance-1".to_owned(),
        tid: id.to_owned(),
        image: image.clone(),
        settings: Default::default(),
        usage: Default::default(),
        fingerprint: Default::default(),
        clone_of: None,
        enrol_document: Vec::new(),
    }
}

/// Destroys all hosts of a state directory.
pub fn destroy_all(state: &Path) {
    let local = open(state);
    runtime().block_on(async {
        for host in local.hosts(FLEET).await.unwrap_or_default() {
            if let Err(error) = local.destroy(&host).await {
                eprintln!("{}: {error}", host.name);
            }
        }
    });
}

/// Bakes the agent's image, with the address of its metadata service, once for all tests, and makes it available in `state`.
pub fn agent_image(state: &Path) -> ImageId {
    let baked = bake(state, "e2e", &[]);
    link(&shared("e2e").join("images").join(&baked.0), &state.join("images").join(&baked.0));
    let image = ImageId(format!("{}-a6e27", baked.0));
    let layer = state.join("images").join(&image.0);
    write(
        &layer,
        "etc/systemd/system/magpie-agent.service.d/metadata.conf",
        METADATA,
        &layer_of(state, &baked),
    );
    make(&layer.join("var/lib/magpie"), 0o700, &layer_of(state, &baked));
    image
}

/// The same for a distribution like Debian's own AMIs, without an agent: the base for baking an agent into.
pub fn base_image(state: &Path) -> ImageId {
    let baked = bake(state, "ec2", &["cloud-init", "curl"]);
    let (base, _) = baked.0.split_once('-').expect("an image is named by its base");
    let image = ImageId(format!("{base}-ba5e"));
    let layer = state.join("images").join(&image.0);
    let whole = shared("ec2").join("images").join(&baked.0);
    let copied = Command::new("cp").arg("-a").args([&whole, &layer]).status().expect("cp starts");
    assert!(copied.success(), "{} cannot be copied", whole.display());
    fs::remove_dir_all(layer.join("usr/lib/magpie")).expect("the agent is there");
    for unit in ["magpie-agent.service", "magpie-record.service"] {
        fs::remove_file(layer.join("usr/lib/systemd/system").join(unit)).expect("it is there");
        fs::remove_file(layer.join("etc/systemd/system/sysinit.target.wants").join(unit))
            .expect("it is there");
    }
    write(&layer, "etc/cloud/cloud.cfg.d/99-lab.cfg", CLOUD_INIT, &whole);
    write(&layer, "usr/lib/python3/dist-packages/DataSourceEc2Lab.py", DATA_SOURCE, &whole);
    write(&layer, "etc/cloud/ds-identify.cfg", "policy: enabled\n", &whole);
    image
}

fn shared(name: &str) -> PathBuf {
    target_dir().join(name)
}

fn layer_of(state: &Path, image: &ImageId) -> PathBuf {
    state.join("images").join(&image.0)
}

/// Bakes in a directory shared by all tests, one at a time, and links the base into `state`.
fn bake(state: &Path, name: &str, packages: &[&str]) -> ImageId {
    fs::create_dir_all(shared(name)).expect("made");
    let turn = fs::File::create(shared(name).join("lock")).expect("a lock file");
    turn.lock().expect("locked: one bakes, the others find it done");
    let work = tempfile::TempDir::with_prefix("magpie-bake-").expect("a temporary directory");
    for kind in ["bases", "images"] {
        fs::create_dir_all(shared(name).join(kind)).expect("made");
        symlink(shared(name).join(kind), work.path().join(kind)).expect("linked");
    }
    let local = open_with(work.path(), packages);
    let spec =
        ImageSpec { agent: binary("agent"), packages: packages.iter().map(ToString::to_string).collect() };
    let image = runtime().block_on(local.bake(&spec, &|_| {})).expect("an image can be baked");
    let (base, _) = image.0.split_once('-').expect("an image is named by its base");
    link(&shared(name).join("bases").join(base), &state.join("bases").join(base));
    image
}

fn link(target: &Path, at: &Path) {
    match symlink(target, at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{}: {error}", at.display()),
        _ => {}
    }
}

/// Writes a file into a layer, with the same owner as `like`.
fn write(layer: &Path, path: &str, content: &str, like: &Path) {
    let file = layer.join(path);
    make(file.parent().expect("a file is in a directory"), 0o755, like);
    fs::write(&file, content).expect("written");
    own(&file, like);
}

/// Creates a directory and its missing parents.
fn make(directory: &Path, mode: u32, like: &Path) {
    if !directory.exists() {
        make(directory.parent().expect("the layer is there"), 0o755, like);
        DirBuilder::new().mode(mode).create(directory).expect("made");
        own(directory, like);
    }
}

fn own(path: &Path, like: &Path) {
    let owner = fs::metadata(like).expect("there");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("root may");
}

pub(super) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}
