//! gzip (RFC 1952). Kafka reads several members in a row; raw zlib is refused.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::codec::{Compression, CompressionError, first_guess};

const CODEC: Compression = Compression::Gzip;

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = match level {
        None | Some(-1) => flate2::Compression::default(),
        Some(level @ 1..=9) => flate2::Compression::new(level as u32),
        Some(level) => return Err(CompressionError::Level { codec: CODEC, level }),
    };
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(input).and_then(|()| encoder.finish()).map_err(|e| CompressionError::pack(CODEC, e))?;
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(first_guess(input, limit));
    // One byte past the limit shows that there is more.
    let mut decoder = MultiGzDecoder::new(input).take((limit as u64).saturating_add(1));
    decoder.read_to_end(&mut out).map_err(|e| CompressionError::corrupt(CODEC, e))?;
    if out.len() > limit {
        return Err(CompressionError::TooLarge { codec: CODEC, limit });
    }
    Ok(out)
}
