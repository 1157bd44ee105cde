//! Hostile bytes for a decoder: mutations of what it should take, and noise.
//!
//! Is:     one loop. In `./x test` it gives a fixed number of inputs by seed; under `cargo xtask fuzz` it goes on for as long
//!         as [`SECONDS`] says, from another seed each time, and keeps an input that fails.
//! Owns:   the account of what a target allocates, if the program's allocator is [`Metered`].
//! Never:  needs another compiler; knows what the bytes mean.

use crate::Chance;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long each target runs, in seconds; unset: a fixed number of inputs.
pub const SECONDS: &str = "GOOSEFS_FUZZ_SECONDS";
/// Where the inputs of a long run begin, and where it keeps a failing one.
pub const SEED: &str = "GOOSEFS_FUZZ_SEED";
pub const KEEP: &str = "GOOSEFS_FUZZ_KEEP";
/// Inputs of one target in `./x test`.
const FEW: u64 = 20_000;
/// Longest input made.
const MAX_BYTES: usize = 64 << 10;
/// Mutations of one input, at most.
const MUTATIONS: usize = 6;
/// What a target may ask the allocator for: the room serde makes before it believes a length (1 MiB a list) a few times,
/// and some copies of its input.
const FREE_BYTES: usize = 4 << 20;
const COPIES: usize = 128;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks for.
pub struct Metered;

// SAFETY: every call goes to `System` as it came; the count beside it allocates nothing.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes.saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

fn count(bytes: usize) {
    // A thread that is ending has no account any more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get().saturating_add(bytes)));
}

/// Gives `target` many inputs: mutations of `samples`, which it should take, and noise. It asserts by itself what a decoder
/// may not do: take what nobody writes. It must not panic, nor ask for more memory than the input is worth.
///
/// # Panics
/// At the first input that fails, which it shows, cut down to what is needed to fail.
pub fn fuzz(name: &str, samples: &[Vec<u8>], target: impl Fn(&[u8])) {
    let long = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let began = Instant::now();
    let mut chance =
        Chance::new(name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))));
    for sample in samples {
        check(name, sample, &target);
    }
    let mut given = 0_u64;
    while long.map_or(given < FEW, |limit| began.elapsed() < limit) {
        check(name, &input(samples, &mut chance), &target);
        given += 1;
    }
    if long.is_some() {
        println!("{name}: {given} inputs held");
    }
}

fn check(name: &str, input: &[u8], target: &impl Fn(&[u8])) {
    let Err(why) = attempt(input, target) else { return };
    let input = shorter(input.to_vec(), target);
    let shown = input.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let kept = std::env::var_os(KEEP).map(PathBuf::from).map(|dir| dir.join(format!("{name}.bin")));
    let place = match &kept {
        Some(path) if fs::write(path, &input).is_ok() => format!(", kept in {}", path.display()),
        Some(_) | None => String::new(),
    };
    panic!("{name} fails ({why}) at these {} bytes{place}: {shown}", input.len());
}

/// Runs the target once. Error: why that must not be.
fn attempt(input: &[u8], target: &impl Fn(&[u8])) -> Result<(), String> {
    ASKED.set(0);
    let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
    let asked = ASKED.get();
    if let Err(panic) = ended {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panics");
        return Err(words.to_owned());
    }
    match asked <= FREE_BYTES + COPIES * input.len() {
        true => Ok(()),
        false => Err(format!("it asks for {asked} bytes of memory")),
    }
}

/// Takes away what is not needed to fail: halves, quarters, single bytes.
fn shorter(mut input: Vec<u8>, target: &impl Fn(&[u8])) -> Vec<u8> {
    let mut step = input.len() / 2;
    while step > 0 {
        let mut at = 0;
        while at + step <= input.len() {
            let mut less = input.clone();
            less.drain(at..at + step);
            match attempt(&less, target) {
                Err(_) => input = less,
                Ok(()) => at += step,
            }
        }
        step /= 2;
    }
    input
}

fn input(samples: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    if samples.is_empty() || chance.one_in(16) {
        let length = chance.below(200);
        return (0..length).map(|_| chance.byte()).collect();
    }
    let mut bytes = chance.pick(samples).clone();
    for _ in 0..=chance.below(MUTATIONS) {
        mutate(&mut bytes, samples, chance);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, samples: &[Vec<u8>], chance: &mut Chance) {
    /// Numbers at which lengths and counts go wrong.
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let at = chance.below(bytes.len() + 1);
    match chance.below(8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        2 if at < bytes.len() => bytes[at] = chance.byte(),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, chance.byte()),
        5 => {
            let end = (at + chance.below(32)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let edge = chance.pick(&EDGES).to_le_bytes();
            let width = 1 << chance.below(4);
            let end = (at + width).min(bytes.len());
            let edge = if chance.one_in(2) { edge } else { u64::from_le_bytes(edge).to_be_bytes() };
            bytes[at..end].copy_from_slice(&edge[..end - at]);
        }
        _ => {
            let other = chance.pick(samples);
            let from = chance.below(other.len() + 1);
            let end = (from + chance.below(64)).min(other.len());
            bytes.splice(at..at, other[from..end].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_found_and_its_input_cut_down() {
        let samples = [b"length 12 and so on".to_vec()];
        let target = |input: &[u8]| assert!(!input.contains(&0xff), "no such byte");
        let failed = catch_unwind(AssertUnwindSafe(|| fuzz("planted", &samples, target))).expect_err("it is found");
        let words = failed.downcast_ref::<String>().expect("a sentence");
        assert!(
            words.starts_with("planted fails (no such byte) at these 1 bytes") && words.ends_with(": ff"),
            "{words}"
        );
    }

    #[test]
    fn a_sound_decoder_passes() {
        fuzz("sound", &[vec![1, 2, 3]], |input| assert!(input.len() <= MAX_BYTES));
    }
}
