//! Counts lost exit messages of one CPU, from the kernel's sequence numbers.
//!
//! Each CPU counts its messages (kernel/taskstats.c, prepare_reply), so after an overflow of the receive buffer, the
//! gap equals the number of dropped messages. One trap: a task that moves to another CPU between choosing the
//! listener and counting sends the other CPU's number here. Such a stray does not fit into the sequence, and leaves a
//! gap of one in the other CPU's. So a gap counts only if the next messages continue after it, and if the kernel
//! reported an overflow (ENOBUFS).

/// Number of consecutive messages required after a gap before it counts.
const RUN: u32 = 3;

/// The sequence of one CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    last: Option<u32>,
    /// Consecutive numbers outside the sequence: the first, and how many.
    jump: Option<(u32, u32)>,
    /// Messages in jumps since `last` that were too short: these were read and therefore not lost.
    read: u32,
    /// Number of gaps that may still count. The kernel reports an overflow before the buffer's content is read, so an
    /// earlier gap may be found after the report as well as its own.
    gaps: u8,
}

impl Sequence {
    /// Whether there have been consecutive messages: before that, losses cannot be detected.
    #[cfg(test)]
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The kernel reports that messages were dropped.
    pub(super) fn note_full(&mut self) {
        self.gaps = 2;
    }

    /// Adds the number of the next message; returns how many more messages are now known to be lost.
    pub(super) fn note(&mut self, number: u32) -> u64 {
        if self.last.is_some_and(|last| number == last.wrapping_add(1)) {
            (self.last, self.jump, self.read) = (Some(number), None, 0);
            return 0;
        }
        let (first, length) = match self.jump {
            Some((first, length)) if number == first.wrapping_add(length) => (first, length + 1),
            jump => {
                // The previous jump ended too early to count, but its messages were read: they are not lost.
                self.read += jump.map_or(0, |(_, length)| length);
                (number, 1)
            }
        };
        self.jump = Some((first, length));
        // A single number outside the sequence may be a stray: wait until the next ones continue it.
        if length < RUN {
            return 0;
        }
        let read = std::mem::take(&mut self.read);
        self.jump = None;
        // The very first message may also be a stray, so a sequence begins as it continues after a gap.
        let Some(last) = self.last.replace(number) else { return 0 };
        let missing = first.wrapping_sub(last).wrapping_sub(1);
        // Back at the old sequence after a run of strays: nothing is missing.
        if self.gaps == 0 || missing >= u32::MAX / 2 {
            return 0;
        }
        self.gaps -= 1;
        missing.saturating_sub(read).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lost(steps: &[Option<u32>]) -> u64 {
        let mut sequence = Sequence::default();
        let mut lost = 0;
        for step in steps {
            match step {
                Some(number) => lost += sequence.note(*number),
                None => sequence.note_full(),
            }
        }
        lost
    }

    #[test]
    fn a_gap_behind_a_full_buffer_is_what_was_lost() {
        assert_eq!(lost(&[Some(6), Some(7), Some(8), None, Some(11), Some(12), Some(13)]), 2);
        let around = [u32::MAX - 2, u32::MAX - 1, u32::MAX].map(Some);
        assert_eq!(lost(&[&around[..], &[None], &[3, 4, 5].map(Some)].concat()), 3);
    }

    #[test]
    fn the_count_does_not_begin_with_a_stray() {
        assert_eq!(lost(&[Some(7), None, Some(900), Some(901), Some(902)]), 0);
        assert_eq!(
            lost(&[Some(7), Some(900), Some(901), Some(902), None, Some(905), Some(906), Some(907)]),
            2
        );
    }

    #[test]
    fn an_overflow_is_reported_before_the_buffers_content() {
        let steps = [5, 6, 7, 0, 0, 11, 12, 13, 18, 19, 20].map(|number| (number > 0).then_some(number));
        assert_eq!(lost(&steps), 3 + 4);
    }

    #[test]
    fn a_stray_of_another_cpu_is_no_loss() {
        // 900 belongs to another CPU; 9 went to that CPU.
        let begun = [5, 6, 7].map(Some);
        let behind = |steps: &[Option<u32>]| lost(&[&begun[..], steps].concat());
        assert_eq!(behind(&[Some(900), Some(8), Some(10), Some(11)]), 0);
        assert_eq!(behind(&[None, Some(900), Some(8), Some(11), Some(12), Some(13)]), 2);
        // A run of strays, then back to the sequence.
        assert_eq!(behind(&[None, Some(900), Some(901), Some(8), Some(9), Some(10)]), 0);
    }

    proptest! {
        #[test]
        fn what_was_read_and_what_was_lost_is_all(
            first: u32, episodes in prop::collection::vec((1u32..50, 1u32..1000), 1..20),
        ) {
            let begun = (0..RUN).map(|next| Some(first.wrapping_add(next)));
            let (mut steps, mut number, mut dropped) = (begun.collect::<Vec<_>>(), first.wrapping_add(RUN), 0);
            for (read, missing) in episodes {
                for _ in 0..read {
                    steps.push(Some(number));
                    number = number.wrapping_add(1);
                }
                steps.push(None);
                number = number.wrapping_add(missing);
                dropped += u64::from(missing);
            }
            steps.extend((0..RUN).map(|next| Some(number.wrapping_add(next))));
            prop_assert_eq!(lost(&steps), dropped);
        }

        #[test]
        fn any_numbers_are_harmless(numbers: Vec<Option<u32>>) {
            lost(&numbers);
        }
    }
}
