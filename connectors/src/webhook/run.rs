//! The thread of a webhook: it reads the log, lets the queue decide, sends, and makes durable what is settled.
//!
//! One turn of its loop, in this order: read while there is room; start the requests that may go; write what is settled and what has begun,
//! before any request leaves; wait for an answer, for more of the log, or for the time of the next request.

use super::attempts::{self, Attempts, EndedAttempt};
use super::breaker::Breaker;
use super::control::{self, Command, Commands};
use super::dead_letters::{DeadLetter, DeadLetters};
use super::fault::{Verdict, verdict};
use super::held::Held;
use super::open::Opened;
use super::progress::{Base, Found, Progress};
use super::queue::{Attempt, Change, Death, End, Event, Queue};
use super::request::{Asked, Audience, Content, Requests};
use super::schedule;
use super::vendor::Reading;
use crate::committed_rows::membership;
use crate::outbox::block::{self, Record, Records};
use crate::outbox::cursor::{Cursor, Mark};
use crate::outbox::files::{self, Blocks, Next, damaged, refused};
use crate::outbox::formats::Formats;
use crate::outbox::shared::{Report, Shared};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use governor::clock::{Clock, DefaultClock};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use usher_core::api::ApiError;
use usher_core::change::{ChangeKind, Reason};
use usher_core::delivery::{DeadLetterPage, DeliveryOrder, DeliveryReply, Selection};
use usher_core::ledger::LedgerAudience;
use usher_core::sink::{AttemptCounts, SinkError, SyncState, Written};

/// From one durable sync to the next: what a loss of power repeats.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// From one cursor of the log to the next, and from one look for what has expired to the next.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// From one look for old dead letters to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a stop waits for requests that are on their way or may go at once.
const GRACE: Duration = Duration::from_secs(5);
/// Blocks read in one turn.
const BLOCKS: usize = 64;
/// Starts of blocks that are known: beyond them every second one is forgotten.
const STARTS: usize = 8_192;
/// How long the body of an answer may take: its status has settled the request.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// The key of an example.
const TEST_KEY: &str = "usher-test";
/// Bytes of an answer that are read, so that its connection is used again.
const BODY_BYTES: usize = 64 << 10;
/// Bytes that are read of an answer that can refuse some of a request's changes: more than it has for the largest request.
const PARTS_BYTES: usize = 4 << 20;

/// What a sync has of earlier runs.
pub(crate) struct Kept {
    progress: Progress,
    held: Option<Held>,
    letters: DeadLetters,
    /// What the destination holds is taken from the ledger, and uncertain for what waits.
    is_doubtful: bool,
    sends_updates: bool,
    is_state: bool,
    /// Changes that wait to be delivered.
    waiting: u64,
}

impl Kept {
    /// Reads it in the log's folder; `position` is that of the log's cursor.
    pub fn open(webhook: &Opened, folder: &Path, position: u64) -> Result<Kept, SinkError> {
        let (is_state, sends_updates) = (webhook.is_state, webhook.sends_updates);
        let letters = DeadLetters::open(&folder.join("dead_letters"))?;
        let Found { progress, held } = Progress::open(folder, position, letters.next_log_number(), sends_updates)?;
        Ok(Kept { progress, held, letters, is_doubtful: false, sends_updates, is_state, waiting: 0 })
    }

    /// Returns where it goes on in the log.
    pub fn position(&self) -> u64 {
        self.progress.base().position
    }

    /// Returns how many changes wait to be delivered, once it is [complete](Self::complete).
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes how many changes of the log behind [`Kept::position`] are sent, whether the ledger has begun, and its members with their rows.
    pub fn complete<'a>(&mut self, undelivered: u64, has_begun: bool, members: impl Iterator<Item = (u128, &'a str)>) {
        self.waiting = waiting(&self.progress, &self.letters, undelivered);
        match (self.is_state, &mut self.held) {
            // A ledger that begins anew, while the destination holds something: all of it is sent again.
            (true, Some(held)) if !has_begun => {
                held.doubt_all();
                self.is_doubtful = true;
            }
            (true, None) => {
                let mut held = Held::new(self.sends_updates);
                members.for_each(|(membership, row)| held.set(membership, Some((row, true))));
                self.held = Some(held);
                self.is_doubtful = true;
            }
            (false, _) => self.held = None,
            (true, Some(_)) => {}
        }
    }
}

/// Returns how many changes wait in a log of which `undelivered` are sent behind the place to go on from.
fn waiting(progress: &Progress, letters: &DeadLetters, undelivered: u64) -> u64 {
    let counts = progress.counts();
    let settled = counts.delivered + counts.superseded + counts.dead_letters;
    (progress.base().sent + undelivered).saturating_sub(settled) + letters.again()
}

/// How far a webhook has delivered a log that no job delivers now.
pub(crate) struct Settled {
    progress: Progress,
    letters: DeadLetters,
}

