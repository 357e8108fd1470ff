//! The kernel's message about an ended task: `struct taskstats` (include/uapi/linux/taskstats.h), field by field.
//!
//! The structure only ever grows at its end, so a field exists if the bytes reach it; the version tells how to
//! interpret flags. 2.6.20 sends version 3 or so, 4.18 version 8, 5.10 version 10, 6.1 version 13, 6.18 version 16.

use super::{
    cpu::Cpu,
    netlink::{GENERIC_HEADER_BYTES, attributes, messages, u16_at, u32_at, u64_at},
};

/// TASKSTATS_CMD_NEW: the command of exit messages.
const COMMAND_NEW: u8 = 2;
/// Kinds of attributes: TASKSTATS_TYPE_PID, _TGID, _STATS, _AGGR_PID, _AGGR_TGID.
pub(super) const TYPE_PID: u16 = 1;
pub(super) const TYPE_TGID: u16 = 2;
pub(super) const TYPE_STATS: u16 = 3;
pub(super) const TYPE_AGGR_PID: u16 = 4;
pub(super) const TYPE_AGGR_TGID: u16 = 5;
/// First version in which ac_flag has [`AGROUP`], and ac_tgid and ac_tgetime exist (Linux 5.19).
const GROUP_VERSION: u16 = 12;
/// ac_flag: the last task of its thread group.
const AGROUP: u8 = 0x20;
/// TS_COMM_LEN; the kernel fills 16 of them.
const COMM_BYTES: usize = 32;

/// Offsets of the fields that are read here. `alignment` in the kernel's header makes every u64 a multiple of 8.
mod offset {
    pub(super) const VERSION: usize = 0;
    pub(super) const EXIT_CODE: usize = 4;
    pub(super) const FLAG: usize = 8;
    /// cpu_run_virtual_total: the scheduler's measurement (kernel/delayacct.c); ac_utime and ac_stime are ticks.
    pub(super) const RUN_NS: usize = 72;
    pub(super) const COMM: usize = 80;
    pub(super) const UID: usize = 120;
    pub(super) const PID: usize = 128;
    pub(super) const PARENT: usize = 132;
    pub(super) const ELAPSED_US: usize = 144;
    pub(super) const USER_US: usize = 152;
    pub(super) const SYSTEM_US: usize = 160;
    pub(super) const MAJOR_FAULTS: usize = 176;
    pub(super) const PEAK_KIB: usize = 200;
    pub(super) const READ_BYTES: usize = 248;
    pub(super) const WRITTEN_BYTES: usize = 256;
    pub(super) const TGID: usize = 368;
    pub(super) const GROUP_ELAPSED_US: usize = 376;
}

/// One `struct taskstats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// The process of the task, if the kernel reports it.
    pub(super) tgid: Option<u32>,
    pub(super) parent: u32,
    pub(super) uid: u32,
    /// Exit status as in wait(2).
    pub(super) status: u32,
    /// Whether the task was the last of its process; `None` on older kernels.
    pub(super) last: Option<bool>,
    /// Lifetime of the process, or of the task if the kernel does not report the process's, without time in suspend.
    pub(super) lived_us: u64,
    pub(super) cpu: Cpu,
    pub(super) peak_kib: u64,
    pub(super) major_faults: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) comm: [u8; COMM_BYTES],
}

/// One exit message: a task ended, and possibly its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// Number of the message on its CPU.
    pub(super) sequence: u32,
    /// The task.
    pub(super) task: Record,
    /// The task's process, if that had several threads and this was the last: pid and sums.
    pub(super) group: Option<(u32, Record)>,
}

