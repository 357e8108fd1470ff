//! What is known of the hosts that there are, read and written while they go on.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    provider::{
        Host,
        local::{inner::Inner, record::Record, state::held_by},
    },
};

impl Inner {
    /// All hosts of a fleet, ordered by role and number.
    pub(crate) fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let mut records = Record::all(&self.state)?;
        records.retain(|record| record.fleet == fleet);
        records.sort_by_cached_key(|record| {
            let number: u32 =
                record.name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            (record.role.clone(), number)
        });
        for record in &records {
            // Whoever acts on the host next tries again, and says so.
            drop(self.sweep(&record.id));
        }
        records
            .into_iter()
            .map(|record| {
                let host = self.state.host(&record.id);
                record.into_host(&host)
            })
            .collect()
    }

    pub(crate) fn mark(&self, marked: &Host) -> Result<()> {
        let host = self.state.host(&marked.id);
        let _turn = host.lock()?.ok_or_else(|| host.gone())?;
        let mut record = Record::read(&host)?.ok_or_else(|| host.gone())?;
        record.name.clone_from(&marked.name);
        record.usage.clone_from(&marked.usage);
        record.write(&host)
    }

    /// The process of a running host that is in the cloud for as long as the host is up; waits until the deadline for a
    /// host that reboots.
    pub(crate) fn keeper(&self, id: &str, name: &str, deadline: Instant) -> io::Result<u32> {
        let unreachable =
            |what: &str| io::Error::new(io::ErrorKind::HostUnreachable, format!("{name} {what}"));
        loop {
            let pids = held_by(&self.state.host(id).running()).map_err(io::Error::other)?;
            match pids.as_deref() {
                None => return Err(unreachable("is not running")),
                Some([_, _, keeper]) => return Ok(*keeper),
                // Booted by a ctl whose supervisors did not let hosts reboot.
                Some([supervisor, _]) => return Ok(*supervisor),
                Some(_) if Instant::now() > deadline => return Err(unreachable("is booting")),
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
