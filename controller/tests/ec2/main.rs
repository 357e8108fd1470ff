//! The provider `ec2` against the API as moto has it: what is asked, how often, and what becomes of it. Hosts that
//! boot are the business of the suites in `tests/`.

#![cfg(feature = "ec2")]

mod cloud;

use controller::{
    config::{self, Config},
    error::Kind,
    provider::{Host, HostState, ImageId, Launch, Provider, Standing, Usage, ec2::Ec2},
};

use self::cloud::{Calls, with_cloud};

const FLEET: &str = "f-1";

fn config(sections: &str) -> Config {
    config::parse(&format!(
        "[fleet]\nname = \"shop\"\nprovider = \"ec2\"\n[bundle]\npath = \"puppet\"\n\
         [ec2]\nregion = \"eu-central-1\"\ntags = {{ team = \"a\" }}\n{sections}"
    ))
    .expect("a configuration")
}

fn ec2(config: &Config) -> Ec2 {
    Ec2::new(&config.ec2, &config.connect, FLEET)
}

fn launch(config: &Config, tid: &str, name: &str) -> Launch {
    let settings = config.roles.get("db").cloned().unwrap_or_default();
    Launch {
        fleet: FLEET.into(),
        role: "db".into(),
        name: name.into(),
        tid: tid.into(),
        image: ImageId("ami-0123456789abcdef0".into()),
        settings,
        usage: Usage { owner: "ada".into(), holder: "m:1:2".into(), ..Usage::default() },
        fingerprint: [("type".to_owned(), "t3.small".to_owned())].into(),
        clone_of: None,
        enrol_document: b"{\"v\":1}".to_vec(),
    }
}

fn names(hosts: &[Host]) -> Vec<&str> {
    hosts.iter().map(|host| host.name.as_str()).collect()
}

#[test]
fn a_host_lives_and_ends() {
    with_cloud("a_host_lives_and_ends", async |calls: Calls| {
        let config = config("");
        let ec2 = ec2(&config);
        assert_eq!(calls.take(), [""; 0], "nothing is asked until there is something to ask");

        let host = ec2.launch(&launch(&config, "t-1", "db-1")).await.expect("launched");
        assert_eq!(calls.take(), ["RunInstances", "DescribeInstances"]);
        assert_eq!((host.state, host.region.as_str()), (HostState::Running, "eu-central-1"));
        assert!(!host.address.is_empty() && host.class == "t3.small" && host.tid == "t-1");

        let hosts = ec2.hosts(FLEET).await.expect("listed");
        assert_eq!(calls.take(), ["DescribeInstances"]);
        assert_eq!(hosts, std::slice::from_ref(&host));
        assert_eq!(hosts[0].usage.owner, "ada");
        assert_eq!(ec2.hosts("f-2").await.expect("listed"), []);

        let mut used = host.clone();
        used.usage = Usage {
            standing: Standing::Used,
            lease_until: 77,
            commit: "c".into(),
            bundle: "b".repeat(64),
            ..used.usage
        };
        calls.take();
        ec2.mark(&used).await.expect("marked");
        assert_eq!(calls.take(), ["CreateTags"]);
        assert_eq!(ec2.hosts(FLEET).await.expect("listed"), [used]);

        calls.take();
        ec2.stop(&host).await.expect("stopped");
        assert_eq!(calls.take()[0], "StopInstances");
        assert_eq!(ec2.hosts(FLEET).await.expect("listed")[0].state, HostState::Stopped);
        calls.take();
        let started = ec2.start(&host).await.expect("started");
        assert_eq!(calls.take(), ["StartInstances"]);
        assert_eq!((started.state, &started.address), (HostState::Running, &host.address));

        assert!(ec2.console(&host).await.expect("a console").contains("login:"));
        calls.take();
        ec2.destroy(&host).await.expect("ended");
        assert_eq!(calls.take(), ["TerminateInstances"]);
        assert_eq!(ec2.hosts(FLEET).await.expect("listed"), []);
    });
}

#[test]
fn one_transaction_makes_one_host() {
    with_cloud("one_transaction_makes_one_host", async |calls: Calls| {
        let config = config("");
        let first = ec2(&config).launch(&launch(&config, "t-1", "db-1")).await.expect("launched");
        // Another process, which has seen nothing yet: the token does it.
        let again = ec2(&config).launch(&launch(&config, "t-1", "db-1")).await.expect("found");
        assert_eq!(again.id, first.id);
        // It would name the host otherwise: EC2 refuses, and the tag does it.
        let renamed = ec2(&config).launch(&launch(&config, "t-1", "db-7")).await.expect("found");
        assert_eq!((renamed.id.as_str(), renamed.name.as_str()), (first.id.as_str(), "db-1"));
        // One that has listed knows without asking for a launch.
        let listed = ec2(&config);
        listed.hosts(FLEET).await.expect("listed");
        calls.take();
        assert_eq!(listed.launch(&launch(&config, "t-1", "db-7")).await.expect("found").id, first.id);
        assert_eq!(calls.take(), ["DescribeInstances"]);
        assert_eq!(names(&listed.hosts(FLEET).await.expect("listed")), ["db-1"]);
    });
}

