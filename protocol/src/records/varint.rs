//! Zigzag varints, as records use them: small signed numbers in one byte.

use super::RecordFault;

/// Reads a number of at most 5 bytes and moves `at` behind it.
#[inline]
pub(super) fn read_i32(bytes: &[u8], at: &mut usize) -> Result<i32, RecordFault> {
    // One byte carries nearly every field of a small record, two a length up to 8 KiB.
    match bytes.get(*at..).unwrap_or_default() {
        [a, ..] if *a < 0x80 => {
            *at += 1;
            Ok(unzigzag(u32::from(*a)))
        }
        [a, b, ..] if *b < 0x80 => {
            *at += 2;
            Ok(unzigzag(u32::from(a & 0x7f) | u32::from(*b) << 7))
        }
        _ => read_i32_long(bytes, at),
    }
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[cold]
fn read_i32_long(bytes: &[u8], at: &mut usize) -> Result<i32, RecordFault> {
    let mut value: u32 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let b = *bytes.get(*at).ok_or(RecordFault::Truncated)?;
        *at += 1;
        value |= u32::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Ok(unzigzag(value));
        }
    }
    Err(RecordFault::Varint)
}

/// Reads a number of at most 10 bytes and moves `at` behind it.
#[inline]
pub(super) fn read_i64(bytes: &[u8], at: &mut usize) -> Result<i64, RecordFault> {
    match bytes.get(*at) {
        Some(&b) if b < 0x80 => {
            *at += 1;
            Ok(i64::from(b >> 1) ^ -i64::from(b & 1))
        }
        _ => read_i64_long(bytes, at),
    }
}

fn read_i64_long(bytes: &[u8], at: &mut usize) -> Result<i64, RecordFault> {
    let mut value: u64 = 0;
    let mut shift = 0;
    while shift < 70 {
        let b = *bytes.get(*at).ok_or(RecordFault::Truncated)?;
        *at += 1;
        value |= u64::from(b & 0x7f).wrapping_shl(shift);
        if b < 0x80 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
    }
    Err(RecordFault::Varint)
}

pub(super) fn write_i32(out: &mut Vec<u8>, value: i32) {
    write_i64(out, i64::from(value));
}

pub(super) fn write_i64(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that a number takes (32-bit values take the same either way).
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
