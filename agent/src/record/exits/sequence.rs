//! How many exit messages of one CPU were lost, from the numbers that the kernel gives them.
//!
//! Each CPU counts its messages (kernel/taskstats.c, prepare_reply), so behind a full receive buffer there is a gap of
//! exactly what was dropped. One trap: a task that is moved to another CPU between choosing the listener and counting
//! sends the other CPU's number here. Such a stray neither continues the count nor is continued, and costs the other
//! CPU one number. So a gap counts only if the next messages continue behind it, and if the kernel said that the
//! buffer was full (ENOBUFS).

/// Messages that must continue each other behind a gap before it counts.
const RUN: u32 = 3;

/// The count of one CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    last: Option<u32>,
    /// Numbers that do not continue the count but each other: the first, and how many.
    jump: Option<(u32, u32)>,
    /// Whether the buffer was full since the last gap that counted.
    full: bool,
}

impl Sequence {
    /// The kernel says that messages were dropped.
    pub(super) fn note_full(&mut self) {
        self.full = true;
    }

    /// Takes the number of the next message; returns how many are now known to be lost.
    pub(super) fn note(&mut self, number: u32) -> u64 {
        let Some(last) = self.last else {
            self.last = Some(number);
            return 0;
        };
        if number == last.wrapping_add(1) {
            (self.last, self.jump) = (Some(number), None);
            return 0;
        }
        let (first, length) = match self.jump {
            Some((first, length)) if number == first.wrapping_add(length) => (first, length + 1),
            _ => (number, 1),
        };
        self.jump = Some((first, length));
        if length < RUN {
            return 0;
        }
        (self.last, self.jump) = (Some(number), None);
        let missing = first.wrapping_sub(last).wrapping_sub(1);
        // Back to where the count was before a run of strays: nothing is missing.
        let forward = missing < u32::MAX / 2;
        if forward && std::mem::take(&mut self.full) { missing.into() } else { 0 }
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
        assert_eq!(lost(&[Some(7), Some(8), None, Some(11), Some(12), Some(13)]), 2);
        assert_eq!(lost(&[Some(u32::MAX), None, Some(3), Some(4), Some(5)]), 3);
    }

    #[test]
    fn a_stray_of_another_cpu_is_no_loss() {
        // 900 is another CPU's; 9 went to that one.
        assert_eq!(lost(&[Some(7), Some(900), Some(8), Some(10), Some(11)]), 0);
        assert_eq!(lost(&[Some(7), None, Some(900), Some(8), Some(11), Some(12), Some(13)]), 2);
        // A run of strays, and back.
        let strays = [Some(7), None, Some(900), Some(901), Some(8), Some(9), Some(10)];
        assert_eq!(lost(&strays), 0);
    }

    proptest! {
        #[test]
        fn what_was_read_and_what_was_lost_is_all(
            first: u32, episodes in prop::collection::vec((3u32..50, 1u32..1000), 1..20),
        ) {
            let (mut steps, mut number, mut dropped) = (Vec::new(), first, 0);
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
