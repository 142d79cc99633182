//! One caller: reads its calls, has them carried out, and writes the answers in their order. Reads no further than it
//! may owe answers for, and waits for nobody for ever.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use roomcast_dialects::goridge::{Answers, BadFrame, CALLS_MAX, Call, Publish, Reader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::calls::Work;
use super::counters::{Answered, Ended};
use super::gate::Gate;
use super::server::Shared;

/// Bytes read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of one connection's publications under way. Source: a quarter of those of all, so that one caller does not
/// hold up the others.
const UNDER_WAY_BYTES_MAX: usize = 1 << 20;

/// How long a frame that has begun may take.
const FRAME_WAIT: Duration = Duration::from_secs(10);

/// How long a caller may take none of its answers.
const WRITE_WAIT: Duration = Duration::from_secs(10);

/// How long a caller that is answered for the last time may go on unheard.
const LINGER: Duration = Duration::from_millis(500);

/// How often a connection warns of publications that failed without an answer that says so.
const WARN_REST: Duration = Duration::from_secs(1);

struct Connection<'a> {
    shared: &'a Shared,
    reader: Reader,
    answers: Answers,
    /// Calls that are carried out, in their order.
    calls: VecDeque<Work>,
    gate: Rc<Gate>,
    /// What is being written, and how much of it has been.
    out: Vec<u8>,
    written: usize,
    /// No further call is read: the caller has said all, or what is no frame, or the node ends.
    closed: bool,
    bad: Option<BadFrame>,
    /// Since when a frame has been waited for that has begun.
    half_since: Option<Instant>,
    /// Since when nothing of `out` has been taken.
    blocked_since: Instant,
    warned: Option<Instant>,
}

/// Serves one caller until it has gone, or has to; `Some`: why the node ended it.
pub(super) async fn serve<S>(stream: S, shared: &Shared) -> Option<Ended>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let mut closing = shared.closing.clone();
    let mut piece = vec![0; PIECE_BYTES];
    let mut gone = false;
    let mut it = Connection::new(shared);
    loop {
        it.advance().await;
        if it.is_done() {
            break;
        }
        let reads = it.may_read();
        let half = it.half_since.filter(|_| reads).map(|since| since + FRAME_WAIT);
        let blocked = it.blocked_since + WRITE_WAIT;
        let waits = it.waits_for_place();
        let is_under_way = it.calls.front().is_some_and(Work::is_under_way);
        let opened = !it.closed;
        let Connection { calls, gate, out, written, .. } = &mut it;
        let rest = out.get(*written..).unwrap_or_default();
        let writes = !rest.is_empty();
        tokio::select! {
            read = read.read(&mut piece), if reads => match read {
                Ok(0) => (it.closed, gone) = (true, true),
                Ok(count) => it.reader.push(piece.get(..count).unwrap_or_default()),
                Err(_) => return None,
            },
            wrote = write.write(rest), if writes => match wrote {
                Ok(count) => it.wrote(count),
                Err(_) => return None,
            },
            () = outcome(calls, shared), if is_under_way => {}
            () = gate.freed(), if waits => {}
            () = shared.gate.freed(), if waits => {}
            () = sleep_until(half.unwrap_or(blocked)), if half.is_some() => {
                return Some(Ended::HalfFrame);
            }
            () = sleep_until(blocked), if writes => return Some(Ended::NotTaken),
            _ = closing.wait_for(|closing| *closing), if opened => it.closed = true,
        }
    }
    if !gone {
        // What it goes on to send would else have the system take back the answers on their way.
        drop(write.shutdown().await);
        let rest = async { while read.read(&mut piece).await.is_ok_and(|count| count > 0) {} };
        drop(tokio::time::timeout(LINGER, rest).await);
    }
    it.bad.map(Ended::Bad)
}

