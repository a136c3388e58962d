//! The ways to damage bytes.

use bytes::Bytes;

use crate::random::Random;

const NUMBERS: [i64; 10] = [0, 1, -1, -2, 127, 128, 0x7fff, 0x7fff_ffff, -0x8000_0000, 0x1000_0000];

/// One to four kinds of damage.
pub fn mutate(random: &mut Random, input: &[u8]) -> Bytes {
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            out = random.bytes(8);
        }
        let at = random.below(out.len());
        match random.below(7) {
            0 => out[at] ^= 1 << random.below(8),
            1 => out[at] = random.next() as u8,
            2 => out.truncate(at),
            3 => {
                // A number that a reader may take for a length.
                let number = NUMBERS[random.below(NUMBERS.len())].to_be_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(out.len() - at);
                out[at..at + width].copy_from_slice(&number[8 - width..]);
            }
            4 => {
                let length = random.below(16);
                let more = random.bytes(length);
                out.splice(at..at, more);
            }
            5 => {
                let end = at + random.below(out.len() - at);
                let copy = out[at..end].to_vec();
                out.splice(at..at, copy);
            }
            _ => {
                // Varints that never end, or claim 4 GiB.
                let end = (at + 5).min(out.len());
                out[at..end].fill(0xff);
            }
        }
    }
    out.into()
}
