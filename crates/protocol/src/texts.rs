//! Short lists of short texts in one piece of memory, for what every session has.

use std::fmt;

/// A list of texts. Takes 16 bytes, and one piece of memory if there are any.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts(
    /// Each behind a character that says how many bytes it has.
    Box<str>,
);

/// From here to [`GAP_END`] there are no characters.
const GAP: u32 = 0xd800;
const GAP_END: u32 = 0xe000;

impl Texts {
    /// Longest text; what is longer is cut. Units: bytes.
    pub const BYTES_MAX: usize = 0x10_ffff - (GAP_END - GAP) as usize;

    /// Each text, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let mark = rest.chars().next()?;
            let (text, behind) = rest.get(mark.len_utf8()..)?.split_at_checked(length(mark))?;
            rest = behind;
            Some(text)
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.iter().any(|held| held == text)
    }
}

/// The character that says this length.
fn mark(length: usize) -> Option<char> {
    let length = u32::try_from(length).ok()?;
    char::from_u32(if length < GAP { length } else { length.checked_add(GAP_END - GAP)? })
}

/// What [`mark`] says.
const fn length(mark: char) -> usize {
    let code = mark as u32;
    (if code < GAP { code } else { code - (GAP_END - GAP) }) as usize
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut all = String::new();
        for text in texts {
            let text = text.as_ref();
            let text = &text[..text.floor_char_boundary(Self::BYTES_MAX)];
            if let Some(mark) = mark(text.len()) {
                all.push(mark);
                all.push_str(text);
            }
        }
        Self(all.into())
    }
}

impl<T: AsRef<str>, const N: usize> From<[T; N]> for Texts {
    fn from(texts: [T; N]) -> Self {
        texts.into_iter().collect()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str]) {
        let list: Texts = texts.iter().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), texts);
        assert_eq!((list.len(), list.is_empty()), (texts.len(), texts.is_empty()));
    }

    #[test]
    fn texts_come_out_as_they_went_in() {
        check(&[]);
        check(&[""]);
        check(&["a", "", "stra\u{df}e", "\u{0}\u{1}", ""]);
        for length in [0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xdfff, 0xe000, 0xffff, 0x1_0000] {
            check(&["b", &"a".repeat(length), "c"]);
        }
        let list = Texts::from(["a", "bc"]);
        assert!(list.contains("bc") && !list.contains("b") && !list.contains(""));
        assert_eq!(format!("{list:?}"), r#"["a", "bc"]"#);
    }

    #[test]
    fn the_longest_text_is_whole_and_a_longer_one_is_cut() {
        let text = "a".repeat(Texts::BYTES_MAX);
        check(&[&text, "b"]);
        let longer = Texts::from([format!("{text}a")]);
        assert_eq!(longer, Texts::from([text]));
    }
}
