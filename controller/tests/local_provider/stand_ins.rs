//! What hosts of these tests have in the place of Magpie's own programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Stands in for the agent: `serve` runs one line from each connection in a shell, `record` idles.
pub(crate) const AGENT: &str = r#"#!/usr/bin/perl
use IO::Socket::INET;
sleep 1000000000 if $ARGV[0] eq 'record';
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(Listen => 64, LocalPort => 717, ReuseAddr => 1) or die;
while (1) {
    my $peer = $listener->accept or next;
    next if fork;
    $SIG{CHLD} = 'DEFAULT';
    my $command = <$peer>;
    exit 0 unless defined $command;
    # As a unit of its own, like a run: the agent's unit is confined, and would refuse what the host should.
    open my $said, '-|', 'systemd-run', '--quiet', '--pipe', '--wait', '--collect', 'sh', '-c', "exec 2>&1; $command" or die;
    print $peer $_ while <$said>;
    exit 0;
}
"#;

/// Stand-ins for the programs of a host; returns the agent's.
pub(crate) fn stand_ins() -> PathBuf {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-ins");
    fs::create_dir_all(&programs).unwrap();
    let agent = programs.join("agent");
    // Written once: another process of this test may be reading them.
    for (program, content) in [(&agent, AGENT), (&programs.join("recorder"), "#!/bin/sh\n")] {
        if !fs::read_to_string(program).is_ok_and(|text| text == content) {
            fs::write(program, content).unwrap();
        }
    }
    agent
}
