//! The example control repository: from nothing to working hosts.

use std::fs;

use tests::{Fleet, repository};

#[test]
fn db_and_web_from_nothing_to_answering() {
    let fleet = Fleet::new(&repository("puppet"), &["db", "web"]);
    std::thread::scope(|scope| {
        for role in ["db", "web"] {
            let fleet = &fleet;
            scope.spawn(move || {
                let recap = fleet.ok(&["provision", "--role", role]);
                assert!(recap.contains(&format!("{role}-1")) && recap.contains("changed"), "{recap}");
            });
        }
    });

    let answer =
        fleet.ok(&["run", "db-1", "--", "runuser", "-u", "postgres", "--", "psql", "-Atc", "select 6*7"]);
    assert!(answer.lines().any(|line| line.ends_with("42")), "{answer}");
    let page = fleet.ok(&["run", "web-1", "--", "perl", "-MIO::Socket::INET", "-e", HTTP_GET]);
    assert!(page.contains("200 OK"), "{page}");

    // A second apply has nothing to change, and says so.
    for run in fleet.json(&["apply", "--all"]).iter().filter(|line| line["type"] == "recap") {
        assert_eq!(run["summary"]["changed"], 0, "{run}");
        assert_eq!(run["state"], "succeeded", "{run}");
    }

    // --noop lists pending changes, exits 10, and changes nothing.
    fleet.ok(&["run", "db-1", "--", "rm", "/etc/motd"]);
    for _ in 0..2 {
        let noop = fleet.exits(10, &["apply", "db-1", "--noop"]);
        assert!(noop.stdout.contains("File[/etc/motd]"), "{}", noop.stdout);
    }
    fleet.exits(1, &["run", "db-1", "--", "test", "-e", "/etc/motd"]);

    // A stopped host keeps its disk, and its identity.
    fleet.ok(&["stop", "db-1"]);
    fleet.exits(3, &["apply", "db-1"]);
    fleet.ok(&["start", "db-1"]);
    let answer =
        fleet.ok(&["run", "db-1", "--", "runuser", "-u", "postgres", "--", "psql", "-Atc", "select 6*7"]);
    assert!(answer.lines().any(|line| line.ends_with("42")), "{answer}");

    // The record has every process by name, with its owner.
    let log = fleet.ok(&["cpu-log", "db-1", "--since", "5m", "--top", "50", "--sort", "memory"]);
    assert!(log.lines().any(|line| line.contains(" postgres ") && line.contains("postgres: ")), "{log}");
}

/// Fetches the page of the host's web server with tools that every Debian has.
const HTTP_GET: &str = r#"$s=IO::Socket::INET->new("127.0.0.1:80") or die $!; print $s "GET / HTTP/1.0\r\n\r\n"; print while <$s>"#;

/// Debian's packaged modules, symlinked: the bundle must contain the files that the links point to.
#[test]
fn roles_that_nobody_here_wrote_converge() {
    let tree = repository("tests/fixtures/puppet-modules");
    let roles = ["postgresql", "apache", "haproxy", "memcached", "ssh", "mysql"];
    let fleet = Fleet::new(&tree, &roles);
    let config = fleet.directory().join("magpie.toml");
    let text = fs::read_to_string(&config).expect("the fleet has one");
    // The modules are where the distribution installs them: this must be configured, or they are refused.
    let refused = fleet.exits(2, &["provision", "--role", "ssh"]);
    assert!(refused.stderr.contains("outside_links = true"), "{refused:?}");
    fs::write(&config, text.replace("[bundle]\n", "[bundle]\noutside_links = true\n")).expect("written");
    for role in roles {
        fleet.ok(&["provision", "--role", role]);
        let lines = fleet.json(&["apply", "--role", role]);
        let recap = lines.iter().find(|line| line["type"] == "recap").expect("a recap");
        // mysql's module compares utf8 with utf8mb3 and changes it on every apply: `ctl` must show that.
        let state = if role == "mysql" { "changed" } else { "succeeded" };
        assert_eq!(recap["state"], state, "{role}: {recap}");
        fleet.ok(&["destroy", "--yes", &format!("{role}-1")]);
    }
}
