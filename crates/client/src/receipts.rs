//! Receipts: how far users have got, and read, a room. Owns their forms on the wire; asks nobody by itself.

use serde::Serialize;
use serde_json::{Value, json};

use crate::event::Position;
use crate::wire::{data, metadata, number, text};

/// How far a user has marked a room: all up to an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marked {
    /// The last of them; 0: none.
    pub offset: u64,
    /// When the first mark came that covers it, by the broker's clock (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What stands for one user in one room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The user's name within the cluster.
    pub user: String,
    /// What has arrived at one of the user's clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Marked>,
    /// What the user has read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Marked>,
}

/// Users of a room have got, or read, more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Receipts {
    /// The room.
    pub room: String,
    /// The epoch of the offsets.
    pub epoch: Option<String>,
    /// Rises with each step that changes receipts of the room.
    pub version: u64,
    /// Both marks of each user who is further.
    pub receipts: Vec<Receipt>,
}

/// What is asked of a room's receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptsQuery {
    /// Who has this publication, and since when; `None`: how far each user is.
    pub of: Option<u64>,
    /// Users behind this one; `None`: from the first.
    pub after: Option<String>,
    /// How many at most, 1 to 1,000; `None`: 1,000.
    pub limit: Option<u32>,
}

/// Part of a room's receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReceiptsPage {
    /// The room.
    pub room: String,
    /// In the order of the bytes of the users' names.
    pub receipts: Vec<Receipt>,
    /// Behind whom the next page begins; `None`: this is the last one.
    pub next: Option<String>,
    /// The room's newest position.
    pub head: Option<Position>,
    /// The last step that changed receipts of the room; what was told with a higher version is newer.
    pub version: u64,
}

/// What a message of the node says of receipts.
pub(crate) enum Said {
    /// The answer to a mark.
    Marked(Receipt),
    /// The answer to a question.
    Page(ReceiptsPage),
}

/// The `data` of a mark.
pub(crate) fn mark_request(room: &str, kind: &str, at: &Position) -> Value {
    json!({ "room": room, kind: { "epoch": at.epoch, "offset": at.offset } })
}

/// The `data` of a question.
pub(crate) fn receipts_request(room: &str, query: &ReceiptsQuery) -> Value {
    let ReceiptsQuery { of, after, limit } = query;
    let mut data = serde_json::Map::new();
    data.insert("room".into(), room.into());
    of.iter().for_each(|of| drop(data.insert("of".into(), (*of).into())));
    after.iter().for_each(|after| drop(data.insert("after".into(), after.as_str().into())));
    limit.iter().for_each(|limit| drop(data.insert("limit".into(), (*limit).into())));
    Value::Object(data)
}

/// Reads an answer.
pub(crate) fn answer(message: &Value) -> Said {
    let said = data(message);
    if said.get("receipts").is_none() {
        return Said::Marked(receipt(said));
    }
    Said::Page(ReceiptsPage {
        room: text(said, "room").unwrap_or_default(),
        receipts: receipts(said),
        next: text(said, "next"),
        head: metadata(message).position(),
        version: version(message),
    })
}

/// Reads what is told unasked.
pub(crate) fn told(message: &Value) -> Receipts {
    Receipts {
        room: text(data(message), "room").unwrap_or_default(),
        epoch: metadata(message).epoch,
        version: version(message),
        receipts: receipts(data(message)),
    }
}

fn version(message: &Value) -> u64 {
    message.get("metadata").map_or(0, |metadata| number(metadata, "version"))
}

fn receipts(data: &Value) -> Vec<Receipt> {
    let list = data.get("receipts").and_then(Value::as_array);
    list.map_or(Vec::new(), |list| list.iter().map(receipt).collect())
}

fn receipt(data: &Value) -> Receipt {
    let marked = |name| {
        let marked: &Value = data.get(name)?;
        Some(Marked { offset: number(marked, "offset"), at: text(marked, "at") })
    };
    Receipt {
        user: text(data, "user").unwrap_or_default(),
        delivered: marked("delivered"),
        read: marked("read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_what_was_said_alone() {
        let at = Position { epoch: "e".into(), offset: 5 };
        let mark = mark_request("talk", "read", &at);
        assert_eq!(mark, json!({"room": "talk", "read": {"epoch": "e", "offset": 5}}));
        let bare = receipts_request("talk", &ReceiptsQuery::default());
        assert_eq!(bare, json!({ "room": "talk" }));
        let query = ReceiptsQuery { of: Some(5), after: Some("ann".into()), limit: Some(2) };
        let full = json!({"room": "talk", "of": 5, "after": "ann", "limit": 2});
        assert_eq!(receipts_request("talk", &query), full);
    }

    #[test]
    fn answers_are_marks_or_pages_and_what_is_told_is_neither() {
        let at = Some("2024-01-15T10:30:00.000Z".to_owned());
        let read = json!({"offset": 5, "at": at});
        let read_of = Some(Marked { offset: 5, at: at.clone() });
        let message = json!({"data": {"room": "talk", "user": "ann", "read": read}});
        let Said::Marked(receipt) = answer(&message) else { panic!("a mark is no page") };
        assert_eq!(receipt, Receipt { user: "ann".into(), delivered: None, read: read_of });
        let message = json!({
            "data": {"room": "talk", "receipts": [{"user": "bob", "delivered": {"offset": 0}}], "next": "bob"},
            "metadata": {"epoch": "e", "offset": 7, "version": 9},
        });
        let delivered = Some(Marked { offset: 0, at: None });
        let receipts = vec![Receipt { user: "bob".into(), delivered, read: None }];
        let Said::Page(page) = answer(&message) else { panic!("a page is no mark") };
        let head = Some(Position { epoch: "e".into(), offset: 7 });
        let (room, next) = ("talk".to_owned(), Some("bob".to_owned()));
        let expected =
            ReceiptsPage { room: room.clone(), receipts: receipts.clone(), next, head, version: 9 };
        assert_eq!(page, expected);
        let expected = Receipts { room, epoch: Some("e".into()), version: 9, receipts };
        assert_eq!(told(&message), expected);
    }
}
