//! Times as they are typed: ISO 8601, or a span before now.

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;

/// What a time may look like, for messages.
pub const TIMES: &str = "2026-11-29T10:00:00Z, -1h (also ms, s, m, d), @MILLISECONDS";

/// Milliseconds since 1970 of the wall clock.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 of a time: `@MS`, `-30m` before `now`, or ISO 8601 (UTC where no zone is given).
pub fn parse_time(text: &str, now: i64) -> Option<i64> {
    if let Some(millis) = text.strip_prefix('@') {
        return digits(millis);
    }
    match text.strip_prefix('-') {
        Some(span) => now.checked_sub(parse_span(span)?).map(|at| at.max(0)),
        None => parse_iso(text),
    }
}

/// Milliseconds of a span: `500ms`, `90s`, `30m`, `1h`, `7d`.
pub fn parse_span(text: &str) -> Option<i64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(unit_at)?;
    let unit = match unit {
        "ms" => 1,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        _ => return None,
    };
    digits(count)?.checked_mul(unit)
}

/// Milliseconds since 1970 of the Date header of HTTP: `Sun, 29 Nov 2026 12:06:02 GMT`.
pub fn parse_http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.strip_suffix(" GMT")?.split(' ');
    let (_, day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month)?.1;
    let days = days_since_1970(digits(year)?, month, two(day)?)?;
    Some(days * DAY + parse_clock(clock)?)
}

fn parse_iso(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let days = days_since_1970(digits(year)?, two(month)?, two(day)?)?;
    let (clock, zone) = split_zone(clock)?;
    Some(days * DAY + parse_clock(clock)? - zone)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; none before 1970 or for a day that the month does not have.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |month: i64| match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || !(1..=12).contains(&month) || !(1..=length(month)).contains(&day) {
        return None;
    }
    let years: i64 = (1970..year).map(|year| 365 + i64::from(leap(year))).sum();
    Some(years + (1..month).map(length).sum::<i64>() + day - 1)
}

/// A clock without its zone, and the zone's distance from UTC.
fn split_zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(utc) = clock.strip_suffix(['Z', 'z']) {
        return Some((utc, 0));
    }
    let Some(at) = clock.rfind(['+', '-']) else { return Some((clock, 0)) };
    let (clock, zone) = clock.split_at_checked(at)?;
    let (sign, zone) = zone.split_at_checked(1)?;
    let (hours, minutes) = zone.split_once(':')?;
    let distance = below(two(hours)?, 24)? * 3600 + below(two(minutes)?, 60)? * 60;
    Some((clock, if sign == "-" { -distance * SECOND } else { distance * SECOND }))
}

/// Milliseconds since midnight of `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff`.
fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let (seconds, fraction) = match parts.next() {
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
        None => ("00", "0"),
    };
    if parts.next().is_some() || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis = digits(&format!("{fraction:0<3}").chars().take(3).collect::<String>())?;
    let seconds = below(two(hours)?, 24)? * 3600 + below(two(minutes)?, 60)? * 60 + below(two(seconds)?, 60)?;
    Some(seconds * SECOND + millis)
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn two(text: &str) -> Option<i64> {
    if text.len() == 2 { digits(text) } else { None }
}

fn below(number: i64, limit: i64) -> Option<i64> {
    (number < limit).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_kinds() {
        for (text, millis) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:01Z", 86_401_000),
            ("2026-11-29T10:00:00Z", 1_795_946_400_000),
            ("2026-11-29 10:00", 1_795_946_400_000),
            ("2026-11-29T12:00:00.25+02:00", 1_795_946_400_250),
            ("2024-02-29T05:30:00-04:30", 1_709_200_800_000),
            ("@5", 5),
            ("-1h", 6_400_000),
            ("-30m", 8_200_000),
            ("-2s", 9_998_000),
            ("-7d", 0),
        ] {
            assert_eq!(parse_time(text, 10_000_000), Some(millis), "{text}");
        }
    }

    #[test]
    fn dates_of_http() {
        assert_eq!(parse_http_date("Sun, 29 Nov 2026 10:00:00 GMT"), Some(1_795_946_400_000));
        for text in
            ["", "GMT", "Sun, 29 Nov 2026 10:00:00", "Sun, 29 Nun 2026 10:00:00 GMT", "Sun, 32 Nov 2026 10:00:00 GMT"]
        {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "@",
            "-",
            "-5",
            "-h",
            "-1y",
            "-99999999999999999d",
            "yesterday",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "2026-11-29T24:00",
            "2026-11-29T10",
            "2026-11-29T10:00:00.Z",
            "2026-11-29T10:00:00+2",
            "26-11-29",
            "1969-12-31",
        ] {
            assert_eq!(parse_time(text, 0), None, "{text}");
        }
    }
}
