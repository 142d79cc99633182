//! Ids that nodes make for what came without one: the same for the same, on every node, and never longer than ids may be.

use roomcast_protocol::publication::TEXT_BYTES_MAX;

/// What a hash takes in an id, with the hyphen in front of it. Units: bytes.
const HASH_BYTES: usize = 17;

/// A name in an id (FNV-1a, 64 bits). Who looks for two names of one hash finds them for its own ids alone.
pub(crate) fn hash(name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// An id as it is, or, where it is too long, its beginning and a hash of all of it. Bounds: [`TEXT_BYTES_MAX`].
pub(crate) fn id(whole: &str) -> Box<str> {
    if whole.len() <= TEXT_BYTES_MAX {
        return whole.into();
    }
    let end = whole.floor_char_boundary(TEXT_BYTES_MAX - HASH_BYTES);
    format!("{}-{:016x}", whole.get(..end).unwrap_or_default(), hash(whole)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_255_bytes_stays_and_a_longer_one_is_cut_and_stays_its_own() {
        let most = "ü".repeat(127) + "a";
        assert_eq!((most.len(), &*id(&most)), (TEXT_BYTES_MAX, &*most));
        let [one, other] = ["b", "c"].map(|end| id(&format!("{most}{end}")));
        assert_eq!(one.len(), TEXT_BYTES_MAX);
        assert_eq!(one, id(&format!("{most}b")), "the same for the same");
        assert_ne!(one, other);
        assert!(id(&format!("a{most}")).len() < TEXT_BYTES_MAX, "no half character");
    }
}
