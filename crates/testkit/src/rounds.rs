//! How often a random test repeats.

/// `few` in `./x test`, what `GOOSEFS_TEST_ROUNDS` says at night.
pub fn rounds(few: u64) -> u64 {
    std::env::var("GOOSEFS_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}
