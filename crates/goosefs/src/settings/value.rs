//! What a setting's text may be, and what it means.
//!
//! Is:     one parser per kind of value, used for files, variables, `-D` and defaults alike.
//! Owns:   the spelling of sizes, times, switches, ratios and addresses.
//! Never:  knows a key; reads a file.

use std::fmt;
use std::time::Duration;

/// What may stand behind a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A size with base 1024: `64MB`, `1.5GiB`, `1048576`.
    Bytes,
    /// A time: `10s`, `5min`, a bare number is milliseconds, -1 switches off.
    Duration,
    Bool,
    /// A whole number within `[min, max]`.
    Int {
        min: i64,
        max: i64,
    },
    /// A share between 0 and 1.
    Ratio,
    /// A number of 1 or more.
    Factor,
    Text,
    /// A file or directory; `~` is the home directory.
    Path,
    /// Values separated by commas; `~` begins a path in the home directory.
    List,
    /// `host:port` pairs separated by commas.
    Addresses,
    /// One of these words; case is ignored.
    Choice(&'static [&'static str]),
    /// The same for names of classes, before which a package may stand.
    Class(&'static [&'static str]),
}

/// A port a server may listen on; 0 lets the system choose.
pub const PORT: Kind = Kind::Int { min: 0, max: 65_535 };
/// Any count.
pub const COUNT: Kind = Kind::Int { min: 0, max: i64::MAX };

/// A checked value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Bytes(u64),
    /// None: switched off with -1.
    Duration(Option<Duration>),
    Bool(bool),
    Int(i64),
    /// Of a factor, too.
    Ratio(f64),
    Text(String),
    List(Vec<String>),
    Addresses(Vec<(String, u16)>),
}

