//! A small random generator, and the ways to damage bytes.

use bytes::Bytes;

/// xorshift64*: enough for fuzzing, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() >> 11) as usize % end }
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

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
                // A number that somebody may take for a length.
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
