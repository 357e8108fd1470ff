//! Clones and captures: the same disk under another name, nothing of it lost, the original undisturbed.

use std::{fs, time::Instant};

use controller::provider::{Host, HostState, Launch, Provider};

use crate::{Cloud, Machine, TURN, cloud};

/// Everything that a file system can hold and an overlay hides in its upper directory.
const LAY_OUT: &str = "rm /etc/debian_version; rm -r /etc/apt; mkdir /etc/apt; touch /etc/apt/mine; \
    mkdir -p /srv/t; cd /srv/t; echo one > file; ln file link; ln -s /nowhere symbolic; mkfifo fifo; \
    perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"socket\", Listen => 1)'; \
    install -o daemon -g games -m 6751 /bin/true setuid; truncate -s 1G sparse; touch -d 2001-02-03 old; \
    mkdir -p /var/lib/magpie/runs/db-1-x /var/lib/magpie/history /var/lib/magpie/state.new; \
    echo r > /var/lib/magpie/history/r; ln -s /srv/t /var/lib/magpie/state.new/link";
const DESCRIBE: &str = "stat -c '%n %F %a %U:%G %h %s %b %Y' /etc/apt /etc/apt/* /srv/t /srv/t/*; \
    readlink /srv/t/symbolic; cat /srv/t/link; test -e /etc/debian_version || echo gone; \
    test /srv/t/file -ef /srv/t/link && echo one file";
const OF_THE_AGENT: &str = "ls /var/lib/magpie";

impl Cloud {
    async fn clone_of(&self, host: &Host, tid: &str, with_record: bool) -> Host {
        let launch = Launch { clone_of: Some(host.name.clone()), ..self.launch_of("db", tid, None) };
        self.local.clone_host(host, &launch, with_record, &|_| {}).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_has_the_disk_and_is_another_machine() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let before = Machine::now(&cloud.state);
    let original = cloud.local.launch(&cloud.launch_of("db", "original", None)).await.unwrap();
    cloud.ask(&original, LAY_OUT).await;
    let disk = cloud.ask(&original, DESCRIBE).await;
    assert!(disk.contains("socket") && disk.contains("one file") && disk.contains("gone\n"), "{disk}");

    let began = Instant::now();
    let clone = cloud.clone_of(&original, "clone", false).await;
    eprintln!("cloned after {:?}", began.elapsed());
    assert_eq!((clone.name.as_str(), clone.clone_of.as_deref()), ("db-2", Some("db-1")));
    assert_eq!(cloud.ask(&clone, DESCRIBE).await, disk);
    assert_eq!(cloud.ask(&clone, OF_THE_AGENT).await, "enrol.json\nlimits.json\n");
    assert_eq!(cloud.ask(&clone, "hostname; cat /etc/hostname").await, "db-2\ndb-2\n");
    let machine_ids = [&original, &clone].map(|host| cloud.ask(host, "cat /etc/machine-id"));
    let [one, other] = machine_ids;
    assert_ne!(one.await, other.await);
    let again = cloud.clone_of(&original, "clone", false).await;
    assert_eq!(again, clone, "one transaction, one host");

    // Of a stopped host, with its record.
    cloud.local.stop(&original).await.unwrap();
    let stopped = Host { state: HostState::Stopped, ..original.clone() };
    let third = cloud.clone_of(&stopped, "third", true).await;
    assert_eq!(cloud.ask(&third, DESCRIBE).await, disk);
    assert_eq!(cloud.ask(&third, OF_THE_AGENT).await, "enrol.json\nhistory\nlimits.json\n");
    for host in [&clone, &third] {
        cloud.local.destroy(host).await.unwrap();
    }
    cloud.local.start(&original).await.unwrap();
    assert_eq!(cloud.ask(&original, DESCRIBE).await, disk);
    cloud.local.destroy(&original).await.unwrap();
    assert_eq!(Machine::now(&cloud.state), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_host_is_copied_as_of_one_moment_and_goes_on() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let original = cloud.local.launch(&cloud.launch_of("db", "busy", None)).await.unwrap();
    // Each number is in `early` before it is in `late`; the copy of a moment has two that are next to each other.
    let counting = "mkdir -p /srv/a /srv/z; for n in 1 2 3 4 5 6 7 8; do \
        head -c 20M /dev/urandom > /srv/a/$n; head -c 20M /dev/urandom > /srv/z/$n; done; echo 0 > /srv/a/early; \
        echo 0 > /srv/z/late; systemd-run --quiet --unit=count perl -e 'for ($n = 1; ; $n++) { \
        for $f (\"a/early\", \"z/late\") { open F, \"+<\", \"/srv/$f\"; print F \"$n\\n\"; close F } }'";
    cloud.ask(&original, counting).await;
    let clone = cloud.clone_of(&original, "moment", false).await;
    let numbers = cloud.ask(&clone, "cat /srv/a/early /srv/z/late").await;
    let numbers: Vec<u64> = numbers.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers[0] > 0 && (numbers[1]..=numbers[1] + 1).contains(&numbers[0]), "{numbers:?}");
    let went_on = "a=$(cat /srv/a/early); while [ $(cat /srv/a/early) = $a ]; do :; done; echo yes";
    assert_eq!(cloud.ask(&original, went_on).await, "yes\n");
    for host in [&original, &clone] {
        cloud.local.destroy(host).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_disk_is_an_image() {
    let _turn = TURN.lock().await;
    let Some(cloud) = cloud().await else { return };
    let original = cloud.local.launch(&cloud.launch_of("db", "captured", None)).await.unwrap();
    cloud.ask(&original, LAY_OUT).await;
    let disk = cloud.ask(&original, DESCRIBE).await;
    let image = cloud.local.capture(&original).await.unwrap();
    assert!(image.0.starts_with(&original.image.0) && cloud.local.images().unwrap().contains(&image));

    let host = cloud.local.launch(&Launch { image, ..cloud.launch_of("db", "from", None) }).await.unwrap();
    assert_eq!(cloud.ask(&host, DESCRIBE).await, disk);
    assert!(cloud.ask(&host, OF_THE_AGENT).await.contains("state.new"), "as it is");
    cloud.ask(&host, "rm /srv/t/file; rm -r /etc/apt; mkdir /etc/apt").await;
    // And an image of what was made of an image.
    let upon = cloud.local.capture(&host).await.unwrap();
    let second =
        cloud.local.launch(&Launch { image: upon.clone(), ..cloud.launch_of("db", "second", None) }).await;
    let second = second.unwrap();
    assert_eq!(cloud.ask(&second, "ls /etc/apt; ls /srv/t | head -n 3").await, "fifo\nlink\nold\n");
    for host in [&original, &host, &second] {
        cloud.local.destroy(host).await.unwrap();
    }
    for image in [upon, host.image] {
        fs::remove_dir_all(cloud.state.join("images").join(&image.0)).unwrap();
    }
}
