//! The relay's bytes against their vectors, in both directions. The hashes in them were made by another program.

use bytes::Bytes;
use roomcast_protocol::content::Content;
use roomcast_protocol::relay::{BINARY_MARK, RelayCodec, RelayFormat};
use serde_json::Value;

use crate::common::{ENVELOPES, Expect, OUTSIDERS, READING, SERIAL, cases, envelopes};

#[test]
fn every_payload_of_the_vectors_means_what_they_say() {
    let mut count = 0;
    for case in [ENVELOPES, READING, OUTSIDERS].into_iter().flat_map(cases) {
        let expected = match &case.expect {
            Expect::Read(fields) => Ok(fields.relayed(case.room())),
            Expect::Dropped(why) => Err(why.as_str()),
        };
        assert_eq!(case.decoded(), expected, "{}", case.name);
        count += 1;
    }
    assert!(count > 100, "only {count} payloads were read");
}

#[test]
fn every_envelope_of_the_vectors_is_written_so() {
    let mut written = [0, 0];
    for case in cases(ENVELOPES) {
        let format = RelayFormat::parse(case.write.as_deref().unwrap()).unwrap();
        let Expect::Read(fields) = &case.expect else { panic!("{} is dropped", case.name) };
        let publication = fields.relayed(case.room()).publication;
        // What stands in the buffer already stays there and is not signed.
        let mut out = b"before".to_vec();
        envelopes(format).encode(&case.keys(), &publication, case.time(), &mut out);
        assert_eq!(out.strip_prefix(b"before").unwrap(), case.payload(), "{}", case.name);
        written[format as usize] += 1;
    }
    assert_eq!(written, [15, 15]);
}

#[test]
fn the_page_about_the_relay_shows_these_very_bytes() {
    let page = include_str!("../../../../docs/RELAY.md");
    let joined: String = page.split_whitespace().collect();
    let mut count = 0;
    for case in cases(ENVELOPES).into_iter().filter(|it| it.name.contains("docs/RELAY.md")) {
        match (case.hex, case.text) {
            (Some(hex), _) => assert!(joined.contains(&hex), "{hex}"),
            (None, text) => assert!(page.contains(&text.unwrap())),
        }
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn no_outsider_is_a_node() {
    for case in cases(OUTSIDERS) {
        let Ok(relayed) = case.decoded() else { continue };
        assert_eq!(relayed.published_us, None, "{}", case.name);
        assert_eq!(&*relayed.publication.sender, "external", "{}", case.name);
        assert!(!relayed.publication.isolated, "{}", case.name);
    }
}

#[test]
fn every_reason_to_drop_occurs() {
    let found: std::collections::BTreeSet<_> = [READING, OUTSIDERS]
        .into_iter()
        .flat_map(cases)
        .filter_map(|it| it.decoded().err())
        .collect();
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        ["forged", "malformed", "too_large", "version"]
    );
}

#[test]
fn what_nodes_write_in_json_has_the_seeds_fields() {
    for case in cases(ENVELOPES).into_iter().filter(|it| it.write.as_deref() == Some("json")) {
        let value: Value = serde_json::from_slice(&case.payload()).unwrap();
        for name in ["id", "type", "timestamp", "sender", "room"] {
            assert!(value[name].is_string(), "{}: {name}", case.name);
        }
        assert_eq!(value["room"], case.room().as_str());
        assert!(value.get("data").is_some() && value["metadata"]["hash"].is_string());
    }
}

#[test]
fn payloads_share_the_bytes_that_came() {
    let within = |inner: &Bytes, outer: &Bytes| {
        let (inner, outer) = (inner.as_ptr_range(), outer.as_ptr_range());
        outer.start <= inner.start && inner.end <= outer.end
    };
    let mut shared = 0;
    for case in [ENVELOPES, OUTSIDERS].into_iter().flat_map(cases) {
        let payload = case.payload();
        let codec = envelopes(RelayFormat::default());
        let Ok(found) = codec.decode(&case.keys(), &case.room(), &payload, case.time(), SERIAL)
        else {
            continue;
        };
        let (must, bytes) = match &found.publication.content {
            Content::Json(bytes) => (true, bytes),
            // JSON text with escapes, and base64, are written differently in the envelope.
            Content::Text(bytes) => (!case.name.contains("escapes, as JSON"), bytes),
            Content::Binary(bytes) => (payload.first() == Some(&BINARY_MARK), bytes),
        };
        assert!(!must || bytes.is_empty() || within(bytes, &payload), "{}", case.name);
        shared += usize::from(must);
    }
    assert!(shared > 60, "only {shared}");
}
