use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Writes each section, with the machine's description, between its markers in the file. Creates the file if it is
/// missing.
pub(super) fn write(path: &Path, machine: &str, sections: &[(&str, String)]) -> Result<()> {
    let mut text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => template(sections),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    for (name, section) in sections {
        let section = format!("{machine}\n\n{}", section.trim());
        text = replace_section(&text, name, &section).with_context(|| format!("in {}", path.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn template(sections: &[(&str, String)]) -> String {
    let markers = sections.iter().map(|(name, _)| format!("\n{}\n{}\n", begin(name), end(name)));
    format!("# Benchmarks\n\nMeasured by `cargo xtask bench --write`.\n{}", markers.collect::<String>())
}

fn begin(name: &str) -> String {
    format!("<!-- {name}: begin -->")
}

fn end(name: &str) -> String {
    format!("<!-- {name}: end -->")
}

fn replace_section(text: &str, name: &str, section: &str) -> Result<String> {
    let (begin, end) = (begin(name), end(name));
    let Some((before, rest)) = text.split_once(&begin) else {
        bail!("the markers are missing: add a line `{begin}` and a line `{end}` where the tables belong");
    };
    let Some((_, after)) = rest.split_once(&end) else {
        bail!("`{begin}` has no `{end}` after it: add that line");
    };
    Ok(format!("{before}{begin}\n{section}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_the_given_section() {
        let sections = [("stages", String::new()), ("ship", String::new())];
        let text = replace_section(&template(&sections), "ship", "old").unwrap();
        let text =
            replace_section(&replace_section(&text, "ship", "new").unwrap(), "stages", "others").unwrap();
        assert!(!text.contains("old"));
        assert!(text.contains("<!-- stages: begin -->\nothers\n<!-- stages: end -->"));
        assert!(text.ends_with("<!-- ship: begin -->\nnew\n<!-- ship: end -->\n"), "{text}");
    }

    #[test]
    fn error_names_missing_markers() {
        let error = replace_section("# Mine\n", "ship", "").unwrap_err().to_string();
        assert!(error.contains("<!-- ship: begin -->"), "{error}");
    }
}