impl Settled {
    /// Reads it in the log's folder; `None` if no webhook has delivered the log. `position` is that of the log's cursor.
    pub fn read(folder: &Path, position: u64) -> Result<Option<Settled>, SinkError> {
        if !Progress::is_in(folder) {
            return Ok(None);
        }
        let letters = DeadLetters::open(&folder.join("dead_letters"))?;
        let Found { progress, .. } = Progress::open(folder, position, letters.next_log_number(), false)?;
        Ok(Some(Settled { progress, letters }))
    }

    /// Returns where it goes on in the log.
    pub fn position(&self) -> u64 {
        self.progress.base().position
    }

    /// Returns how many changes wait, of which `undelivered` are sent behind [`Settled::position`].
    pub fn waiting(&self, undelivered: u64) -> u64 {
        waiting(&self.progress, &self.letters, undelivered)
    }
}

/// The log that is delivered.
pub(crate) struct Log {
    pub shared: Arc<Shared>,
    pub folder: PathBuf,
    pub cursor: Cursor,
    /// Where the segment begins that the delivery goes on in.
    pub segment: u64,
}

/// Delivers the log until no more is appended to it, and what may go at once is gone.
pub(crate) fn run(
    (opened, kept): (Opened, Kept),
    log: Log,
    formats: Formats,
    commands: Commands,
) -> Result<(), SinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(refused(&log.folder, "delivered"))?;
    let ended = runtime.block_on(async { Run::new(opened, kept, log, (formats, commands))?.drive().await });
    // A name that is being resolved does not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Reads the blocks of the log one after another.
struct Reader {
    folder: PathBuf,
    blocks: Blocks,
    /// Where the segments begin that it comes to.
    segments: VecDeque<u64>,
    /// Of the next record.
    number: u64,
    /// Records before it that are sent.
    sent: u64,
}

impl Reader {
    fn new(folder: &Path, segment: u64, base: Base) -> Result<Reader, SinkError> {
        let mut blocks = Blocks::open(&files::segment(folder, segment))?;
        blocks.seek(base.position)?;
        let (number, sent) = (base.number, base.sent);
        Ok(Reader { folder: folder.to_owned(), blocks, segments: VecDeque::new(), number, sent })
    }

    fn place(&self) -> Base {
        Base { position: self.blocks.position(), number: self.number, sent: self.sent }
    }

    /// Reads the next block, if there is one before a position; gives its body, to be [given back](Self::give_back).
    fn next(&mut self, end: u64) -> Result<Option<Vec<u8>>, SinkError> {
        if self.blocks.position() >= end {
            return Ok(None);
        }
        if self.segments.front() == Some(&self.blocks.position()) {
            let segment = self.segments.pop_front().expect("it was just looked at");
            self.blocks = Blocks::open(&files::segment(&self.folder, segment))?;
        }
        match self.blocks.next(end - self.blocks.head.position)? {
            Next::Block => Ok(Some(std::mem::take(&mut self.blocks.body))),
            Next::End => Ok(None),
            Next::Flaw(flaw) => Err(damaged(&self.blocks.path, flaw)),
        }
    }

    fn give_back(&mut self, body: Vec<u8>) {
        self.blocks.body = body;
    }
}

/// An answer, or that there was none.
struct Answered {
    attempt: u64,
    /// The request's id.
    id: String,
    bytes: u64,
    began: u64,
    latency: Duration,
    asked: Asked,
    answer: Result<Answer, String>,
}

pub(super) struct Answer {
    status: u16,
    pub retry_after: Option<Duration>,
    body: Vec<u8>,
    /// Whether the body was read to its end.
    whole: bool,
}

/// What ends a wait.
enum Woken {
    Answer(Box<Answered>),
    Command(Command),
}

/// An audience, by what blocks say of it.
struct Known {
    audience: Audience,
    ledger: LedgerAudience,
}

struct Run {
    webhook: Opened,
    log: Log,
    formats: Formats,
    commands: Commands,
    queue: Queue,
    progress: Progress,
    letters: DeadLetters,
    sender: Reader,
    /// In `mode: state`: it reads to the end of the log, for what is superseded.
    scout: Option<Reader>,
    /// The end of the log.
    end: u64,
    /// In `mode: state`: changes before are of an earlier run that had no such mode.
    doubtful_until: u64,
    /// Where blocks start that were read and are not all settled.
    starts: VecDeque<Base>,
    audiences: Vec<Known>,
    known: HashMap<Box<[u8]>, u32>,
    on_their_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    attempts: Attempts,
    counts: AttemptCounts,
    /// Dead letters that are to be sent again, and are not in the queue yet; whether they are forced.
    again: VecDeque<(u64, bool)>,
    /// The status and text of the last answer.
    last_answer: (Option<u16>, String),
    /// What the last answer says of single changes, by their numbers.
    said: HashMap<u64, String>,
    last_error: Option<String>,
    state: SyncState,
    random: fastrand::Rng,
    no_row: Arc<str>,
    /// When something was settled first of which the durable files do not know.
    unsynced: Option<Instant>,
    saved: Instant,
    swept: Instant,
    /// No request begins before, because of `rate`.
    rate_until: Option<Instant>,
    /// Up to which number what has waited too long was looked for last, and how much was read and how many attempts had ended then.
    expired: (u64, u64, u64),
}

