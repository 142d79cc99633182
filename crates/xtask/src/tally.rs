//! Sums of tests, and how they are read from what test programs print. Runs nothing.

/// How many checks held and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Checks that held.
    pub(crate) passed: u64,
    /// Checks that did not, and programs that broke before they could say.
    pub(crate) failed: u64,
}

impl Tally {
    /// One check that did not hold.
    pub(crate) const ONE_FAILED: Self = Self { passed: 0, failed: 1 };

    /// One check: held, or not.
    pub(crate) const fn one(held: bool) -> Self {
        if held { Self { passed: 1, failed: 0 } } else { Self::ONE_FAILED }
    }

    /// Both sums together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// What holds once the program has ended: badly without a failed check is a failure (it did not compile, it died).
    pub(crate) const fn ended(self, well: bool) -> Self {
        if well || self.failed > 0 { self } else { self.plus(Self::ONE_FAILED) }
    }

    /// The line every test program of this repository ends with.
    pub(crate) fn line(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    /// Reads `N passed, N failed`, the last line of a script.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (passed, rest) = line.trim().split_once(" passed, ")?;
        let failed = rest.strip_suffix(" failed")?;
        Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }

    /// Reads cargo's `test result: ok. 3 passed; 0 failed; ..`.
    pub(crate) fn from_cargo(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split(';') {
            match count.trim().split_once(' ') {
                Some((number, "passed")) => tally.passed = number.parse().ok()?,
                Some((number, "failed")) => tally.failed = number.parse().ok()?,
                Some(_) | None => {}
            }
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_result_lines_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(Tally::from_cargo(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(Tally::from_cargo("test codes::tables ... ok"), None);
    }

    #[test]
    fn a_tally_reads_its_own_line_and_no_other() {
        let tally = Tally { passed: 7, failed: 2 };
        assert_eq!(Tally::from_line(&tally.line()), Some(tally));
        assert_eq!(Tally::from_line("7 passed, 2 failed, 1 skipped"), None);
        assert_eq!(Tally::from_line("all passed"), None);
    }
}
