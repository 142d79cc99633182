//! What a node tells page by page, printed as one JSON each.

use roomcast_client::Error;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Reader};

/// Prints pages from the one behind this user to the last, or until nobody reads them. `ask` brings the page behind a
/// user, `next` says behind whom the one after it begins.
///
/// Errors: a page is refused, or cannot be written.
pub(crate) async fn print<P: Serialize>(
    mut after: Option<String>,
    next: impl Fn(P) -> Option<String>,
    ask: impl AsyncFn(Option<String>) -> Result<P, Error>,
) -> Result<(), Failure> {
    loop {
        let page = ask(after.clone()).await?;
        match output::json_line(&page)? {
            Reader::Listening => {}
            Reader::Gone => return Ok(()),
        }
        // Names only rise, so it ends even if the node errs.
        match next(page) {
            Some(next) if Some(&next) > after.as_ref() => after = Some(next),
            Some(_) | None => return Ok(()),
        }
    }
}
