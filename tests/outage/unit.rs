//! The recorder's installed unit under systemd on a whole machine: its confinement must not hide data from it.

use std::{collections::BTreeSet, fs, time::Duration};

use record::{Collector, EventKind};
use tests::{
    binary, repository,
    vm::{Disks, Machine, System},
};

use crate::stored;

/// Time from power-on until the recorder has run for some seconds. Everything is emulated.
const PATIENCE: Duration = Duration::from_secs(180);

/// Prints the scheduling of the recorder's threads repeatedly.
const WITNESS: &str = "[Service]\nStandardOutput=tty\nTTYPath=/dev/ttyS0\nExecStart=/bin/sh -c '\
    while :; do echo policy $$(chrt -a -p $$(systemctl show -p MainPID --value magpie-record)); sleep 1; done'\n";

/// The threads that sample, write, and read details.
const THREADS: usize = 3;
/// Maximum number of reports to wait for.
const SECONDS: usize = 10;

#[test]
#[ignore = "installs a Debian: make soak"]
fn on_a_whole_machine_the_unit_sees_everything_and_goes_first() {
    let unit = repository("deploy/systemd/magpie-record.service");
    let unit = fs::read_to_string(unit).expect("a unit of the repository");
    let disks = Disks::of(&System {
        packages: &["systemd-sysv", "util-linux"],
        files: &[
            ("/usr/lib/systemd/system/magpie-record.service", &unit),
            ("/usr/lib/systemd/system/witness.service", WITNESS),
        ],
        programs: &[
            ("/usr/lib/magpie/agent", binary("agent")),
            ("/usr/lib/magpie/recorder", binary("recorder")),
        ],
        wanted: &[("magpie-record.service", "sysinit.target"), ("witness.service", "multi-user.target")],
    });
    let mut machine = Machine::boot(&disks, "init=/sbin/init");
    for _ in 0..SECONDS {
        machine.wait_for(PATIENCE, |line| {
            (line.starts_with("policy ") && line.matches("SCHED_RR").count() == THREADS).then_some(())
        });
    }
    machine.power_cut();

    let kept = disks.directory_after_cut("/var/lib/magpie");
    let samples = stored::open(&kept.path().join("magpie/history"));
    let newest = samples.last().expect("there are samples");
    let events = samples.iter().flat_map(|sample| &sample.events);
    let notes: BTreeSet<_> =
        events.filter(|event| event.kind == EventKind::Note).map(|event| &event.text).collect();
    let missing: Vec<&str> = newest.sources.missing().collect();
    println!("unit: {} samples, collector {}", samples.len(), newest.collector.name());
    assert_eq!((newest.collector, missing), (Collector::Bpf, Vec::new()), "{notes:#?}");
}
