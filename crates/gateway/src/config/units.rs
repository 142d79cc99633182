//! Sizes and times as the configuration writes them. No unit is ever guessed but bytes.

/// Reads a number of bytes: `65536`, `64 KiB`, `1MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Reads a time with its unit, as milliseconds: `500ms`, `5s`, `2m`, `1h`.
pub(crate) fn millis(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Writes bytes in the largest unit that fits exactly.
pub(super) fn show_bytes(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} B"), |(size, name)| format!("{} {name}", bytes / size))
}

/// Writes milliseconds in the largest unit that fits exactly.
pub(super) fn show_millis(ms: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.into_iter().find(|(size, _)| ms >= *size && ms.is_multiple_of(*size));
    unit.map_or_else(|| format!("{ms}ms"), |(size, name)| format!("{}{name}", ms / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, size, shown) in [
            ("0", 0, "0 B"),
            ("65536", 65_536, "64 KiB"),
            ("64 KiB", 65_536, "64 KiB"),
            ("64KiB", 65_536, "64 KiB"),
            (" 1 MiB ", 1 << 20, "1 MiB"),
            ("1025 B", 1_025, "1025 B"),
            ("2 GiB", 2 << 30, "2 GiB"),
            ("1 TiB", 1 << 40, "1 TiB"),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
            assert_eq!(show_bytes(size), shown);
        }
        for text in ["", "KiB", "64 KB", "64 kib", "-1", "1.5 MiB", "1 KiB 1", "99999999999 TiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_and_written_with_their_unit() {
        for (text, ms, shown) in [
            ("0s", 0, "0ms"),
            ("500ms", 500, "500ms"),
            ("5s", 5_000, "5s"),
            ("5 s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
        ] {
            assert_eq!(millis(text), Some(ms), "{text}");
            assert_eq!(show_millis(ms), shown);
        }
        for text in ["", "5", "s", "5d", "-5s", "1.5s", "5S", "99999999999999999999h"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
