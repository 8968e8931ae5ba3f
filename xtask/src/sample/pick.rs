use fastrand::Rng;

/// Choices of which the first come far more often than the last, as paths, users and browsers do:
/// the one at rank N has the share 1/N (Zipf's law).
#[derive(Debug)]
pub(crate) struct Skewed<T> {
    choices: Vec<T>,
    /// Indices of choices, each as often as is its due: integers only, for the same bytes anywhere.
    slots: Vec<u16>,
}

const SLOTS: usize = 4096;

impl<T> Skewed<T> {
    pub(crate) fn new(choices: impl IntoIterator<Item = T>) -> Self {
        let choices: Vec<T> = choices.into_iter().collect();
        let share = |rank: usize| (1 << 24) / (rank as u64 + 1);
        let total: u64 = (0..choices.len()).map(share).sum();
        let mut slots = Vec::with_capacity(SLOTS);
        for rank in 0..choices.len() {
            let due = (share(rank) * SLOTS as u64 / total).max(1);
            slots.extend((0..due).map(|_| rank as u16));
        }
        Self { choices, slots }
    }

    #[inline]
    pub(crate) fn pick(&self, rng: &mut Rng) -> &T {
        &self.choices[self.slots[rng.usize(..self.slots.len())] as usize]
    }
}

/// A number below 2^`bits`, small ones more often.
#[inline]
pub(crate) fn skewed_number(rng: &mut Rng, bits: u32) -> u64 {
    let keep = rng.u32(bits / 3..=bits);
    u64::from(rng.u32(..)) & ((1 << keep) - 1)
}
