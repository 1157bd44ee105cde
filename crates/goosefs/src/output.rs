//! How values look on a terminal.
//!
//! Is:     pure formatting: sizes, times, columns, percentages.
//! Owns:   the layouts that scripts may have learnt to read.
//! Never:  prints, asks a server.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;
use types::UnixMs;

/// Sizes up to this many units stay in the smaller unit, so that 4.9 KB is not 0.00 MB.
const KEPT_UNITS: f64 = 5.0;

/// `512B`, `5120B`, `5.50KB`, `64.00MB`: base 1024, the next unit beyond five of it.
pub fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // two decimals are shown
    let mut number = bytes as f64;
    if number <= KEPT_UNITS * 1024.0 {
        return format!("{bytes}B");
    }
    for unit in ["KB", "MB", "GB", "TB"] {
        number /= 1024.0;
        if number <= KEPT_UNITS * 1024.0 {
            return format!("{number:.2}{unit}");
        }
    }
    format!("{:.2}PB", number / 1024.0)
}

/// A size as `size` shows it if `human`, else its plain bytes.
pub fn size_or_bytes(bytes: u64, human: bool) -> String {
    if human { size(bytes) } else { bytes.to_string() }
}

/// Months first, then the time to the millisecond: `11-22-2026 19:17:39:123`.
pub fn time(at: UnixMs, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(instant) => {
            let local = instant.to_zoned(zone.clone());
            format!("{}:{:03}", local.strftime("%m-%d-%Y %H:%M:%S"), at.0.rem_euclid(1000))
        }
        // Beyond the calendar: show what was stored.
        Err(_) => format!("{} ms", at.0),
    }
}

/// `1 day(s), 2 hour(s), 3 minute(s), and 4 second(s)`.
pub fn uptime(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days} day(s), {hours} hour(s), {minutes} minute(s), and {} second(s)", seconds % 60)
}

/// `part` of `whole` in hundredths, rounded down; 100 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 100;
    }
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).expect("a part is not larger than 2^64 times its whole")
}

/// Left-aligned columns, two blanks apart, as wide as their widest cell; nothing behind the last cell of a line.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = width(column).unwrap_or(0) + 2;
            line.push_str(&format!("{cell:<pad$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_unit_that_says_most() {
        for (bytes, shown) in [
            (0, "0B"),
            (5120, "5120B"),
            (5632, "5.50KB"),
            (64 << 20, "64.00MB"),
            (5 << 30, "5120.00MB"),
            (10 << 30, "10.00GB"),
            (117 << 40, "117.00TB"),
            (6 << 50, "6.00PB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn times_are_months_first_with_milliseconds_behind_a_colon() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(time(UnixMs(1_763_838_000_007), &zone), "11-23-2025 03:00:00:007");
        assert_eq!(time(UnixMs(i64::MAX), &zone), "9223372036854775807 ms");
        assert_eq!(uptime(Duration::from_secs(93_784)), "1 day(s), 2 hour(s), 3 minute(s), and 4 second(s)");
    }

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = [["a", "bbb", "c"], ["aaaa", "b", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a     bbb  c\naaaa  b\n");
    }

    #[test]
    fn percentages_round_down() {
        assert_eq!([percent(0, 0), percent(1, 3), percent(99, 100), percent(7, 7)], [100, 33, 99, 100]);
    }
}
