use comfy_table::{CellAlignment, Table, presets};

/// Renders a table as text, one line a row. Columns of numbers are aligned right.
pub(crate) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let is_number = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit());
    let numbers: Vec<bool> = (0..header.len())
        .map(|column| column > 0 && rows.iter().all(|row| is_number(&row[column])))
        .collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers[index] {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
