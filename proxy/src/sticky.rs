//! Draws that a user keeps: the same key gives the same draw.
//!
//! The draw is a published hash (XXH64 as in the xxHash specification) and part of Serin's contract: **it is the same on
//! every machine and in every version**, so a restart, an update or a second instance sends nobody to another arm. A
//! change of it would move every sticky user at once. The tests hold the published vectors and our own.
//!
//! It keeps honest users apart, it is no defence: who can choose the key can choose the arm.

/// The draw of `key`, uniform over `u64` for keys that differ. `salt` names the split, so that the same users are not
/// first in every rollout.
pub fn draw(salt: &[u8], key: &[u8]) -> u64 {
    xxh64(key, xxh64(salt, 0))
}

/// XXH64 of `data`. Reads are little-endian on every machine.
fn xxh64(data: &[u8], seed: u64) -> u64 {
    let mut blocks = data.chunks_exact(32);
    let mut hash = if data.len() < 32 {
        seed.wrapping_add(P5)
    } else {
        let start = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
        let lanes = blocks.by_ref().fold(start, |mut lanes, block| {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                *lane = round(*lane, little_endian(word));
            }
            lanes
        });
        let turned = lanes[0].rotate_left(1).wrapping_add(lanes[1].rotate_left(7));
        let turned = turned.wrapping_add(lanes[2].rotate_left(12)).wrapping_add(lanes[3].rotate_left(18));
        lanes.iter().fold(turned, |hash, &lane| (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4))
    };
    hash = hash.wrapping_add(data.len() as u64);
    let mut words = blocks.remainder().chunks_exact(8);
    for word in words.by_ref() {
        hash = (hash ^ round(0, little_endian(word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let mut tail = words.remainder();
    if let Some((half, rest)) = tail.split_at_checked(4) {
        hash = (hash ^ little_endian(half).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        tail = rest;
    }
    for &octet in tail {
        hash = (hash ^ u64::from(octet).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// Of at most eight octets.
fn little_endian(octets: &[u8]) -> u64 {
    octets.iter().rev().fold(0, |word, &octet| word << 8 | u64::from(octet))
}

// The five primes of the specification.
const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_hash(data: &[u8], seed: u64, hash: u64) {
        assert_eq!(xxh64(data, seed), hash, "{data:?} seed {seed}: {:#x}", xxh64(data, seed));
    }

    /// The sample data of the specification's own sanity check: a multiplicative generator, one octet a step.
    fn sanity_data(length: usize) -> Vec<u8> {
        let mut state = 2_654_435_761_u64;
        let mut next = || {
            let octet = (state >> 56) as u8;
            state = state.wrapping_mul(11_400_714_785_074_694_797);
            octet
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn published_vectors_hold() {
        check_hash(b"", 0, 0xEF46_DB37_51D8_E999);
        check_hash(b"a", 0, 0xD24E_C4F1_A98C_6E5B);
        check_hash(b"abc", 0, 0x44BC_2CF5_AD77_0999);
        check_hash(b"I want an unsigned 64-bit seed!", 0, 0xD4CB_0A70_A2B8_C7C1);
        check_hash(b"I want an unsigned 64-bit seed!", 1, 0xCE50_87F1_2470_D961);
        check_hash(b"Nobody inspects the spammish repetition", 0, 0xFBCE_A83C_8A37_8BF1);
    }

    #[test]
    fn published_sanity_vectors_hold() {
        const SEED: u64 = 2_654_435_761;
        check_hash(&sanity_data(0), SEED, 0xAC75_FDA2_929B_17EF);
        check_hash(&sanity_data(1), 0, 0xE934_A84A_DB05_2768);
        check_hash(&sanity_data(1), SEED, 0x5014_6076_43A9_B4C3);
        check_hash(&sanity_data(14), 0, 0x8282_DCC4_994E_35C8);
        check_hash(&sanity_data(14), SEED, 0xC3BD_6BF6_3DEB_6DF0);
        check_hash(&sanity_data(222), 0, 0xB641_AE8C_B691_C174);
        check_hash(&sanity_data(222), SEED, 0x20CB_8AB7_AE10_C14A);
    }

    #[test]
    fn draws_never_change() {
        assert_eq!(draw(b"/host/world", b"user-1"), 0x6C36_B21D_2ADD_02ED);
        assert_eq!(draw(b"/host/world", b"user-2"), 0x894E_1E9E_6018_ADF6);
        assert_eq!(draw(b"", b""), 0xA258_D6EC_1FB5_D95C);
    }

    #[test]
    fn salt_sends_the_same_users_elsewhere() {
        let low = |salt: &[u8]| -> Vec<u32> {
            (0..1_000_u32).filter(|user| draw(salt, &user.to_le_bytes()) < u64::MAX / 10).collect()
        };
        let (one, other) = (low(b"one"), low(b"other"));
        let both = one.iter().filter(|user| other.contains(user)).count();
        assert!((70..130).contains(&one.len()) && (70..130).contains(&other.len()), "{} {}", one.len(), other.len());
        assert!(both < 30, "{both} of a hundred are first twice");
    }
}
