//! The whole page.

use crate::sections::{Section, keys, rules, settings};
use crate::table;

const INTRODUCTION: &str = include_str!("introduction.md");
const RULES: &str = include_str!("rules.md");
const KEYS: &str = include_str!("keys.md");

/// Renders the page.
pub(crate) fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    let parts = [
        ("Settings of the service", None, settings()),
        ("Rules", Some(RULES), rules()),
        ("Access keys", Some(KEYS), keys()),
    ];
    let contents: Vec<_> = parts.iter().map(|(title, _, sections)| contents(title, sections)).collect();
    page += &format!("\n{}", contents.concat());
    for (title, introduction, sections) in parts {
        page += &format!("\n## {title}\n");
        if let Some(introduction) = introduction {
            page += &format!("\n{introduction}");
        }
        for section in &sections {
            page += &render_section(section, &sections);
        }
    }
    page
}

/// Renders the entries of a part in the table of contents.
fn contents(title: &str, sections: &[Section]) -> String {
    let entry = |indent: &str, heading: &str| format!("{indent}- [{heading}](#{})\n", anchor(heading));
    let sections: String = sections.iter().map(|section| entry("  ", section.heading)).collect();
    entry("", title) + &sections
}

/// Returns the anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn render_section(section: &Section, all: &[Section]) -> String {
    let Section { heading, schema, order, example } = section;
    let description = schema["description"].as_str().unwrap_or_default();
    let paragraphs: Vec<_> = description.split("\n\n").map(|text| table::text(&text.into())).collect();
    let link = |name: &str| {
        let starts = [format!("`[{name}]"), format!("`[{name}."), format!("`[rule.{name}]")];
        let found = all.iter().find(|section| starts.iter().any(|start| section.heading.starts_with(start)));
        found.map(|section| anchor(section.heading))
    };
    let (table, example) = (table::render(schema, order, link), example.trim_end());
    format!("\n### {heading}\n\n{}\n\n{table}\n```toml\n{example}\n```\n", paragraphs.join("\n\n"))
}
