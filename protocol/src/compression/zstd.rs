//! zstd frames (KIP-110). Contexts are kept per thread: a fresh one costs a quarter of the time of packing 64 KiB.

use std::cell::RefCell;

use zstd::stream::raw::{Decoder, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::codec::{Compression, CompressionError, first_guess};

const CODEC: Compression = Compression::Zstd;
const DEFAULT_LEVEL: i32 = 3;
/// The default limit of zstd: 128 MiB. Level 22 of the reference uses it.
const MAX_WINDOW_LOG: u32 = 27;
/// A level above it makes contexts of tens of megabytes: not to be kept.
const MAX_KEPT_LEVEL: i32 = 12;
/// A context with a larger window is freed after use, 8 MiB.
const MAX_KEPT_WINDOW: u64 = 8 << 20;

thread_local! {
    static ENCODER: RefCell<Option<(i32, Encoder<'static>)>> = const { RefCell::new(None) };
    static DECODER: RefCell<Option<Decoder<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = level.unwrap_or(DEFAULT_LEVEL);
    if !zstd::compression_level_range().contains(&level) {
        return Err(CompressionError::Level { codec: CODEC, level });
    }
    let kept = ENCODER.take().filter(|(of, _)| *of == level).map(|(_, encoder)| encoder);
    let mut encoder = match kept {
        Some(encoder) => encoder,
        None => Encoder::new(level).map_err(pack)?,
    };
    encoder.reinit().map_err(pack)?;
    encoder.set_pledged_src_size(Some(input.len() as u64)).map_err(pack)?;
    let mut from = InBuffer::around(input);
    loop {
        out.reserve(zstd::zstd_safe::compress_bound(input.len() - from.pos()).min(1 << 20));
        let written = out.len();
        let mut to = OutBuffer::around_pos(out, written);
        if from.pos() < input.len() {
            encoder.run(&mut from, &mut to).map_err(pack)?;
        } else if encoder.finish(&mut to, true).map_err(pack)? == 0 {
            break;
        }
    }
    if level <= MAX_KEPT_LEVEL {
        ENCODER.set(Some((level, encoder)));
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = match DECODER.take() {
        Some(decoder) => decoder,
        None => {
            let mut decoder = Decoder::new().map_err(corrupt)?;
            decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(corrupt)?;
            decoder
        }
    };
    decoder.reinit().map_err(corrupt)?;
    let out = run(&mut decoder, input, limit);
    // After an error the decoder may sit in the middle of a frame of any window: a new one is made next time.
    if out.as_ref().is_ok_and(|out| (out.len() as u64) <= MAX_KEPT_WINDOW) {
        DECODER.set(Some(decoder));
    }
    out
}

fn run(decoder: &mut Decoder<'static>, input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(first_guess(input, limit));
    let mut from = InBuffer::around(input);
    let mut hint = 0;
    loop {
        if out.len() == out.capacity() {
            // One byte past the limit shows that there is more.
            let more = out.len().clamp(512, 64 << 20).min(limit.saturating_sub(out.len()).saturating_add(1));
            out.reserve_exact(more);
        }
        let (read, written) = (from.pos(), out.len());
        let mut to = OutBuffer::around_pos(&mut out, written);
        if from.pos() < input.len() || hint != 0 {
            hint = decoder.run(&mut from, &mut to).map_err(corrupt)?;
        }
        if out.len() > limit {
            return Err(CompressionError::TooLarge { codec: CODEC, limit });
        }
        if from.pos() == input.len() && hint == 0 {
            return Ok(out);
        }
        // Nothing read, nothing written, with room to write: the input is cut.
        if from.pos() == read && out.len() == written && out.len() < out.capacity() {
            return Err(corrupt("the frame is cut"));
        }
    }
}

fn corrupt(reason: impl ToString) -> CompressionError {
    CompressionError::corrupt(CODEC, reason)
}

fn pack(reason: impl ToString) -> CompressionError {
    CompressionError::pack(CODEC, reason)
}
