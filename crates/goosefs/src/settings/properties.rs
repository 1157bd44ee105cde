//! Reads `.properties` files the way Java does.
//!
//! Is:     a parser from text to keys, values and the lines they stand on.
//! Owns:   comments, continuation lines and escapes.
//! Never:  opens a file; knows what a key means.

/// One entry and the line it begins on, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// A line that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadLine {
    pub line: usize,
    pub why: &'static str,
}

/// Every entry in order; a later entry of the same key is the caller's to judge.
/// Errors: a `\u` escape without four hexadecimal digits.
pub fn parse(text: &str) -> Result<Vec<Property>, BadLine> {
    let mut found = Vec::new();
    let mut lines = text.split('\n').enumerate();
    while let Some((index, first)) = lines.next() {
        let mut logical = content(first).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(content(next)),
                None => break,
            }
        }
        let line = index + 1;
        let (key, value) = split(&logical);
        let unescape = |text| unescape(text).ok_or(BadLine { line, why: "\\u needs four hexadecimal digits" });
        found.push(Property { line, key: unescape(key)?, value: unescape(value)? });
    }
    Ok(found)
}

fn content(line: &str) -> &str {
    line.trim_end_matches('\r').trim_start_matches([' ', '\t', '\x0c'])
}

/// An odd number of backslashes at the end joins the next line.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The key ends at the first unescaped `=`, `:` or blank.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && matches!(c, '=' | ':' | ' ' | '\t') {
            let rest = line[at..].trim_start_matches([' ', '\t']);
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start_matches([' ', '\t']));
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                if digits.len() != 4 {
                    return None;
                }
                units.push(u16::from_str_radix(&digits, 16).ok()?);
                continue;
            }
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\x0c',
            ('\\', Some(other)) => other,
            ('\\', None) => continue,
            (plain, _) => plain,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).expect("a readable file").into_iter().map(|p| (p.line, p.key, p.value)).collect()
    }

    #[test]
    fn comments_separators_escapes_and_continuations() {
        let text = "# a comment\n! another\n\n a.b = c \r\nport:9200\nbare\nlist = one,\\\n   two,\\\n   three\n\
                    path=C\\:\\\\tmp\\ttab\nsp\\ ace=x\nword\\u00e9=\\ud83d\\ude00\nend=a\\";
        let got = pairs(text);
        let want = [
            (4, "a.b", "c "),
            (5, "port", "9200"),
            (6, "bare", ""),
            (7, "list", "one,two,three"),
            (10, "path", "C:\\tmp\ttab"),
            (11, "sp ace", "x"),
            (12, "wordé", "😀"),
            (13, "end", "a"),
        ];
        let want: Vec<_> = want.map(|(l, k, v)| (l, k.to_owned(), v.to_owned())).into();
        assert_eq!(got, want);
    }

    #[test]
    fn a_broken_escape_names_its_line() {
        assert_eq!(parse("a=1\nb=\\u12"), Err(BadLine { line: 2, why: "\\u needs four hexadecimal digits" }));
    }

    #[test]
    fn fuzz_properties() {
        let samples = ["a.b = c\nport:9200\n", "list = one,\\\n two\n", "word\\u00e9=\\ud83d\\ude00\n# x\n"];
        testkit::fuzz::fuzz("properties", &samples.map(|text| text.as_bytes().to_vec()), |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let lines = text.split('\n').count();
            match parse(&text) {
                Ok(found) => assert!(found.iter().all(|property| (1..=lines).contains(&property.line))),
                Err(bad) => assert!((1..=lines).contains(&bad.line)),
            }
        });
    }
}
