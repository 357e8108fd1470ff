//! Reading and updating the records of existing hosts, without stopping them.

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
            // Ignored: the next change to the host tries again and reports the error.
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

    /// Pid of a running host's process that stays in the cloud while the host is up. Waits until the deadline for a
    /// rebooting host.
    pub(crate) fn keeper(&self, id: &str, name: &str, deadline: Instant) -> io::Result<u32> {
        let unreachable =
            |what: &str| io::Error::new(io::ErrorKind::HostUnreachable, format!("{name} {what}"));
        loop {
            let pids = held_by(&self.state.host(id).running()).map_err(io::Error::other)?;
            match pids.as_deref() {
                None => return Err(unreachable("is not running")),
                Some([_, _, keeper]) => return Ok(*keeper),
                // Booted by an older ctl, whose supervisor had no keeper.
                Some([supervisor, _]) => return Ok(*supervisor),
                Some(_) if Instant::now() > deadline => return Err(unreachable("is booting")),
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