impl Record {
    /// Parses the value of a TASKSTATS_TYPE_STATS attribute; `None` if it is too short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at| u64_at(bytes, at).unwrap_or_default();
        let knows_groups = u16_at(bytes, offset::VERSION)? >= GROUP_VERSION;
        let flag = *bytes.get(offset::FLAG)?;
        let (user_us, system_us) = (u64_at(bytes, offset::USER_US)?, u64_at(bytes, offset::SYSTEM_US)?);
        // Before Linux 5.14, the scheduler's sum exists only with delay accounting.
        let exact_us = match number(offset::RUN_NS) / 1000 {
            0 => user_us.saturating_add(system_us),
            exact_us => exact_us,
        };
        let group_lived = u64_at(bytes, offset::GROUP_ELAPSED_US).filter(|us| knows_groups && *us > 0);
        Some(Self {
            pid: u32_at(bytes, offset::PID)?,
            tgid: u32_at(bytes, offset::TGID).filter(|tgid| knows_groups && *tgid > 0),
            parent: u32_at(bytes, offset::PARENT)?,
            uid: u32_at(bytes, offset::UID)?,
            status: u32_at(bytes, offset::EXIT_CODE)?,
            last: knows_groups.then_some(flag & AGROUP != 0),
            lived_us: group_lived.unwrap_or(u64_at(bytes, offset::ELAPSED_US)?),
            cpu: Cpu { exact_us, user_us, system_us },
            peak_kib: number(offset::PEAK_KIB),
            major_faults: number(offset::MAJOR_FAULTS),
            read_bytes: number(offset::READ_BYTES),
            written_bytes: number(offset::WRITTEN_BYTES),
            comm: *bytes.get(offset::COMM..)?.first_chunk()?,
        })
    }

    /// The task's name, up to its first zero byte.
    pub(super) fn comm(&self) -> &[u8] {
        self.comm.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The exit messages of family `family` in a datagram.
pub(super) fn notices(datagram: &[u8], family: u16) -> impl Iterator<Item = Notice> {
    messages(datagram).filter(move |message| message.kind == family).filter_map(|message| {
        if message.payload.first() != Some(&COMMAND_NEW) {
            return None;
        }
        let (mut task, mut group) = (None, None);
        for (kind, value) in attributes(message.payload.get(GENERIC_HEADER_BYTES..)?) {
            match kind {
                TYPE_AGGR_PID => task = record(value, TYPE_PID).map(|(_, record)| record),
                TYPE_AGGR_TGID => group = record(value, TYPE_TGID),
                _ => {}
            }
        }
        Some(Notice { sequence: message.sequence, task: task?, group })
    })
}

/// The id and the statistics in an aggregate attribute.
fn record(value: &[u8], id_kind: u16) -> Option<(u32, Record)> {
    let (mut id, mut record) = (None, None);
    for (kind, value) in attributes(value) {
        match kind {
            TYPE_STATS => record = Record::parse(value),
            kind if kind == id_kind => id = u32_at(value, 0),
            _ => {}
        }
    }
    Some((id?, record?))
}

/// For the fuzzer: counts the exit messages in any bytes.
#[doc(hidden)]
pub fn count_notices(datagram: &[u8], family: u16) -> usize {
    notices(datagram, family).inspect(|notice| assert!(notice.task.comm().len() <= COMM_BYTES)).count()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A structure of this length in which every complete field is set.
    fn stats(version: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; 560];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &version.to_ne_bytes());
        put(4, &(3u32 << 8).to_ne_bytes());
        put(8, &[AGROUP]);
        put(72, &7_500_000u64.to_ne_bytes());
        put(80, b"apache2");
        put(120, &33u32.to_ne_bytes());
        put(128, &4801u32.to_ne_bytes());
        put(132, &4800u32.to_ne_bytes());
        put(144, &5_000_000u64.to_ne_bytes());
        put(152, &4000u64.to_ne_bytes());
        put(160, &3000u64.to_ne_bytes());
        put(176, &11u64.to_ne_bytes());
        put(200, &9228u64.to_ne_bytes());
        put(248, &4096u64.to_ne_bytes());
        put(256, &8192u64.to_ne_bytes());
        put(368, &4800u32.to_ne_bytes());
        put(376, &6_000_000u64.to_ne_bytes());
        bytes.truncate(length);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// An exit message as the kernel lays it out.
    pub(in crate::exits) fn message(family: u16, sequence: u32, group: bool) -> Vec<u8> {
        let stats = attribute(TYPE_STATS, &stats(16, 560));
        let mut body = vec![COMMAND_NEW, 1, 0, 0];
        body.extend(attribute(
            TYPE_AGGR_PID,
            &[attribute(TYPE_PID, &4801u32.to_ne_bytes()), stats.clone()].concat(),
        ));
        if group {
            let id = attribute(TYPE_TGID, &4800u32.to_ne_bytes());
            body.extend(attribute(TYPE_AGGR_TGID, &[id, stats].concat()));
        }
        let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(family.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message
    }

    #[test]
    fn a_message_identifies_the_ended_task() {
        let datagram = [message(31, 6, false), message(30, 7, false), message(31, 8, true)].concat();
        let read: Vec<_> = notices(&datagram, 31).collect();
        assert_eq!(read.iter().map(|notice| notice.sequence).collect::<Vec<_>>(), [6, 8]);
        let task = read[0].task;
        assert_eq!((task.pid, task.tgid, task.parent, task.uid), (4801, Some(4800), 4800, 33));
        assert_eq!((task.status, task.last, task.comm()), (3 << 8, Some(true), b"apache2".as_slice()));
        assert_eq!(task.lived_us, 6_000_000);
        assert_eq!(task.cpu, Cpu { exact_us: 7500, user_us: 4000, system_us: 3000 });
        assert_eq!((task.peak_kib, task.major_faults), (9228, 11));
        assert_eq!((task.read_bytes, task.written_bytes), (4096, 8192));
        assert_eq!(read[0].group, None);
        assert_eq!(read[1].group.map(|(pid, _)| pid), Some(4800));
    }

    #[test]
    fn an_older_kernel_reports_less() {
        // Version 8 of Linux 4.18 ends at 328 bytes, version 10 of 5.10 at 352.
        for (version, length) in [(8, 328), (10, 352)] {
            let record = Record::parse(&stats(version, length)).unwrap();
            assert_eq!((record.tgid, record.last, record.lived_us), (None, None, 5_000_000));
            assert_eq!(record.peak_kib, 9228);
        }
        assert_eq!(Record::parse(&stats(8, 100)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(mut bytes: Vec<u8>, changes: Vec<(prop::sample::Index, u8)>) {
            count_notices(&bytes, 0);
            Record::parse(&bytes);
            bytes = message(0, 1, true);
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            count_notices(&bytes, 0);
        }

        #[test]
        fn a_message_cut_short_says_nothing(length in 0usize..1000) {
            let whole = message(0, 1, true);
            prop_assert_eq!(count_notices(&whole[..length.min(whole.len() - 1)], 0), 0);
        }
    }
}