impl Run {
    fn new(webhook: Opened, kept: Kept, log: Log, (formats, commands): (Formats, Commands)) -> Result<Run, SinkError> {
        let Kept { mut progress, held, letters, is_doubtful, .. } = kept;
        let base = progress.base();
        let sender = Reader::new(&log.folder, log.segment, base)?;
        let scout = match held {
            Some(_) => Some(Reader::new(&log.folder, log.segment, base)?),
            None => None,
        };
        if is_doubtful || held.is_none() {
            progress.restart(held.as_ref())?;
        }
        let mut breaker = Breaker::new(webhook.schedule, webhook.concurrency, progress.is_paused());
        let left = progress.asked_until().saturating_sub(webhook.clock.now());
        if left > 0 {
            breaker.wait_on(Duration::from_millis(left), Instant::now());
        }
        let end = log.shared.lock().end;
        let mut queue = Queue::new(breaker, webhook.schedule, webhook.batch, held);
        queue.retried = progress.retried();
        let mut run = Run {
            queue,
            webhook,
            log,
            formats,
            commands,
            progress,
            letters,
            sender,
            scout,
            end,
            doubtful_until: if is_doubtful { end } else { 0 },
            starts: VecDeque::new(),
            audiences: Vec::new(),
            known: HashMap::new(),
            on_their_way: FuturesUnordered::new(),
            attempts: Attempts::default(),
            counts: AttemptCounts::default(),
            again: VecDeque::new(),
            last_answer: (None, String::new()),
            said: HashMap::new(),
            last_error: None,
            state: SyncState::Ok,
            random: fastrand::Rng::new(),
            no_row: "".into(),
            unsynced: None,
            saved: Instant::now(),
            swept: Instant::now(),
            rate_until: None,
            expired: (0, 0, 0),
        };
        run.restore_dead_letters()?;
        Ok(run)
    }

    async fn drive(&mut self) -> Result<(), SinkError> {
        let mut over: Option<Instant> = None;
        loop {
            let is_behind = self.read()?;
            self.expire()?;
            self.start()?;
            self.settle()?;
            self.save_when_due()?;
            self.report();
            let now = Instant::now();
            if self.log.shared.is_over() {
                let over = *over.get_or_insert(now);
                let has_more = is_behind || !self.on_their_way.is_empty() || self.next_wake(now) == Some(now);
                if !has_more || now.duration_since(over) > GRACE {
                    return self.finish();
                }
            }
            if is_behind {
                // Answers are taken between two reads.
                tokio::task::yield_now().await;
            } else {
                match self.wait(now).await {
                    Some(Woken::Answer(answered)) => self.take(*answered)?,
                    Some(Woken::Command(command)) => self.carry_out(command)?,
                    None => {}
                }
            }
            while let Some(Some(answered)) = self.on_their_way.next().now_or_never() {
                self.take(answered)?;
            }
        }
    }

