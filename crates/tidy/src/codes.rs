//! Whether each stable code occurs in a test.

use crate::crates::has_word;

/// A code of one of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// How Rust names it: `Refusal::BadJson`.
    pub variant: &'a str,
    /// The number.
    pub number: u16,
    /// The stable name.
    pub name: &'a str,
}

/// Codes that no line of `tests` names by variant, by number as a code, or by name as a code.
#[must_use]
pub fn untested(codes: &[Code<'_>], tests: &[String]) -> Vec<String> {
    let lines: Vec<&str> = tests.iter().flat_map(|text| text.lines()).collect();
    let missing = codes.iter().filter(|code| !lines.iter().any(|line| names(line, **code)));
    missing
        .map(|code| format!("no test names {} ({} {})", code.variant, code.number, code.name))
        .collect()
}

fn names(line: &str, code: Code<'_>) -> bool {
    if has_word(line, code.variant) {
        return true;
    }
    // Numbers below 1000 and words like `limit` mean a code only where the line speaks of codes.
    let lower = line.to_lowercase();
    let of_codes = ["code", "refus", "error", "close"].iter().any(|word| lower.contains(word));
    (code.number >= 1_000 || of_codes) && has_word(line, &code.number.to_string())
        || of_codes && has_word(line, code.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Code<'_> = Code { variant: "Refusal::Limit", number: 121, name: "limit" };
    const SLOW: Code<'_> = Code { variant: "Close::Slow", number: 4_200, name: "slow" };

    fn is_tested(code: Code<'_>, line: &str) -> bool {
        untested(&[code], &[line.to_owned()]).is_empty()
    }

    #[test]
    fn a_code_that_no_test_names_is_found() {
        assert_eq!(untested(&[SLOW], &[]), ["no test names Close::Slow (4200 slow)"]);
        for line in ["let limits = 1210;", "assert_eq!(limit, 121);", "Refusal::LimitOther"] {
            assert!(!is_tested(LIMIT, line), "{line}");
        }
        assert!(!is_tested(SLOW, "a slow reader"));
    }

    #[test]
    fn a_code_counts_by_variant_number_or_name() {
        for line in ["Refusal::Limit,", "assert_eq!(error.code, 121);", "7: refused limit"] {
            assert!(is_tested(LIMIT, line), "{line}");
        }
        for line in ["Close::Slow", "assert_eq!(frame, 4200)", "7: close slow"] {
            assert!(is_tested(SLOW, line), "{line}");
        }
    }
}
