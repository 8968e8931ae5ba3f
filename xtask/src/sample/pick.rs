use fastrand::Rng;

/// A skewed random choice, as of paths, users and browsers. By Zipf's law, rank N has a share proportional to 1/N.
#[derive(Debug)]
pub(crate) struct Skewed<T> {
    choices: Vec<T>,
    /// Indices of choices, repeated by share. Calculated with integers only, for equal bytes on every platform.
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
            let count = (share(rank) * SLOTS as u64 / total).max(1);
            slots.extend((0..count).map(|_| rank as u16));
        }
        Self { choices, slots }
    }

    #[inline]
    pub(crate) fn pick(&self, rng: &mut Rng) -> &T {
        &self.choices[self.slots[rng.usize(..self.slots.len())] as usize]
    }
}

/// Returns a random number below 2^`bits`. Small numbers are more frequent.
#[inline]
pub(crate) fn skewed_number(rng: &mut Rng, bits: u32) -> u64 {
    let keep = rng.u32(bits / 3..=bits);
    u64::from(rng.u32(..)) & ((1 << keep) - 1)
}
