//! Headers and frames, of which both files consist.
//!
//! A file begins with `magic 8 bytes, version u16, crc32c u32`. Frames follow: `marker u32, length u32, crc32c u32, content`.
//! The checksum covers the frame's position in the file and the content, so that a frame that lies inside another one's
//! content, or where an older file had one, is never mistaken for a frame of this file.

use std::path::Path;

use super::{encode::TooLong, error::MetadataError};

/// The version of both files that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of a file's header.
pub(super) const FILE_HEADER: usize = 14;
/// Bytes of a frame before its content.
pub(super) const FRAME_HEADER: usize = 12;

/// Speeds up the search for sound frames behind damage.
const MARKER: [u8; 4] = *b"EsFr";

/// The header of a new file.
pub(super) fn file_header(magic: [u8; 8]) -> Vec<u8> {
    let mut header = magic.to_vec();
    header.extend(FORMAT_VERSION.to_be_bytes());
    header.extend(crc32c::crc32c(&header).to_be_bytes());
    header
}

/// Refuses a file that is not of this format. `bytes` begins as the file does.
pub(super) fn check_header(magic: [u8; 8], bytes: &[u8], path: &Path) -> Result<(), MetadataError> {
    let damaged = |what: &str| Err(MetadataError::damaged(path, what));
    let Some((header, rest)) = bytes.split_first_chunk::<10>() else { return damaged("its header is cut off") };
    let (name, version) = header.split_at(magic.len());
    if name != magic {
        return if is_outdated(bytes) {
            Err(MetadataError::Outdated { path: path.to_path_buf() })
        } else {
            damaged("it does not begin as such a file does")
        };
    }
    let Some((crc, _)) = rest.split_first_chunk::<4>() else { return damaged("its header is cut off") };
    if crc32c::crc32c(header) != u32::from_be_bytes(*crc) {
        return damaged("its header's checksum does not match");
    }
    match version.first_chunk().map(|version| u16::from_be_bytes(*version)) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(version) if version > FORMAT_VERSION => {
            let what = format!("its format is version {version}, and this Esker reads up to {FORMAT_VERSION}");
            Err(MetadataError::newer(path, what))
        }
        _ => damaged("its header has no valid version"),
    }
}

/// The log of builds before version 1 was `length u32, crc32c u32, content` (little-endian) from the first byte on.
fn is_outdated(bytes: &[u8]) -> bool {
    let first_frame = || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let content = rest.get(..u32::from_le_bytes(*length) as usize).filter(|content| !content.is_empty())?;
        Some(crc32c::crc32c(content) == u32::from_le_bytes(*crc))
    };
    first_frame().unwrap_or(false)
}

fn checksum(position: u64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.to_be_bytes()), content)
}

/// The bytes before `content` in a frame at `position`.
pub(super) fn frame_header(position: u64, content: &[u8]) -> Result<[u8; FRAME_HEADER], TooLong> {
    let mut header = [0; FRAME_HEADER];
    let length = u32::try_from(content.len()).map_err(|_| TooLong)?;
    let fields = MARKER.into_iter().chain(length.to_be_bytes()).chain(checksum(position, content).to_be_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    Ok(header)
}

/// Length and checksum out of a frame's header.
pub(super) fn read_frame_header(header: &[u8; FRAME_HEADER]) -> Option<(usize, u32)> {
    let (marker, rest) = header.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let crc = rest.first_chunk::<4>()?;
    (*marker == MARKER).then_some((u32::from_be_bytes(*length) as usize, u32::from_be_bytes(*crc)))
}

/// Whether `content` is as it was written into the frame at `position`.
pub(super) fn is_sound(position: u64, content: &[u8], crc: u32) -> bool {
    !content.is_empty() && checksum(position, content) == crc
}

/// The content of the frame at `position`, if it is sound, and the position behind it.
pub(super) fn frame_at(file: &[u8], position: usize) -> Option<(&[u8], usize)> {
    let (header, rest) = file.get(position..)?.split_first_chunk::<FRAME_HEADER>()?;
    let (length, crc) = read_frame_header(header)?;
    let content = rest.get(..length)?;
    is_sound(position as u64, content, crc).then_some((content, position + FRAME_HEADER + length))
}

/// The position of the first sound frame behind `position`.
pub(super) fn next_sound(file: &[u8], position: usize) -> Option<usize> {
    (position + 1..file.len()).find(|at| frame_at(file, *at).is_some())
}
