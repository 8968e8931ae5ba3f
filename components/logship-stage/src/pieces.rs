use crate::Result;

/// Cuts a stream into pieces of one size, independent of its chunks. For stages whose output would otherwise depend
/// on the boundaries between chunks.
///
/// ```
/// let mut pieces = logship_stage::Pieces::of(4);
/// let mut seen = vec![];
/// for chunk in ["ab", "cdefghij", "k"] {
///     pieces.push(chunk.as_bytes(), |piece| {
///         seen.push(piece.to_vec());
///         Ok(())
///     })?;
/// }
/// assert_eq!(seen, [b"abcd", b"efgh"]);
/// assert_eq!(pieces.rest(), b"ijk");
/// # Ok::<(), logship_stage::Error>(())
/// ```
#[derive(Debug)]
pub struct Pieces {
    size: usize,
    /// The incomplete piece.
    partial: Vec<u8>,
}

impl Pieces {
    /// Creates pieces of `size` bytes, at least one.
    pub fn of(size: usize) -> Self {
        Self { size: size.max(1), partial: vec![] }
    }

    /// Appends bytes and calls `piece` with each complete piece. Only a piece that began in an earlier chunk is copied;
    /// the others are slices of `bytes`.
    ///
    /// # Errors
    /// The first error that `piece` returns.
    pub fn push(&mut self, mut bytes: &[u8], mut piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if !self.partial.is_empty() {
            let (completing, after) = bytes.split_at((self.size - self.partial.len()).min(bytes.len()));
            self.partial.extend_from_slice(completing);
            if self.partial.len() < self.size {
                return Ok(());
            }
            piece(&self.partial)?;
            self.partial.clear();
            bytes = after;
        }
        let complete = bytes.chunks_exact(self.size);
        self.partial.extend_from_slice(complete.remainder());
        complete.into_iter().try_for_each(piece)
    }

    /// Returns the incomplete last piece; may be empty.
    pub fn rest(&self) -> &[u8] {
        &self.partial
    }
}
