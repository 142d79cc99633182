//! The event `chats`: a user's chats as the request `chats` shows them, in fewer bytes. Owns what is left out.

use bytes::Bytes;
use roomcast_protocol::conversation::Conversation;
use roomcast_protocol::lists::LIST_EVENT_BYTES_MAX;

use super::messages;
use crate::native::writer::Json;

/// Writes the chats of a user in at most [`LIST_EVENT_BYTES_MAX`]: the one called `about`, then others from the first one on,
/// then their last messages.
#[must_use]
pub fn write_list(user: &str, list: &[Conversation], about: &str) -> Bytes {
    let written = |chat: &Conversation| {
        let mut text = Vec::new();
        messages::chat(chat, user, false, &mut Json::new(&mut text));
        text
    };
    let mut chats: Vec<_> = list.iter().map(|chat| (chat, None::<Vec<u8>>)).collect();
    // Both brackets, and a comma of each.
    let mut left = LIST_EVENT_BYTES_MAX - 2;
    let is_it = |chat: &Conversation| chat.group && *chat.with == *about;
    for first in [true, false] {
        for (chat, text) in chats.iter_mut().filter(|(chat, _)| is_it(chat) == first) {
            let bare = written(&Conversation { last: None, ..chat.clone() });
            if let Some(less) = left.checked_sub(bare.len() + 1) {
                (*text, left) = (Some(bare), less);
            }
        }
    }
    for (chat, text) in &mut chats {
        let Some(bare) = text.as_mut().filter(|_| chat.last.is_some()) else { continue };
        let whole = written(chat);
        if let Some(less) = left.checked_sub(whole.len() - bare.len()) {
            (*bare, left) = (whole, less);
        }
    }
    let texts: Vec<_> = chats.into_iter().filter_map(|(_, text)| text).collect();
    [b"[".as_slice(), &texts.join(&b','), b"]"].concat().into()
}
