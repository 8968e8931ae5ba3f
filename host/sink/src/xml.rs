//! Texts of XML answers.

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;

/// Returns the text of the first element with a name, entities decoded. `None` without such an element, or if the XML
/// ends early.
pub(crate) fn text(xml: &str, name: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    // Messages of some stores are not escaped.
    reader.config_mut().allow_dangling_amp = true;
    let mut found: Option<String> = None;
    let mut depth = 0;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) if found.is_some() || tag.name().as_ref() == name => {
                found.get_or_insert_default();
                depth += 1;
            }
            Event::Empty(tag) if found.is_none() && tag.name().as_ref() == name => {
                return Some(String::new());
            }
            Event::End(_) if found.is_some() => {
                depth -= 1;
                if depth == 0 {
                    return found.map(|text| text.trim().to_owned());
                }
            }
            Event::Text(part) => append(&mut found, &part),
            Event::CData(part) => append(&mut found, &part),
            Event::GeneralRef(entity) => {
                let entity = format!("&{};", &*entity);
                append(&mut found, &unescape(&entity).unwrap_or(entity.as_str().into()));
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

fn append(found: &mut Option<String>, part: &str) {
    if let Some(text) = found {
        text.push_str(part);
    }
}

/// Returns a text as the content of an element.
pub(crate) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_texts_of_elements() {
        let xml = r#"<?xml version="1.0"?><T a="1"><Name>n</Name><S format="Json"><![CDATA[{"a":1}]]></S><E/><X>a &lt; &amp;&#65;</X></T>"#;
        let text = |name| text(xml, name);
        assert_eq!(text("Name").as_deref(), Some("n"));
        assert_eq!(text("S").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(text("E").as_deref(), Some(""));
        assert_eq!(text("X").as_deref(), Some("a < &A"));
        assert_eq!(text("Other"), None);
        assert_eq!(super::text("<a><b>", "b"), None);
        assert_eq!(super::text("{}", "b"), None);
        assert_eq!(super::text("<M>a & b &unknown; c</M>", "M").as_deref(), Some("a & b &unknown; c"));
    }

    #[test]
    fn cdata_holds_any_text() {
        let xml = format!("<Q>{}</Q>", cdata("a ]]> b"));
        assert_eq!(super::text(&xml, "Q").as_deref(), Some("a ]]> b"));
    }
}