impl Kind {
    /// The checked value of `text`. Error: what was expected, as the end of a sentence.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let parsed = match self {
            Kind::Bytes => bytes(text).map(Value::Bytes),
            Kind::Duration => duration(text).map(Value::Duration),
            Kind::Bool => switch(text).map(Value::Bool),
            Kind::Int { min, max } => text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Int),
            Kind::Ratio => text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Value::Ratio),
            Kind::Factor => text.parse().ok().filter(|factor| (1.0..=1e9).contains(factor)).map(Value::Ratio),
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Path => Some(Value::Text(expand_home(text))),
            Kind::List => Some(Value::List(items(text).map(expand_home).collect())),
            Kind::Addresses => items(text).map(address).collect::<Option<_>>().map(Value::Addresses),
            Kind::Choice(words) => choice(words, text),
            Kind::Class(words) => choice(words, text.rsplit('.').next().unwrap_or(text)),
        };
        parsed.ok_or_else(|| self.expected())
    }

    /// What a value of this kind looks like: "a size such as 64MB".
    pub fn expected(self) -> String {
        match self {
            Kind::Bytes => "a size such as 64MB, 1.5GB or 1048576 (units B, KB, MB, GB, TB, PB; base 1024)".into(),
            Kind::Duration => {
                "a time such as 500ms, 10s, 5min, 2h or 1d (a bare number is milliseconds, -1 switches off)".into()
            }
            Kind::Bool => "true or false".into(),
            Kind::Int { min, max } => match (min, max) {
                (0, i64::MAX) => "a whole number, 0 or more".into(),
                (min, i64::MAX) => format!("a whole number, {min} or more"),
                (min, max) => format!("a whole number from {min} to {max}"),
            },
            Kind::Ratio => "a number from 0 to 1".into(),
            Kind::Factor => "a number, 1 or more".into(),
            Kind::Text => "a text".into(),
            Kind::Path => "a path".into(),
            Kind::List => "values separated by commas".into(),
            Kind::Addresses => "addresses such as host1:9200,host2:9200".into(),
            Kind::Choice(words) | Kind::Class(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// The kind in one word, for the manual.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Duration => "duration",
            Kind::Bool => "bool",
            Kind::Int { .. } => "int",
            Kind::Ratio => "ratio",
            Kind::Factor => "factor",
            Kind::Text => "string",
            Kind::Path => "path",
            Kind::List => "list",
            Kind::Addresses => "addresses",
            Kind::Choice(_) | Kind::Class(_) => "enum",
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn choice(words: &[&str], text: &str) -> Option<Value> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| Value::Text((*word).to_owned()))
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Splits `12.5MB` into its number and the lower-case unit behind it.
fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// A size in bytes; base 1024, `KB`, `KiB` and `K` are one unit. None when it is no size or exceeds 2⁶³ − 1.
pub fn bytes(text: &str) -> Option<u64> {
    if let Ok(whole) = text.parse::<u64>() {
        return (whole <= i64::MAX.cast_unsigned()).then_some(whole);
    }
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let bytes = number * f64::from(1_u32 << (shift % 30)) * if shift >= 30 { 1_073_741_824.0 } else { 1.0 };
    // The cast saturates and drops a fraction of a byte; the bound keeps both harmless.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes < 9.2e18).then_some(bytes as u64)
}

/// A time; `Some(None)` is -1, switched off. None when it is no time.
pub fn duration(text: &str) -> Option<Option<Duration>> {
    if text == "-1" {
        return Some(None);
    }
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit.as_str() {
        "" | "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "second" | "seconds" => 1000.0,
        "m" | "min" | "minute" | "minutes" => 60_000.0,
        "h" | "hr" | "hour" | "hours" => 3_600_000.0,
        "d" | "day" | "days" => 86_400_000.0,
        _ => return None,
    };
    // A thousand years bound the product, so the conversion cannot panic.
    let ms = number * unit_ms;
    (ms <= 3.2e13).then(|| Some(Duration::from_secs_f64(ms / 1000.0)))
}

/// `host:port`, with `[...]` around an IPv6 host. None without a port.
pub fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(['/', ' ']) {
        return None;
    }
    Some((host.to_owned(), port.parse().ok()?))
}

fn expand_home(text: &str) -> String {
    match (text.strip_prefix('~'), std::env::var("HOME")) {
        (Some(rest), Ok(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => text.to_owned(),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bytes(bytes) => write!(f, "{bytes}"),
            Value::Duration(None) => f.write_str("-1"),
            Value::Duration(Some(time)) => write!(f, "{}ms", time.as_millis()),
            Value::Bool(on) => write!(f, "{on}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Ratio(ratio) => write!(f, "{ratio}"),
            Value::Text(text) => f.write_str(text),
            Value::List(items) => f.write_str(&items.join(",")),
            Value::Addresses(addresses) => {
                let shown: Vec<_> = addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                f.write_str(&shown.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("64MB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("1.5k", Some(1536)),
            ("2GB", Some(2 << 30)),
            ("7TB", Some(7 << 40)),
            ("1PB", Some(1 << 50)),
            ("-1", None),
            ("12 parsecs", None),
            ("9223372036854775808", None),
            ("9999PB", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn bare_times_are_milliseconds_and_minus_one_is_off() {
        for (text, expected_ms) in [
            ("250", Some(Some(250))),
            ("10sec", Some(Some(10_000))),
            ("5min", Some(Some(300_000))),
            ("2h", Some(Some(7_200_000))),
            ("1day", Some(Some(86_400_000))),
            ("0.5s", Some(Some(500))),
            ("-1", Some(None)),
            ("-2", None),
            ("soon", None),
            ("99999999999d", None),
        ] {
            assert_eq!(duration(text).map(|t| t.map(|t| t.as_millis())), expected_ms, "{text}");
        }
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(address("h1:9200"), Some(("h1".into(), 9200)));
        assert_eq!(address("[::1]:9200"), Some(("::1".into(), 9200)));
        assert_eq!(address("h1"), None);
        assert_eq!(address("h1:99999"), None);
        assert_eq!(address(":9200"), None);
    }

    #[test]
    fn a_refusal_says_what_was_expected() {
        assert_eq!(Kind::Bool.parse("yes"), Err("true or false".into()));
        assert_eq!(PORT.parse("70000"), Err("a whole number from 0 to 65535".into()));
        assert_eq!(Kind::Choice(&["LRU", "RANDOM"]).parse("FIFO"), Err("one of LRU, RANDOM".into()));
        assert_eq!(Kind::Choice(&["LRU", "RANDOM"]).parse("lru"), Ok(Value::Text("LRU".into())));
        assert_eq!(
            Kind::Class(&["LRUAnnotator"]).parse("com.example.LRUAnnotator"),
            Ok(Value::Text("LRUAnnotator".into()))
        );
        assert_eq!(Kind::Class(&["LRUAnnotator"]).parse("LRU"), Err("one of LRUAnnotator".into()));
        assert_eq!(Kind::Ratio.parse("1.1"), Err("a number from 0 to 1".into()));
        assert_eq!(Kind::Factor.parse("2.5"), Ok(Value::Ratio(2.5)));
        assert_eq!(Kind::Factor.parse("0.5"), Err("a number, 1 or more".into()));
        assert_eq!(Kind::Factor.parse("NaN"), Err("a number, 1 or more".into()));
    }

    #[test]
    fn fuzz_setting() {
        const KINDS: [Kind; 8] = [
            Kind::Bytes,
            Kind::Duration,
            Kind::Bool,
            Kind::Int { min: 0, max: i64::MAX },
            Kind::Ratio,
            Kind::List,
            Kind::Addresses,
            Kind::Choice(&["ROCKS", "HEAP"]),
        ];
        let samples = ["64MB", "1.5GB", "10s", "-1", "true", "0.5", "a,b", "h:9200,[::1]:9201", "HEAP"];
        testkit::fuzz::fuzz("setting", &samples.map(|text| text.as_bytes().to_vec()), |bytes| {
            let text = String::from_utf8_lossy(bytes);
            for kind in KINDS {
                if let Ok(Value::Int(number)) = kind.parse(&text) {
                    assert!(number >= 0, "bounds hold");
                }
            }
        });
    }
}