/// Waits for the outcome that the next answer waits for.
async fn outcome(calls: &mut VecDeque<Work>, shared: &Shared) {
    if let Some(first) = calls.front_mut() {
        first.outcome(&shared.rpc).await;
    }
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            reader: Reader::new(),
            answers: Answers::new(),
            calls: VecDeque::new(),
            gate: Gate::new(UNDER_WAY_BYTES_MAX),
            out: Vec::new(),
            written: 0,
            closed: false,
            bad: None,
            half_since: None,
            blocked_since: Instant::now(),
            warned: None,
        }
    }

    /// Reads the calls that are there and has them carried out, as far as it may.
    async fn take_in(&mut self) {
        let gates = [&self.gate, &self.shared.gate];
        loop {
            if let Some(last) = self.calls.back_mut()
                && !last.send(&self.shared.rpc, gates).await
            {
                return;
            }
            if self.is_full() || self.bad.is_some() {
                return;
            }
            let Self { reader, answers, calls, shared, .. } = self;
            match reader.frame() {
                Ok(Some(frame)) => {
                    self.half_since = None;
                    call(Call::read(&frame, shared.rpc.services), answers, calls, shared);
                }
                Ok(None) => {
                    self.note_half();
                    return;
                }
                Err(bad) => {
                    (self.closed, self.bad) = (true, Some(bad));
                    return;
                }
            }
        }
    }

    fn note_half(&mut self) {
        if self.reader.held_bytes() == 0 {
            self.half_since = None;
        } else {
            self.half_since.get_or_insert_with(Instant::now);
        }
    }

    /// Answers what is over and reads on, until only waiting is left.
    async fn advance(&mut self) {
        loop {
            self.settle();
            // Last, so that what finds no place waits for one that is given back from now on.
            self.take_in().await;
            let is_over = |work: &Work| !work.is_under_way() && !work.waits_for_place();
            if !self.calls.front().is_some_and(is_over) {
                break;
            }
        }
        if self.written >= self.out.len() {
            (self.out, self.written) = (self.answers.take(), 0);
            self.blocked_since = Instant::now();
        }
    }

    /// Answers the calls that are over.
    fn settle(&mut self) {
        while self.calls.front_mut().is_some_and(|first| first.is_over(&self.shared.rpc)) {
            let Some(work) = self.calls.pop_front() else { break };
            let (ticket, failed) = work.ended();
            let counters = &self.shared.rpc.parts.counters;
            match (ticket, failed) {
                (Some(ticket), None) => {
                    counters.answered(Answered::Done);
                    self.answers.end(ticket, Ok(()));
                }
                (Some(ticket), Some((_, text))) => {
                    counters.answered(Answered::Failed);
                    self.answers.end(ticket, Err(&text));
                }
                (None, None) => {}
                (None, Some((refusal, _))) => self.warn(refusal.row().name),
            }
        }
    }

    /// Nobody is told by an answer.
    fn warn(&mut self, code: &'static str) {
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now >= warned + WARN_REST) {
            self.warned = Some(now);
            tracing::warn!(code, "a publication by RPC failed, and its caller did not wait for it");
        }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        self.blocked_since = Instant::now();
    }

    fn is_full(&self) -> bool {
        self.answers.is_full() || self.calls.len() >= CALLS_MAX
    }

    /// The last call has publications that found no place.
    fn waits_for_place(&self) -> bool {
        self.calls.back().is_some_and(Work::waits_for_place)
    }

    fn may_read(&self) -> bool {
        !self.closed && !self.is_full() && !self.waits_for_place()
    }

    /// All that was asked is answered, and nothing more will be.
    fn is_done(&self) -> bool {
        let whole = self.written >= self.out.len();
        self.closed && self.calls.is_empty() && self.answers.is_empty() && whole
    }
}

/// Begins a call, or says why it is none.
fn call(call: Call<'_>, answers: &mut Answers, calls: &mut VecDeque<Work>, shared: &Shared) {
    let counters = &shared.rpc.parts.counters;
    match call {
        Call::Refused { reply, text } => {
            counters.answered(Answered::Refused);
            answers.answer(&reply, Err(&text));
        }
        Call::Publish(Publish { reply, wait, messages, unnamed_topics }) => {
            if unnamed_topics > 0 {
                counters.unnamed(unnamed_topics);
                tracing::warn!(unnamed_topics, "a call by RPC has topics without a name");
            }
            let ticket = if wait {
                Some(answers.begin(reply))
            } else {
                counters.answered(Answered::AtOnce);
                answers.answer(&reply, Ok(()));
                None
            };
            calls.push_back(Work::new(&shared.rpc, ticket, messages));
        }
    }
}