    /// Returns the wall clock, ms since the epoch.
    fn now(&self) -> u64 {
        self.webhook.clock.now()
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, now: Instant) -> Option<Woken> {
        let unsynced = self.unsynced.map(|since| since + SYNC_EVERY);
        let waiting = (self.queue.len() > 0 || !self.starts.is_empty()).then(|| now + SAVE_EVERY);
        let wake = [self.next_wake(now), unsynced, waiting].into_iter().flatten().min();
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answered = self.on_their_way.next(), if !self.on_their_way.is_empty() => {
                answered.map(|answered| Woken::Answer(Box::new(answered)))
            }
            command = self.commands.recv(), if !self.commands.is_closed() => command.map(Woken::Command),
            () = self.log.shared.changed.notified() => None,
            () = sleep => None,
        }
    }

    /// Returns when the next request may go.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let wake = self.queue.wake(now)?.max(now);
        Some(self.rate_until.map_or(wake, |until| wake.max(until)))
    }

    /// Reads what there is room for. Returns whether there is more to read at once.
    fn read(&mut self) -> Result<bool, SinkError> {
        let (end, segments) = self.log.shared.log_end();
        self.end = end;
        if let Some(scout) = &mut self.scout {
            scout.segments.extend(&segments);
        }
        self.sender.segments.extend(segments);
        if self.progress.mark(self.end, self.now()) {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        while self.queue.has_room()
            && let Some((number, forced)) = self.again.pop_front()
        {
            self.push_dead_letter(number, forced)?;
        }
        let scouted = self.scout()?;
        let limit = scouted.unwrap_or(self.end);
        for _ in 0..BLOCKS {
            if !self.queue.has_room() {
                return Ok(false);
            }
            let start = self.sender.place();
            let Some(body) = self.sender.next(limit)? else {
                return Ok(limit < self.end);
            };
            self.starts.push_back(start);
            if self.starts.len() > STARTS {
                let mut at = 0;
                self.starts.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
            self.give(&body)?;
            self.sender.give_back(body);
        }
        Ok(true)
    }

    /// In `mode: state`, reads on to the end of the log. Returns how far it has come.
    fn scout(&mut self) -> Result<Option<u64>, SinkError> {
        let Some(mut scout) = self.scout.take() else { return Ok(None) };
        for _ in 0..BLOCKS {
            let start = scout.blocks.position();
            let Some(body) = scout.next(self.end)? else { break };
            let mut records = Records::of(&body);
            while let Some(record) = next(&mut records, &scout)? {
                let known = self.audience(records.audiences[record.audience as usize]);
                let membership = membership(&self.audiences[known as usize].ledger.id, record.key);
                if !self.progress.settled().contains(scout.number) {
                    self.queue.note(membership, scout.number);
                    if start < self.doubtful_until {
                        self.queue.doubt(membership);
                    }
                }
                scout.number += 1;
                scout.sent += u64::from(record.sent);
            }
            scout.give_back(body);
        }
        let position = scout.blocks.position();
        self.scout = Some(scout);
        Ok(Some(position))
    }

    /// Gives the queue the records of a block that are not settled.
    fn give(&mut self, body: &[u8]) -> Result<(), SinkError> {
        let since = Instant::now();
        let mut records = Records::of(body);
        while let Some(record) = next(&mut records, &self.sender)? {
            let number = self.sender.number;
            self.sender.number += 1;
            self.sender.sent += u64::from(record.sent);
            if self.progress.settled().contains(number) {
                continue;
            }
            if !record.sent && self.scout.is_none() {
                self.progress.settle(number, End::Unsent);
                continue;
            }
            let audience = self.audience(records.audiences[record.audience as usize]);
            let change = self.change(&record, number, audience, since);
            self.push(change);
        }
        Ok(())
    }

    fn change(&self, record: &Record<'_>, number: u64, audience: u32, since: Instant) -> Change {
        let row = |text: &str| if text.is_empty() { Arc::clone(&self.no_row) } else { text.into() };
        Change {
            number,
            dead_letter: None,
            forced: false,
            sent: record.sent,
            audience,
            group: self.webhook.requests.group(audience, record.kind),
            membership: membership(&self.audiences[audience as usize].ledger.id, record.key),
            kind: record.kind,
            reason: record.reason,
            at: record.at,
            key: record.key.into(),
            row: row(record.row),
            previous_row: row(record.previous_row),
            since,
            bytes: 0,
        }
    }

    fn push(&mut self, mut change: Change) {
        if self.webhook.batch.is_some() && change.sent {
            change.bytes = self.webhook.requests.bytes(&change, &self.audiences[change.audience as usize].audience);
        }
        self.queue.push(change);
    }

    /// Returns the number of an audience, by what a block says of it.
    fn audience(&mut self, definition: &[u8]) -> u32 {
        if let Some(&known) = self.known.get(definition) {
            return known;
        }
        let (messages, index) = self.formats.audience(definition);
        self.audiences.push(Known { audience: Audience { messages, index }, ledger: block::audience(definition) });
        let number = self.audiences.len() as u32 - 1;
        self.known.insert(definition.into(), number);
        number
    }

    /// Gives the queue the dead letters that an earlier run was to send again, and forgets those of changes that are still in the log's
    /// hands.
    fn restore_dead_letters(&mut self) -> Result<(), SinkError> {
        let settled = self.progress.settled().clone();
        for number in self.letters.not_settled(|number| settled.contains(number)) {
            self.letters.remove(number)?;
        }
        self.again = self.letters.sent_again().into();
        Ok(())
    }

    /// Gives the queue a dead letter; one that is overtaken is superseded.
    fn push_dead_letter(&mut self, number: u64, forced: bool) -> Result<(), SinkError> {
        let Some(letter) = self.letters.get(number)? else { return Ok(()) };
        if self.letters.is_overtaken(number) && !forced {
            self.letters.remove(number)?;
            self.progress.settle_again(End::Superseded);
            self.log.shared.lock().delivered(1, Written::default());
            return Ok(());
        }
        let membership = letter.membership();
        let definition = block::definition(&letter.audience);
        let audience = self.audience(&definition);
        let change = Change {
            number: letter.log_number,
            dead_letter: Some(number),
            forced,
            sent: true,
            audience,
            group: self.webhook.requests.group(audience, letter.kind),
            membership,
            kind: letter.kind,
            reason: letter.reason,
            at: letter.at,
            key: letter.key.into(),
            row: letter.row.into(),
            previous_row: letter.previous_row.into(),
            since: Instant::now(),
            bytes: 0,
        };
        self.push(change);
        Ok(())
    }

    /// Makes dead letters of what has waited too long, or has too much behind it.
    fn expire(&mut self) -> Result<(), SinkError> {
        if self.scout.is_some() || self.queue.len() == 0 {
            return Ok(());
        }
        let too_old = self.progress.committed_by(self.now().saturating_sub(self.webhook.keep));
        let too_far = self.end.saturating_sub(self.webhook.keep_bytes);
        let before = too_old.max(too_far);
        let place = self.sender.place();
        let number = if place.position <= before {
            place.number
        } else {
            let at = self.starts.partition_point(|start| start.position <= before);
            at.checked_sub(1).map_or(0, |at| self.starts[at].number)
        };
        // What is on its way is looked at when its attempt has ended.
        let looked = (number, place.number, self.counts.ended());
        if number > self.progress.settled().watermark() && self.expired != looked {
            self.queue.expire(number);
            self.expired = looked;
        }
        Ok(())
    }

    /// Starts the requests that may go. They leave once what has begun is written.
    fn start(&mut self) -> Result<(), SinkError> {
        let mut started = Vec::new();
        loop {
            let now = Instant::now();
            if self.queue.wake(now).is_none_or(|wake| wake > now) {
                break;
            }
            if let Some(limiter) = &self.webhook.limiter {
                if let Err(until) = limiter.check() {
                    self.rate_until = Some(now + until.wait_time_from(DefaultClock::default().now()));
                    break;
                }
                self.rate_until = None;
            }
            let Some(attempt) = self.queue.next(now) else { break };
            let audiences = &self.audiences;
            let audience = |change: &Change| &audiences[change.audience as usize].audience;
            match self.webhook.requests.content(&attempt.changes, audience) {
                Ok(content) => started.push((attempt, content)),
                Err((place, reason)) => {
                    self.last_answer = (None, reason.to_string());
                    self.queue.unwritable(attempt.id, place, now);
                }
            }
        }
        self.settle()?;
        for (attempt, content) in started {
            self.send(attempt, content);
        }
        Ok(())
    }

    fn send(&mut self, attempt: Attempt, content: Content) {
        let began = self.now();
        let answer = self.answer(&content, began);
        let (id, bytes, asked) = (content.id, content.body.len() as u64, content.asked);
        let since = Instant::now();
        let ended = move |answer| {
            let latency = since.elapsed();
            Answered { attempt: attempt.id, id, bytes, began, latency, asked, answer }
        };
        self.on_their_way.push(answer.map(ended).boxed());
    }

    /// Sends a request, and waits for its answer.
    fn answer(&self, content: &Content, began: u64) -> impl Future<Output = Result<Answer, String>> + Send + use<> {
        let client = self.webhook.client.clone();
        let requests = Arc::clone(&self.webhook.requests);
        let request = requests.attempt(&client, content, began);
        let since = Instant::now();
        async move {
            let request = request.map_err(|error| super::describe(&error))?;
            let response = client.execute(request).await.map_err(|error| super::describe(&error))?;
            Ok(answer(response, began + since.elapsed().as_millis() as u64, &requests).await)
        }
    }

    /// Takes an answer, and makes durable what it settles.
    fn take(&mut self, answered: Answered) -> Result<(), SinkError> {
        self.ended(answered);
        self.settle()
    }

    fn ended(&mut self, answered: Answered) {
        let Answered { attempt, id, bytes, began, latency, asked, answer } = answered;
        self.said.clear();
        let now = Instant::now();
        let random = self.random.f64();
        let changes = self.queue.changes(attempt);
        let attempted = ended_attempt(id, changes.len(), began, latency, &answer);
        let (status, text) = (attempted.status, attempted.answer.clone());
        self.attempts.push(attempted);
        let mut verdict = status.map_or(Verdict::Endpoint, verdict);
        let mut refused = Vec::new();
        if let (Verdict::Delivered, Ok(answer)) = (verdict, &answer) {
            (verdict, refused) = self.read_parts(&asked, answer);
        }
        self.counts.latency_ms += latency.as_millis() as u64;
        match verdict {
            Verdict::Delivered => self.counts.delivered += 1,
            Verdict::Throttled => self.counts.throttled += 1,
            Verdict::Refused => self.counts.refused += 1,
            Verdict::Endpoint | Verdict::Gone => self.counts.failed += 1,
        }
        let asked = answer.as_ref().ok().and_then(|answer| answer.retry_after);
        let to = self.webhook.requests.target.shown();
        if let Some((_, reason)) = refused.first() {
            self.last_error = Some(format!("`{to}` refused {} of {} changes: {reason}", refused.len(), changes.len()));
        } else if verdict != Verdict::Delivered {
            self.last_error = Some(failure(&to, status, &text));
        }
        self.last_answer = (status, text);
        match verdict {
            Verdict::Delivered => {
                let mut written = Written { bytes, ..Written::default() };
                changes.iter().for_each(|change| written.count(change.kind));
                self.log.shared.lock().delivered(0, written);
                self.queue.delivered(attempt);
            }
            Verdict::Endpoint => self.queue.failed(attempt, asked, false, now, random),
            Verdict::Throttled => self.queue.failed(attempt, asked, true, now, random),
            Verdict::Gone => {
                self.queue.failed(attempt, asked, false, now, random);
                self.queue.breaker.pause(true);
                self.progress.pause(true);
            }
            Verdict::Refused if refused.is_empty() => self.queue.refused(attempt, now, random),
            Verdict::Refused => {
                let places: Vec<usize> = refused.iter().map(|(place, _)| *place).collect();
                let mut written = Written::default();
                let taken = changes.iter().enumerate().filter(|(place, _)| places.binary_search(place).is_err());
                taken.for_each(|(_, change)| written.count(change.kind));
                self.log.shared.lock().delivered(0, written);
                self.said = refused.into_iter().map(|(place, reason)| (changes[place].number, reason)).collect();
                self.queue.delivered_but(attempt, &places, now, random);
            }
        }
        // Other waits are steps of the schedule, which begins anew at a start.
        if asked.is_some()
            && let Some(until) = self.queue.breaker.asked_until()
        {
            let left = until.saturating_duration_since(now).as_millis() as u64;
            self.progress.set_asked_until(self.now() + left);
        }
    }

    /// Reads which changes of a request an answer of 2xx refuses, by their places in order, with the reasons. Refused without such places:
    /// some of them, and the answer does not say which.
    fn read_parts(&self, asked: &Asked, answer: &Answer) -> (Verdict, Vec<(usize, String)>) {
        let requests = &self.webhook.requests;
        if !requests.answers_in_parts() {
            return (Verdict::Delivered, Vec::new());
        }
        let reading = if answer.whole { requests.read(asked, &answer.body) } else { None };
        match reading {
            Some(Reading::Delivered) => (Verdict::Delivered, Vec::new()),
            Some(Reading::Refused(items)) => (Verdict::Refused, items),
            Some(Reading::Unnamed) => (Verdict::Refused, Vec::new()),
            // What was refused is not known: the request is tried again.
            None => (Verdict::Endpoint, Vec::new()),
        }
    }

    /// Takes what has happened in the queue: writes it, so that it survives the end of the process.
    fn settle(&mut self) -> Result<(), SinkError> {
        let is_state = self.scout.is_some();
        let mut settled = 0;
        for event in self.queue.events() {
            let (change, end) = match event {
                Event::Held(membership, held) => {
                    self.progress.hold(membership, held.as_ref().map(|(row, known)| (&row[..], *known)));
                    continue;
                }
                Event::Settled(change, end) => (change, end),
            };
            settled += u64::from(change.sent);
            if let End::Dead(death) = end {
                self.bury(&change, death)?;
            }
            match change.dead_letter {
                Some(number) => {
                    self.letters.remove(number)?;
                    self.progress.settle_again(end);
                }
                None => self.progress.settle(change.number, end),
            }
            if end == End::Delivered || (is_state && !matches!(end, End::Dead(_))) {
                self.letters.overtake(change.membership, change.number)?;
            }
        }
        if settled > 0 {
            self.log.shared.lock().delivered(settled, Written::default());
        }
        self.advance();
        self.progress.set_retried(self.queue.retried);
        if self.progress.is_dirty() {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        self.progress.write(self.queue.held())
    }

    /// Writes a change to the dead letters.
    fn bury(&mut self, change: &Change, death: Death) -> Result<(), SinkError> {
        let (status, answer) = self.last_answer.clone();
        let answer = self.said.remove(&change.number).unwrap_or(answer);
        self.letters.add(&DeadLetter {
            log_number: change.number,
            time: self.now(),
            death,
            status,
            answer,
            audience: self.audiences[change.audience as usize].ledger.clone(),
            kind: change.kind,
            reason: change.reason,
            at: change.at,
            key: change.key.to_string(),
            row: change.row.to_string(),
            previous_row: change.previous_row.to_string(),
        })?;
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> Result<(), SinkError> {
        let Command { order, answer } = command;
        let reply = match order {
            DeliveryOrder::Attempts => {
                Ok(DeliveryReply::Attempts(self.attempts.newest_first().map(EndedAttempt::report).collect()))
            }
            DeliveryOrder::DeadLetters { from, limit } => {
                self.page(from, limit).map(DeliveryReply::DeadLetters).map(Ok)?
            }
            DeliveryOrder::Pause => Ok(self.pause(true)),
            DeliveryOrder::Resume => Ok(self.pause(false)),
            DeliveryOrder::Test => return self.test(answer),
            DeliveryOrder::Redeliver(selection) => match self.select(&selection)? {
                Ok(numbers) => self.redeliver(numbers, selection.force).map(DeliveryReply::Count).map(Ok)?,
                Err(reason) => Err(reason),
            },
            DeliveryOrder::Drop(selection) => match self.select(&selection)? {
                Ok(numbers) => self.drop_dead_letters(numbers).map(DeliveryReply::Count).map(Ok)?,
                Err(reason) => Err(reason),
            },
        };
        self.settle()?;
        self.report();
        // Whoever has asked may have gone.
        let _gone = answer.send(reply);
        Ok(())
    }

    fn pause(&mut self, paused: bool) -> DeliveryReply {
        self.queue.breaker.pause(paused);
        self.progress.pause(paused);
        if !paused {
            self.progress.set_asked_until(0);
        }
        DeliveryReply::Done
    }

    /// Returns a page of dead letters.
    fn page(&self, from: u64, limit: usize) -> Result<DeadLetterPage, SinkError> {
        let numbers: Vec<u64> = self.letters.numbers(from).take(limit + 1).collect();
        let again: BTreeSet<u64> = self.letters.sent_again().into_iter().map(|(number, _)| number).collect();
        let mut dead_letters = Vec::new();
        for &number in numbers.iter().take(limit) {
            if let Some(letter) = self.letters.get(number)? {
                dead_letters.push(letter.report(number, again.contains(&number)));
            }
        }
        Ok(DeadLetterPage { dead_letters, next_cursor: numbers.get(limit).map(u64::to_string) })
    }

    /// Returns the numbers of the dead letters that are selected.
    fn select(&self, selection: &Selection) -> Result<Result<Vec<u64>, ApiError>, SinkError> {
        if let Some(ids) = &selection.ids {
            let number = |id: &String| {
                let number = id.parse().ok().filter(|number| self.letters.numbers(*number).next() == Some(*number));
                number.ok_or_else(|| ApiError::NotFound(format!("there is no dead letter `{id}`")))
            };
            return Ok(ids.iter().map(number).collect());
        }
        let mut numbers: Vec<u64> = self.letters.numbers(0).collect();
        if let Some(audience) = &selection.audience {
            let mut of_audience = Vec::new();
            for number in numbers {
                if self.letters.get(number)?.is_some_and(|letter| letter.audience.id == *audience) {
                    of_audience.push(number);
                }
            }
            numbers = of_audience;
        }
        Ok(Ok(numbers))
    }

    fn redeliver(&mut self, numbers: Vec<u64>, force: bool) -> Result<u64, SinkError> {
        let mut many = 0;
        for number in numbers {
            if self.letters.send_again(number, force)? {
                self.again.push_back((number, force));
                many += 1;
            }
        }
        self.log.shared.lock().again(many);
        Ok(many)
    }

    /// Drops those that are not being sent again.
    fn drop_dead_letters(&mut self, numbers: Vec<u64>) -> Result<u64, SinkError> {
        let again: BTreeSet<u64> = self.letters.sent_again().into_iter().map(|(number, _)| number).collect();
        let mut many = 0;
        for number in numbers.into_iter().filter(|number| !again.contains(number)) {
            self.letters.remove(number)?;
            many += 1;
        }
        Ok(many)
    }

    /// Sends an example.
    fn test(&mut self, answer: oneshot::Sender<control::Answer>) -> Result<(), SinkError> {
        let Some((definition, audience_id)) = self.formats.first() else {
            let reason = "the job has no audiences".to_owned();
            let _gone = answer.send(Err(ApiError::Conflict(reason)));
            return Ok(());
        };
        let audience = self.audience(&definition);
        let change = Change {
            number: 0,
            dead_letter: None,
            forced: false,
            sent: true,
            audience,
            group: 0,
            membership: membership(&audience_id, TEST_KEY),
            kind: ChangeKind::Entry,
            reason: Reason::Event,
            at: self.now(),
            key: TEST_KEY.into(),
            row: Arc::clone(&self.no_row),
            previous_row: Arc::clone(&self.no_row),
            since: Instant::now(),
            bytes: 0,
        };
        let audience = &self.audiences[audience as usize].audience;
        let content = match self.webhook.requests.content(&[Arc::new(change)], |_| audience) {
            Ok(content) => content,
            Err((_, reason)) => {
                let reason = format!("{reason}; an example has no row");
                let _gone = answer.send(Err(ApiError::Conflict(reason)));
                return Ok(());
            }
        };
        let began = self.now();
        let since = Instant::now();
        let answered = self.answer(&content, began);
        let id = content.id;
        tokio::spawn(async move {
            let answered = answered.await;
            let ended = ended_attempt(id, 1, began, since.elapsed(), &answered);
            let _gone = answer.send(Ok(DeliveryReply::Test(ended.report())));
        });
        Ok(())
    }

    /// Moves the place to go on from in the log.
    fn advance(&mut self) {
        let watermark = self.progress.settled().watermark();
        let place = self.sender.place();
        let base = if watermark >= place.number {
            self.starts.clear();
            place
        } else {
            let at = self.starts.partition_point(|start| start.number <= watermark);
            let Some(at) = at.checked_sub(1) else { return };
            self.starts.drain(..at);
            self.starts[0]
        };
        if base.position > self.progress.base().position {
            self.progress.set_base(base);
        }
    }

    fn save_when_due(&mut self) -> Result<(), SinkError> {
        if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY) {
            self.sync()?;
        }
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.letters.sweep(self.now())?;
            self.swept = Instant::now();
        }
        Ok(())
    }

    /// Makes all durable, and now and then removes the segments of the log that nothing needs any more.
    fn sync(&mut self) -> Result<(), SinkError> {
        self.letters.sync()?;
        self.progress.sync()?;
        self.unsynced = None;
        if self.saved.elapsed() >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), SinkError> {
        let position = self.progress.base().position;
        let delivered = self.progress.counts().delivered;
        self.log.cursor.save(Mark { position, length: 0, delivered }, true)?;
        self.saved = Instant::now();
        let (snapshot, is_moved) = {
            let mut state = self.log.shared.lock();
            let is_moved = state.delivered < position;
            state.delivered = position;
            (state.snapshot.0, is_moved)
        };
        if is_moved {
            files::sweep(&self.log.folder, snapshot, position).map_err(refused(&self.log.folder, "written"))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.settle()?;
        self.sync()?;
        self.save()?;
        self.report();
        Ok(())
    }

    /// Says how it stands; a log line where the state has changed.
    fn report(&mut self) {
        let state = self.queue.breaker.state();
        if state != self.state {
            let (sync, to) = (&self.webhook.id, self.webhook.requests.target.shown());
            let error = self.last_error.as_deref().unwrap_or_default();
            match state {
                SyncState::Ok => tracing::info!(sync, %to, state = state.name(), "the webhook takes changes again"),
                SyncState::Paused => {
                    tracing::warn!(sync, %to, state = state.name(), error, "the sync is paused until `usher syncs resume`");
                }
                _ => tracing::warn!(sync, %to, state = state.name(), error, "the webhook does not take changes"),
            }
            self.state = state;
        }
        let counts = self.progress.counts();
        let oldest = self.progress.settled().watermark();
        let start = self.starts.partition_point(|start| start.number <= oldest);
        let position = start.checked_sub(1).map(|at| self.starts[at].position);
        let committed_at = self.progress.committed_at(position.unwrap_or(self.progress.base().position));
        let report = Report {
            state,
            delivered: counts.delivered,
            superseded: counts.superseded,
            dead_letters: counts.dead_letters.saturating_sub(self.letters.again()),
            retries: self.queue.retried,
            attempts: self.counts,
            oldest_waiting_since: committed_at.and_then(|time| {
                let age = Duration::from_millis(self.now().saturating_sub(time));
                Instant::now().checked_sub(age)
            }),
            last_error: self.last_error.clone(),
        };
        self.log.shared.lock().report(report);
    }
}

/// Reads a record, of a block that `reader` has read.
fn next<'a>(records: &mut Records<'a>, reader: &Reader) -> Result<Option<Record<'a>>, SinkError> {
    records.next().ok_or_else(|| damaged(&reader.blocks.path, "a block holds no records"))
}

