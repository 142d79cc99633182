//! Room names: checked once, compared as bytes for ever after.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Longest room name. Units: bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;

/// The room in which all nodes hear orders about sessions. No client, back-end or outsider reaches it.
pub const CONTROL: &str = "$control";

/// The room that keeps which tokens are revoked. No client, back-end or outsider reaches it.
pub const REVOKED: &str = "$revoked";

/// A valid room name: 1 to 255 bytes of UTF-8 in NFC without control, format or separator characters.
///
/// Two names are equal exactly if their bytes are; a name is refused, never rewritten. Names that begin with `$` are
/// the system's and can only be made by [`RoomName::system`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a text is no room name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No characters at all.
    #[error("a room's name is empty")]
    Empty,
    /// Over [`NAME_BYTES_MAX`].
    #[error("a room's name is longer than 255 bytes")]
    TooLong,
    /// A control, format, separator, surrogate or unassigned character.
    #[error("a room's name has a space, control, format or unassigned character")]
    Character,
    /// Not in Unicode normalisation form C.
    #[error("a room's name is not in Unicode normalisation form C (NFC)")]
    NotNfc,
    /// Begins with `$`.
    #[error("names that begin with `$` are the system's")]
    System,
}

impl RoomName {
    /// Checks a peer's text.
    ///
    /// # Errors
    /// [`BadName`] names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text.starts_with('$') {
            return Err(BadName::System);
        }
        Self::system(text)
    }

    /// Checks a name that the system itself made, which may begin with `$`.
    ///
    /// # Errors
    /// [`BadName`] names what is wrong with it.
    pub fn system(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong);
        }
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        if !text.chars().all(allowed) {
            return Err(BadName::Character);
        }
        if !is_nfc(text) {
            return Err(BadName::NotNfc);
        }
        Ok(Self(text.into()))
    }

    /// Whether it is one of the system's own, which no client has a part in.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.as_str().starts_with('$')
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(character: char) -> bool {
    !matches!(
        character.general_category_group(),
        GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other
    )
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), BadName>) {
        assert_eq!(RoomName::parse(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn names_of_the_seeds_are_valid() {
        for text in ["agents", "agent-7", "dialog-1:2", "straße", "部屋", "a*b?[c]{d}"] {
            check(text, Ok(()));
        }
    }

    #[test]
    fn the_longest_name_passes_and_one_byte_more_is_refused() {
        check(&"a".repeat(NAME_BYTES_MAX), Ok(()));
        check(&"a".repeat(NAME_BYTES_MAX + 1), Err(BadName::TooLong));
    }

    #[test]
    fn invisible_and_unnormalised_names_are_refused() {
        check("", Err(BadName::Empty));
        for text in ["a b", "a\nb", "a\0b", "a\u{200b}b", "a\u{202e}b", "a\u{a0}b", "\u{feff}a"] {
            check(text, Err(BadName::Character));
        }
        check("e\u{301}", Err(BadName::NotNfc));
        check("$control", Err(BadName::System));
    }
}
