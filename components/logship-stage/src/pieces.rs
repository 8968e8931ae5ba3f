use crate::Result;

/// Cuts a stream into pieces of one size, whatever the chunks that it comes in: for a stage whose
/// bytes would otherwise depend on where one chunk ends and the next begins.
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
    /// The piece that is not full yet.
    held: Vec<u8>,
}

impl Pieces {
    /// Pieces of `size` bytes, at least one.
    pub fn of(size: usize) -> Self {
        Self { size: size.max(1), held: vec![] }
    }

    /// Takes the next bytes, and calls `piece` with each piece that they fill: straight from
    /// `bytes`, except for one that began in an earlier chunk.
    ///
    /// # Errors
    /// The first that `piece` returns.
    pub fn push(&mut self, mut bytes: &[u8], mut piece: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if !self.held.is_empty() {
            let (begin, behind) = bytes.split_at((self.size - self.held.len()).min(bytes.len()));
            self.held.extend_from_slice(begin);
            if self.held.len() < self.size {
                return Ok(());
            }
            piece(&self.held)?;
            self.held.clear();
            bytes = behind;
        }
        let whole = bytes.chunks_exact(self.size);
        self.held.extend_from_slice(whole.remainder());
        whole.into_iter().try_for_each(piece)
    }

    /// The last piece, shorter than the others; maybe empty.
    pub fn rest(&self) -> &[u8] {
        &self.held
    }
}
