//! What a publication carries.

use bytes::Bytes;

/// A publication's payload. JSON is kept as compact text, exactly as its sender wrote its numbers and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One valid JSON value, UTF-8.
    Json(Bytes),
    /// UTF-8 text.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Content {
    /// Size of the payload. Units: bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is no payload at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
