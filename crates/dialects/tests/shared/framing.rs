//! A server's frames, taken apart.

/// Whether one whole frame is text, and its payload (RFC 6455 5.2).
pub(crate) fn unframed(frame: &[u8]) -> (bool, &[u8]) {
    let (start, length) = match frame[1] {
        126 => (4, u64::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap())),
        short => (2, u64::from(short)),
    };
    assert!(matches!(frame[0], 0x81 | 0x82), "a whole data frame");
    assert_eq!((frame.len() - start) as u64, length, "one frame and no more");
    (frame[0] == 0x81, &frame[start..])
}