/// Reads an answer, which came at `now` (ms since the epoch): its status settles the request, whatever becomes of its body.
pub(super) async fn answer(mut response: reqwest::Response, now: u64, requests: &Requests) -> Answer {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status().as_u16();
    // A vendor's header of its limit says nothing of an outage.
    let by_vendor = || (status == 429).then(|| requests.asks_to_wait(response.headers(), now)).flatten();
    let retry_after = header(reqwest::header::RETRY_AFTER)
        .and_then(|value| schedule::retry_after(value, header(reqwest::header::DATE), now))
        .or_else(by_vendor);
    let (kept, most) = match requests.answers_in_parts() {
        true => (PARTS_BYTES, PARTS_BYTES),
        false => (attempts::ANSWER_BYTES, BODY_BYTES),
    };
    let mut body = Vec::new();
    let read = async {
        let mut bytes = 0;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    bytes += chunk.len();
                    let room = kept.saturating_sub(body.len());
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if bytes > most {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    // One that does not end is left: its connection is closed.
    let whole = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(false);
    Answer { status, retry_after, body, whole }
}

fn ended_attempt(
    id: String,
    changes: usize,
    began: u64,
    latency: Duration,
    answer: &Result<Answer, String>,
) -> EndedAttempt {
    let (status, answer) = match answer {
        Ok(answer) => (Some(answer.status), attempts::text(&answer.body)),
        Err(reason) => (None, reason.clone()),
    };
    EndedAttempt { time: began, id, changes, status, latency, answer }
}

/// What is said of an attempt that was not delivered.
fn failure(to: &str, status: Option<u16>, text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    match status {
        Some(status) if text.trim().is_empty() => format!("`{to}` answered {status}"),
        Some(status) => format!("`{to}` answered {status}: {}", text.trim()),
        None => format!("`{to}` did not answer: {text}"),
    }
}
