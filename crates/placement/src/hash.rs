//! The hash that clients and servers must agree on.

/// Where (`key`, `index`) falls on the ring: the first half of murmur3 x64 128, seed 0, over 12 little-endian bytes,
/// read as a signed number. `key` is a worker id with `index` a virtual node, or a block id with `index` an attempt.
pub(crate) fn position(key: i64, index: i32) -> i64 {
    let mut bytes = [0u8; 12];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&index.to_le_bytes());
    let both = murmur3::murmur3_x64_128(&mut &bytes[..], 0).expect("reading from memory does not fail");
    let first = u64::try_from(both & u128::from(u64::MAX)).expect("masked to 64 bits");
    first.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn golden_positions_of_the_official_clients() {
        for (key, index, expected) in [
            (1, 0, 8673688779682957586),
            (42, 7, 1969424773395075097),
            (100, 1, -8854681018154386345),
            (-1, 0, 7097917686268154775),
            (0, 0, -6568239567428591645),
            (85429583872, 0, -5867849384608515022),
            (8769479697893324776, 0, -6296241382218419536),
        ] {
            assert_eq!(position(key, index), expected, "({key}, {index})");
        }
    }
}
