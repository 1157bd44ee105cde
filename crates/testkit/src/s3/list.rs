//! One page of a listing, as a pure function of the keys in order.

use std::collections::BTreeMap;
use std::ops::Bound;

/// S3 returns no more than this at once, whatever is asked for.
pub(super) const MAX_KEYS: usize = 1000;

/// Where a listing goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum After {
    Start,
    /// The first key greater than this one.
    Key(String),
    /// The first key past everything that begins with this common prefix.
    Prefix(String),
}

pub(super) struct Page<'a, T> {
    pub(super) objects: Vec<(&'a str, &'a T)>,
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins; None when this is the last.
    pub(super) next: Option<After>,
}

/// Up to `max` objects and common prefixes of the keys that begin with `prefix`, in byte order. Cost: a search and a
/// step for each, however many keys a common prefix stands for.
pub(super) fn page<'a, T>(
    keys: &'a BTreeMap<String, T>,
    prefix: &str,
    delimiter: Option<&str>,
    after: After,
    max: usize,
) -> Page<'a, T> {
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
    let mut at = after;
    if max == 0 {
        return page;
    }
    while let Some((key, value)) = first(keys, prefix, &at) {
        if page.objects.len() + page.prefixes.len() == max {
            page.next = Some(at);
            break;
        }
        let common = delimiter.filter(|delimiter| !delimiter.is_empty()).and_then(|delimiter| {
            let rest = &key[prefix.len()..];
            rest.find(delimiter).map(|found| &key[..prefix.len() + found + delimiter.len()])
        });
        match common {
            Some(common) => {
                page.prefixes.push(common.to_owned());
                at = After::Prefix(common.to_owned());
            }
            None => {
                page.objects.push((key, value));
                at = After::Key(key.to_owned());
            }
        }
    }
    page
}

/// The first key with `prefix` past `after`.
fn first<'a, T>(keys: &'a BTreeMap<String, T>, prefix: &str, after: &After) -> Option<(&'a str, &'a T)> {
    let found = match after {
        After::Start => keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next(),
        After::Key(key) if key.as_str() < prefix => {
            keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next()
        }
        After::Key(key) => keys.range::<str, _>((Bound::Excluded(key.as_str()), Bound::Unbounded)).next(),
        After::Prefix(common) => {
            // The last character there is: only keys that contain it need the step-by-step part.
            let past = format!("{common}{}", char::MAX);
            let mut rest = keys.range::<str, _>((Bound::Included(past.as_str()), Bound::Unbounded));
            rest.find(|(key, _)| !key.starts_with(common.as_str()))
        }
    };
    found.map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| key.starts_with(prefix))
}

impl After {
    /// The opaque token that clients hand back.
    pub(super) fn to_token(&self) -> Option<String> {
        let (kind, text) = match self {
            After::Start => return None,
            After::Key(key) => ('k', key),
            After::Prefix(prefix) => ('p', prefix),
        };
        Some(format!("{kind}{}", super::index::hex(text.as_bytes())))
    }

    pub(super) fn from_token(token: &str) -> Option<After> {
        let kind = token.get(..1)?;
        let digits = token.get(1..).filter(|digits| digits.len().is_multiple_of(2))?;
        let byte = |index: usize| u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok();
        let text = (0..digits.len() / 2).map(byte).collect::<Option<Vec<u8>>>()?;
        let text = String::from_utf8(text).ok()?;
        match kind {
            "k" => Some(After::Key(text)),
            "p" => Some(After::Prefix(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| ((*name).to_owned(), ())).collect()
    }

    /// All pages of `max` entries; entries in the order they came, prefixes marked by a star.
    fn walk(keys: &BTreeMap<String, ()>, prefix: &str, delimiter: Option<&str>, max: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), After::Start);
        loop {
            let page = page(keys, prefix, delimiter, after, max);
            let mut entries: Vec<String> = page.objects.iter().map(|(key, ())| (*key).to_owned()).collect();
            entries.extend(page.prefixes.iter().map(|prefix| format!("{prefix}*")));
            entries.sort();
            all.extend(entries);
            let Some(next) = page.next else { return all };
            after = After::from_token(&next.to_token().unwrap()).unwrap();
        }
    }

    #[test]
    fn pages_of_any_size_show_the_same() {
        let keys = keys(&["a", "a/", "a/b", "a/b/c", "a/z", "a0", "b/1", "b/\u{10FFFF}x", "c", "ü/x"]);
        for max in 1..12 {
            assert_eq!(walk(&keys, "", Some("/"), max), ["a", "a/*", "a0", "b/*", "c", "ü/*"], "max {max}");
            assert_eq!(walk(&keys, "a/", Some("/"), max), ["a/", "a/b", "a/b/*", "a/z"], "max {max}");
            assert_eq!(walk(&keys, "", None, max).len(), 10, "max {max}");
            assert_eq!(walk(&keys, "a/b", None, max), ["a/b", "a/b/c"], "max {max}");
        }
    }

    #[test]
    fn starts_after_a_key_even_one_before_the_prefix() {
        let keys = keys(&["a", "b/1", "b/2", "c"]);
        let names = |after: &str| -> Vec<String> {
            let page = page(&keys, "b/", None, After::Key(after.into()), 10);
            page.objects.iter().map(|(key, ())| (*key).to_owned()).collect()
        };
        assert_eq!(names("a"), ["b/1", "b/2"]);
        assert_eq!(names("b/1"), ["b/2"]);
        assert_eq!(names("b/2"), [""; 0]);
        assert_eq!(names("z"), [""; 0]);
    }

    #[test]
    fn no_page_without_room_and_no_token_of_another_kind() {
        assert!(page(&keys(&["a"]), "", None, After::Start, 0).next.is_none());
        for bad in ["", "k6", "x61", "kzz", "kff", "ü"] {
            assert_eq!(After::from_token(bad), None, "{bad}");
        }
    }
}
