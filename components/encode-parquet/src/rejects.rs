use logship_stage::Losses;
use logship_stage::columns::Cell;
use logship_stage::escape::json_string;

use crate::{Kind, convert};

/// The values of a block of rows that do not fit their columns.
#[derive(Debug, Default)]
pub(crate) struct Rejects<'k> {
    /// The row, the column's key and the value, in the order of columns.
    found: Vec<(usize, &'k str, Vec<u8>)>,
}

impl<'k> Rejects<'k> {
    /// Finds the values of a column that do not fit, and counts them.
    #[cold]
    pub(crate) fn find<'c>(
        &mut self,
        kind: Kind,
        key: &'k str,
        cells: impl Iterator<Item = Cell<'c>>,
        losses: &mut Losses,
    ) {
        for (row, cell) in cells.enumerate() {
            if let Some(reason) = convert::loss(kind, cell) {
                let value = match cell {
                    Cell::Missing => vec![],
                    Cell::Number(number) => number.to_string().into_bytes(),
                    Cell::Bytes(bytes) => bytes.to_vec(),
                };
                losses.add(key, &value, || reason.into());
                self.found.push((row, key, value));
            }
        }
    }

    /// Returns a JSON object for each row that has such values.
    pub(crate) fn texts(mut self, rows: usize) -> Vec<Option<Vec<u8>>> {
        let mut texts = vec![None; rows];
        self.found.sort_by_key(|(row, ..)| *row);
        for of_row in self.found.chunk_by(|one, next| one.0 == next.0) {
            let members: Vec<_> = of_row
                .iter()
                .map(|(_, key, value)| [json_string(key.as_bytes()), json_string(value)].join(&b':'))
                .collect();
            texts[of_row[0].0] = Some([b"{", &*members.join(&b','), b"}"].concat());
        }
        texts
    }

    /// Returns the cell of a row.
    pub(crate) fn cell(text: &Option<Vec<u8>>) -> Cell<'_> {
        text.as_deref().map_or(Cell::Missing, Cell::Bytes)
    }
}
