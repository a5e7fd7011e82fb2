//! Comma-separated values as RFC 4180 has them, with the line ends of this system's tools.
#![forbid(unsafe_code)]

/// Returns a header line and a line per row.
#[must_use]
pub fn render<R: IntoIterator<Item = Vec<String>>>(header: &[&str], rows: R) -> String {
    let mut text = header.join(",") + "\n";
    for row in rows {
        let fields: Vec<String> = row.iter().map(|field| quoted(field)).collect();
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Reads what [`render`] wrote: a list of fields per line, the header's first.
///
/// # Errors
///
/// Says what is no such text: a quote that is not closed, or one in the middle of a field.
pub fn parse(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut lines = Vec::new();
    let (mut line, mut field) = (Vec::new(), String::new());
    let mut letters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(letter) = letters.next() {
        match (letter, is_quoted) {
            ('"', true) if letters.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', true) => is_quoted = false,
            ('"', false) if field.is_empty() => is_quoted = true,
            ('"', false) => return Err(format!("a quote within the field \"{field}\"")),
            (',', false) => line.push(std::mem::take(&mut field)),
            ('\n', false) => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            (other, _) => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote is not closed".to_owned());
    }
    if !field.is_empty() || !line.is_empty() {
        line.push(field);
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let rows = vec![
            vec!["plain".to_owned(), String::new(), "1.5".to_owned()],
            vec!["a,b".to_owned(), "\"q\"".to_owned(), "two\nlines".to_owned()],
        ];
        let text = render(&["x", "y", "z"], rows.clone());
        assert!(
            text.starts_with("x,y,z\nplain,,1.5\n\"a,b\",\"\"\"q\"\"\",\"two\nlines\"\n"),
            "{text}"
        );
        let read = parse(&text).expect("it was just written");
        assert_eq!(read[0], ["x", "y", "z"]);
        assert_eq!(read[1..], rows);
    }

    #[test]
    fn text_that_is_none_is_refused() {
        assert!(parse("a,\"b").is_err());
        assert!(parse("a,b\"c\n").is_err());
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(
            parse("a,b"),
            Ok(vec![vec!["a".to_owned(), "b".to_owned()]]),
            "no line end at the end"
        );
    }
}
