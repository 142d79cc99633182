//! Units as people write them.

use std::time::Duration;

/// Reads `500ms`, `5s`, `2m`, `1h`, or seconds as a plain number. Bounds: at most 10,000 h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("the unit {unit:?} is none of ms, s, m, h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration; write for example 500ms, 5s, 2m or 1h"))?;
    let seconds = number * seconds;
    if seconds > 36_000_000.0 {
        return Err(format!("{text:?} is longer than 10000h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        for (text, ms) in
            [("500ms", 500), ("5s", 5_000), ("1.5", 1_500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "s", "5d", "-1s", "1e9h", "1..2s", "99999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
