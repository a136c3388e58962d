use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const LIMIT: usize = 64 << 20;

fn pack(codec: Compression, input: &[u8]) -> Bytes {
    let mut out = Vec::new();
    compress(codec, None, input, &mut out).unwrap();
    out.into()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

#[test]
fn every_codec_gives_back_what_it_took() {
    let text = "the quick brown fox ".repeat(50_000);
    for codec in Compression::ALL {
        for size in [0, 1, 100, 32 << 10, (32 << 10) + 1, 64 << 10, (64 << 10) + 1, text.len()] {
            let input = &text.as_bytes()[..size];
            assert_eq!(decompress(codec, &pack(codec, input), LIMIT).unwrap(), input, "{codec} {size}");
        }
    }
}

#[test]
fn a_limit_is_exact() {
    let input = vec![7; 1_000_000];
    for codec in CODECS {
        let packed = pack(codec, &input);
        assert_eq!(decompress(codec, &packed, input.len()).unwrap().len(), input.len(), "{codec}");
        let error = CompressionError::TooLarge { codec, limit: input.len() - 1 };
        assert_eq!(decompress(codec, &packed, input.len() - 1), Err(error), "{codec}");
        assert_eq!(decompress(codec, &packed, 0), Err(CompressionError::TooLarge { codec, limit: 0 }), "{codec}");
    }
}

#[test]
fn levels_are_checked() {
    for (codec, good, bad) in [
        (Compression::Gzip, vec![-1, 1, 9], vec![0, 10, -2]),
        (Compression::Lz4, vec![1, 17], vec![0, 18]),
        (Compression::Zstd, vec![-5, 1, 3, 19], vec![23]),
    ] {
        for level in good {
            let mut out = Vec::new();
            compress(codec, Some(level), &[1; 10_000], &mut out).unwrap();
            assert_eq!(decompress(codec, &out.into(), LIMIT).unwrap(), [1; 10_000].as_slice(), "{codec} {level}");
        }
        for level in bad {
            let result = compress(codec, Some(level), b"x", &mut Vec::new());
            assert_eq!(result, Err(CompressionError::Level { codec, level }));
        }
    }
}

#[test]
fn foreign_framings_are_read() {
    // One raw snappy block, as librdkafka and Go send it.
    let raw = snap::raw::Encoder::new().compress_vec(&[9; 100_000]).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw.into(), LIMIT).unwrap(), [9; 100_000].as_slice());
    // Two gzip members, and two zstd frames, in a row.
    for codec in [Compression::Gzip, Compression::Zstd] {
        let two = [pack(codec, b"one "), pack(codec, b"two")].concat();
        assert_eq!(decompress(codec, &two.into(), LIMIT).unwrap(), b"one two".as_slice(), "{codec}");
    }
    // Raw zlib is no gzip.
    let zlib = unhex("789c4b4c4a060002 4d0127".replace(' ', "").as_str());
    assert!(matches!(decompress(Compression::Gzip, &zlib, LIMIT), Err(CompressionError::Corrupt { .. })));
}

#[test]
fn lz4_frames_follow_kafkas_rules() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let input: Vec<u8> = (0..300_000_u32).map(|n| (n / 7) as u8).collect();
    let frame = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&input).unwrap();
        Bytes::from(encoder.finish().unwrap())
    };
    let base = || FrameInfo::new().block_mode(BlockMode::Independent);
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for info in [
            base().block_size(size),
            base().block_size(size).block_checksums(true),
            base().block_size(size).content_checksum(true),
            base().block_size(size).content_size(Some(input.len() as u64)),
        ] {
            assert_eq!(decompress(Compression::Lz4, &frame(info), LIMIT).unwrap(), input);
        }
    }
    let linked = frame(FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked));
    assert!(matches!(decompress(Compression::Lz4, &linked, LIMIT), Err(CompressionError::Corrupt { .. })));
    // A wrong block checksum, a wrong header checksum.
    let mut bad = frame(base().block_size(BlockSize::Max64KB).block_checksums(true)).to_vec();
    bad[20] ^= 1;
    assert!(decompress(Compression::Lz4, &bad.into(), LIMIT).is_err());
    let mut bad = pack(Compression::Lz4, &input).to_vec();
    bad[6] ^= 1;
    assert!(decompress(Compression::Lz4, &bad.clone().into(), LIMIT).is_err());
    assert_eq!(decompress_with(Compression::Lz4, &bad.into(), LIMIT, HeaderChecksum::Legacy).unwrap(), input);
}

#[test]
fn our_lz4_frame_is_one_that_other_readers_take() {
    use std::io::Read;
    let input = vec![3; 200_000];
    for input in [&input[..], b""] {
        let mut out = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&pack(Compression::Lz4, input)[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, input);
    }
}

#[test]
fn lengths_that_lie_are_refused_without_room_for_them() {
    // A raw snappy block that claims 4 GiB, and a zstd frame that claims 1 GiB of content.
    let snappy = unhex("ffffffff0f00");
    assert!(matches!(decompress(Compression::Snappy, &snappy, usize::MAX), Err(CompressionError::Corrupt { .. })));
    let zstd = unhex("28b52ffda00000004001000001");
    assert!(decompress(Compression::Zstd, &zstd, 1 << 30).is_err());
}

proptest! {
    #[test]
    fn any_bytes_round_trip(input in proptest::collection::vec(any::<u8>(), 0..5000), repeat in 1..50_usize) {
        let input = input.repeat(repeat);
        for codec in CODECS {
            prop_assert_eq!(&decompress(codec, &pack(codec, &input), LIMIT).unwrap(), &input);
        }
    }

    #[test]
    fn garbage_never_panics_and_never_passes_the_limit(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let input = Bytes::from(input);
        for codec in CODECS {
            for head in [&[][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82], &[0x1f, 0x8b, 8, 0],
                b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"] {
                let data = Bytes::from([head, &input[..]].concat());
                if let Ok(out) = decompress(codec, &data, 10_000) {
                    prop_assert!(out.len() <= 10_000);
                }
            }
        }
    }

    #[test]
    fn cut_or_flipped_data_never_panics(cut in 0..2000_usize, bit in 0..16_000_usize) {
        let text = "the quick brown fox jumps over the lazy dog; ".repeat(100);
        for codec in CODECS {
            let packed = pack(codec, text.as_bytes());
            let cut = packed.slice(..cut.min(packed.len()));
            if let Ok(out) = decompress(codec, &cut, LIMIT) {
                prop_assert!(text.as_bytes().starts_with(&out));
            }
            let mut flipped = packed.to_vec();
            let at = bit / 8 % flipped.len();
            flipped[at] ^= 1 << (bit % 8);
            if let Ok(out) = decompress(codec, &flipped.into(), 1 << 20) {
                prop_assert!(out.len() <= 1 << 20);
            }
        }
    }
}
