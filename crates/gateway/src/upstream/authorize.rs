//! Permission by a back-end: a dialect whose clients have no token asks it who may come in, and where to.

use bytes::Bytes;

use super::{Answer, CallError, CallIndex, CallInput, Upstream};

/// The status by which a back-end allows what it is asked about.
const ALLOWED: u16 = 200;

/// What a back-end that is asked for permission says.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Yes. What it says beside is for nobody.
    Allowed,
    /// No: the answer is for the one who asked.
    Denied(Answer),
}

impl Upstream {
    /// Asks a back-end for permission: status 200 allows, any other denies, and nothing of it is ever kept.
    ///
    /// # Errors
    /// [`CallError`]: nobody said yes, so the answer is no.
    pub(crate) async fn authorize(
        &self,
        call: CallIndex,
        json: Bytes,
    ) -> Result<Verdict, CallError> {
        let answer = self.call(call, CallInput { body: json, key: None }).await?;
        Ok(match answer.status {
            ALLOWED => Verdict::Allowed,
            _ => Verdict::Denied(answer),
        })
    }
}
