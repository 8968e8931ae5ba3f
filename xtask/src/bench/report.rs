use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Puts each section's text, with the machine it was measured on, between its markers in the file.
/// A file that is missing is made of the sections.
pub(super) fn write(path: &Path, machine: &str, sections: &[(&str, String)]) -> Result<()> {
    let mut text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => empty(sections),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    for (name, section) in sections {
        let section = format!("{machine}\n\n{}", section.trim());
        text = replaced(&text, name, &section).with_context(|| format!("in {}", path.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn empty(sections: &[(&str, String)]) -> String {
    let places = sections.iter().map(|(name, _)| format!("\n{}\n{}\n", begin(name), end(name)));
    format!("# Benchmarks\n\nMeasured by `cargo xtask bench --write`.\n{}", places.collect::<String>())
}

fn begin(name: &str) -> String {
    format!("<!-- {name}: begin -->")
}

fn end(name: &str) -> String {
    format!("<!-- {name}: end -->")
}

fn replaced(text: &str, name: &str, section: &str) -> Result<String> {
    let (begin, end) = (begin(name), end(name));
    let Some((before, rest)) = text.split_once(&begin) else {
        bail!("no place for the tables; put a line `{begin}` and a line `{end}` where they belong");
    };
    let Some((_, after)) = rest.split_once(&end) else {
        bail!("`{begin}` without `{end}` behind it; add that line");
    };
    Ok(format!("{before}{begin}\n{section}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_old_text_only() {
        let sections = [("stages", String::new()), ("ship", String::new())];
        let text = replaced(&empty(&sections), "ship", "old").unwrap();
        let text = replaced(&replaced(&text, "ship", "new").unwrap(), "stages", "others").unwrap();
        assert!(!text.contains("old"));
        assert!(text.contains("<!-- stages: begin -->\nothers\n<!-- stages: end -->"));
        assert!(text.ends_with("<!-- ship: begin -->\nnew\n<!-- ship: end -->\n"), "{text}");
    }

    #[test]
    fn missing_markers_are_named() {
        let error = replaced("# Mine\n", "ship", "").unwrap_err().to_string();
        assert!(error.contains("<!-- ship: begin -->"), "{error}");
    }
}
