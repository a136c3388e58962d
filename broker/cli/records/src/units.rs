//! Bytes, times and counts as people write them.

use std::fmt::Display;
use std::time::Duration;

const UNITS: [(&str, u64); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// A number of bytes above zero: `1000000`, `512K`, `10M`, `1G`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(name, size)| Some((upper.strip_suffix(name)?, *size)));
    let (digits, size) = unit.unwrap_or((&upper, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(size));
    // The broker keeps it as a signed number.
    let bytes = bytes.filter(|bytes| (1..i64::MAX.unsigned_abs()).contains(bytes));
    bytes.ok_or_else(|| "write a number of bytes above 0, such as 1000000, 512K, 10M or 1G".to_owned())
}

/// A count with the words for one and for many: `1 partition lacks`, `2 partitions lack`.
pub fn show_count<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { many })
}

/// A time: `90s`, `30m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit =
        [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, size)));
    let seconds = unit.and_then(|(digits, size)| digits.parse::<u64>().ok()?.checked_mul(size));
    let seconds = seconds.filter(|seconds| (1..=366 * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "write a time such as 90s, 30m or 2h, of a year at most".to_owned())
}

/// Bytes with one decimal of the largest unit that fits.
pub fn show_bytes(bytes: u64) -> String {
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((name, size)) => format!("{:.1} {name}iB", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

/// A time in two units at most.
pub fn show_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        3600.. => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_are_read_and_shown() {
        for (text, bytes) in [("1", 1), ("512K", 512 << 10), ("10m", 10 << 20), (" 1G ", 1 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1", "1T", "K", "1.5M", "9223372036854775807", "99999999999G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "5", "5d", "-5s", "18446744073709551615h", "9999h1"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!([0, 1023, 1536, 5 << 30].map(show_bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        let shown = [59, 61, 7_260].map(|seconds| show_duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["59s", "1m 1s", "2h 1m"]);
    }
}