#[test]
fn two_controllers_do_not_share_a_name() {
    with_cloud("two_controllers_do_not_share_a_name", async |_| {
        let config = config("");
        let (one, other) = (ec2(&config), ec2(&config));
        one.launch(&launch(&config, "t-1", "db-1")).await.expect("launched");
        other.launch(&launch(&config, "t-2", "db-1")).await.expect("launched");
        assert_eq!(names(&one.hosts(FLEET).await.expect("listed")), ["db-1", "db-2"]);
    });
}

#[test]
fn where_there_is_no_capacity_the_next_type_is_tried_at_once() {
    with_cloud("where_there_is_no_capacity_the_next_type_is_tried_at_once", async |calls: Calls| {
        let config =
            config("[roles.db.ec2]\ninstance_type = [\"c5.large\", \"t3.small\"]\nspot = \"fallback\"\n");
        let host = ec2(&config).launch(&launch(&config, "t-1", "db-1")).await.expect("launched");
        assert_eq!(host.class, "t3.small spot");
        assert_eq!(calls.take(), ["RunInstances", "RunInstances", "DescribeInstances"]);

        let config = self::config("[roles.db.ec2]\ninstance_type = \"c5.large\"\nspot = \"fallback\"\n");
        let error = ec2(&config).launch(&launch(&config, "t-2", "db-2")).await.expect_err("no capacity");
        assert_eq!(calls.take(), ["RunInstances", "RunInstances"]);
        assert_eq!(error.kind(), Kind::Unreachable);
        assert_eq!(
            error.hints().last().map(String::as_str),
            Some(
                "tried: c5.large (spot): InsufficientInstanceCapacity; c5.large: InsufficientInstanceCapacity"
            )
        );
    });
}

#[test]
fn hosts_are_found_in_every_region() {
    with_cloud("hosts_are_found_in_every_region", async |_| {
        let home = config("");
        let mut elsewhere = config("");
        elsewhere.ec2.region = Some("us-west-2".into());
        ec2(&home).launch(&launch(&home, "t-1", "db-1")).await.expect("launched");
        ec2(&elsewhere).launch(&launch(&elsewhere, "t-2", "db-2")).await.expect("launched");
        let ec2 = ec2(&home);
        assert_eq!(names(&ec2.hosts(FLEET).await.expect("listed")), ["db-1"]);
        let hosts = ec2.hosts_everywhere(FLEET).await.expect("listed");
        assert_eq!(names(&hosts), ["db-1", "db-2"]);
        // It is ended where it is.
        ec2.destroy(&hosts[1]).await.expect("ended");
        assert_eq!(names(&ec2.hosts_everywhere(FLEET).await.expect("listed")), ["db-1"]);
    });
}

#[test]
fn an_image_is_baked_once_tried_and_removed() {
    with_cloud("an_image_is_baked_once_tried_and_removed", async |calls: Calls| {
        let bake = format!(
            "bake = {{ base = \"ami-0123456789abcdef0\", package = \"https://example.net/a.deb\", sha256 = \"{}\" }}\n",
            "0".repeat(64)
        );
        let config = config(&bake);
        let (ec2, role) = (ec2(&config), Default::default());
        let error = ec2.image(&role, &|_| {}).await.expect_err("none yet");
        assert!(error.hints()[0].contains("ctl bake --provider ec2"), "{error}");

        let image = ec2.bake(&|_| {}).await.expect("baked");
        assert_eq!(ec2.image(&role, &|_| {}).await.expect("the baked one"), image);
        assert_eq!(ec2.hosts(FLEET).await.expect("listed"), [], "builder and trial have ended");
        calls.take();
        assert_eq!(ec2.bake(&|_| {}).await.expect("found"), image);
        assert_eq!(calls.take(), ["DescribeImages"]);
        ec2.image(&role, &|_| {}).await.expect("the baked one");
        ec2.image(&role, &|_| {}).await.expect("remembered");
        assert_eq!(calls.take(), ["DescribeImages"]);

        let images = ec2.images().await.expect("listed");
        assert_eq!(images.iter().map(|one| (&one.id, one.finished)).collect::<Vec<_>>(), [(&image, true)]);
        ec2.remove_image(&image).await.expect("removed");
        ec2.remove_image(&image).await.expect("a no-op");
        assert_eq!(ec2.images().await.expect("listed"), []);
    });
}

#[test]
fn a_copy_is_another_host_and_leaves_no_image() {
    with_cloud("a_copy_is_another_host_and_leaves_no_image", async |_| {
        let config = config("");
        let ec2 = ec2(&config);
        let host = ec2.launch(&launch(&config, "t-1", "db-1")).await.expect("launched");
        let order = Launch { clone_of: Some("db-1".into()), ..launch(&config, "t-2", "db-2") };
        let copy = ec2.clone_host(&host, &order, false, &|_| {}).await.expect("copied");
        assert_ne!(copy.id, host.id);
        assert_eq!((copy.name.as_str(), copy.clone_of.as_deref()), ("db-2", Some("db-1")));
        assert_eq!(ec2.images().await.expect("listed"), []);
    });
}
