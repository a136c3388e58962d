//! CRC-32C (Castagnoli), the checksum of record batches v2, behind one function so that it can be swapped.

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// Goes on from `crc`, the CRC-32C of the bytes before `bytes`: a batch whose header was changed needs no copy.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, bytes)
}
