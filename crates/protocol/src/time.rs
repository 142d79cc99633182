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
