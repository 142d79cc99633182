//! Time as an argument: the pure crates never read a clock, whoever calls them says what time it is.

/// One instant, as the caller's clocks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic. Units: milliseconds since an arbitrary start; what deadlines are made of.
    pub mono_ms: u64,
    /// Wall clock. Units: milliseconds since the Unix epoch; what timestamps and token checks are made of.
    pub unix_ms: u64,
}

/// Writes a wall-clock time as the seed does: `2024-01-15T10:30:00.000Z`.
#[must_use]
pub fn iso8601(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days to a civil date, counted from 0000-03-01 in eras of 400 years (146,097 days).
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms_of_day / 1_000, ms_of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Reads a wall-clock time that [`is_iso8601`]; what is finer than a millisecond is dropped. `None`: it is none, or lies
/// before 1970. Units: milliseconds since the Unix epoch.
#[must_use]
pub fn unix_ms(text: &str) -> Option<u64> {
    if !is_iso8601(text) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // A civil date to days, counted from 0000-03-01: the inverse of `iso8601`.
    let year_from_march = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let era = year_from_march.div_euclid(400);
    let year_of_era = year_from_march.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let minutes = (days * 24 + number(11, 13)?) * 60 + number(14, 16)?;
    let rest = text.get(19..)?;
    let zone = rest.get(rest.find(['Z', 'z', '+', '-'])?..)?;
    let ahead = match zone.get(1..3).zip(zone.get(4..6)) {
        Some((hours, minutes)) => hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?,
        None => 0,
    };
    let minutes = if zone.starts_with('-') { minutes + ahead } else { minutes - ahead };
    let digits = rest.strip_prefix('.').unwrap_or_default().bytes();
    let digits = digits.take_while(u8::is_ascii_digit).map(|digit| i64::from(digit - b'0'));
    let ms: i64 = digits.zip([100, 10, 1]).map(|(digit, unit)| digit * unit).sum();
    u64::try_from((minutes * 60 + number(17, 19)?) * 1_000 + ms).ok()
}

/// Whether a peer's text is an ISO 8601 date and time with a zone (`Z` or `±hh:mm`), seconds and any fraction.
///
/// Bounds: at most 40 bytes. Source: the native seed's `timestamp`; RFC 3339 5.6.
#[must_use]
pub fn is_iso8601(text: &str) -> bool {
    let Some((date, rest)) = text.split_once(['T', 't']) else { return false };
    if text.len() > 40 || !text.is_ascii() {
        return false;
    }
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let zone = zone.strip_prefix(['+', '-']).map_or_else(
        || zone.eq_ignore_ascii_case("z"),
        |offset| numbers(offset, ':', &[(2, 0, 23), (2, 0, 59)]),
    );
    numbers(date, '-', &[(4, 0, 9_999), (2, 1, 12), (2, 1, 31)])
        && numbers(clock, ':', &[(2, 0, 23), (2, 0, 59), (2, 0, 60)])
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && zone
}

/// Whether `text` is numbers of these widths and ranges between separators.
fn numbers(text: &str, separator: char, parts: &[(usize, u32, u32)]) -> bool {
    let mut found = text.split(separator);
    parts.iter().all(|&(width, low, high)| {
        found.next().is_some_and(|part| {
            part.len() == width
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && part.parse().is_ok_and(|value: u32| (low..=high).contains(&value))
        })
    }) && found.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_written_right() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_826_200_123, "2000-02-29T12:10:00.123Z"),
            (1_705_314_600_000, "2024-01-15T10:30:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601(unix_ms), expected);
            assert!(is_iso8601(expected));
            assert_eq!(super::unix_ms(expected), Some(unix_ms));
        }
    }

    #[test]
    fn what_is_written_of_any_day_is_read_again() {
        for day in 0..160_000 {
            let at = day * 86_400_000 + day * 541 % 86_400_000;
            assert_eq!(unix_ms(&iso8601(at)), Some(at), "{}", iso8601(at));
        }
    }

    #[test]
    fn zones_and_fractions_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("1970-01-01t00:00:01.2z", Some(1_200)),
            ("1970-01-01T00:00:01.2349999Z", Some(1_234)),
            ("1970-01-01T02:30:01.05+02:30", Some(1_050)),
            ("1969-12-31T22:00:01-02:00", Some(1_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)),
            ("1970-01-01T00:59:59+01:00", None),
            ("1969-12-31T23:59:59.999Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2024-01-15", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn only_whole_timestamps_with_a_zone_are_valid() {
        for text in ["2024-01-15T10:30:00Z", "2024-01-15T10:30:00.5+02:00", "2024-01-15t10:30:60z"]
        {
            assert!(is_iso8601(text), "{text}");
        }
        for text in [
            "",
            "now",
            "2024-01-15",
            "2024-01-15T10:30:00",
            "2024-13-15T10:30:00Z",
            "2024-01-15T10:30Z",
            "2024-01-15T10:30:00.Z",
            "2024-01-15T10:30:00+2",
            "T",
            "é-01-15T10:30:00Z",
        ] {
            assert!(!is_iso8601(text), "{text}");
        }
    }
}
