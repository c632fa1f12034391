//! The metrics of `/metrics`: the server's own counters, and those of the index and the job, read at each scrape.
//!
//! Names begin with `usher_`, end with their unit (base units: seconds, bytes), and with `_total` if they only grow; those of the process
//! are Prometheus' usual ones. `docs/METRICS.md` has them all, which a test holds to what is answered.

use crate::options::Build;
use crate::process;
use axum::http::StatusCode;
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use std::time::Duration;
use usher_core::api::{Api, CheckpointMetrics, Freshness, Moment, PullCounts};
use usher_core::counts::Skip;
use usher_core::dead_letters::DeadLetterReason;
use usher_core::membership_index::MembershipIndex;
use usher_core::sink::{AttemptCounts, SyncState};

/// Bounds of the buckets of answers' durations, in seconds.
const SECONDS: [f64; 10] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0];

/// The counters of the server, and the text of all metrics.
pub(crate) struct ServerMetrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl ServerMetrics {
    /// Returns counters at 0, beside the histogram of epochs of `index`, and what the program was built from.
    pub(crate) fn new(index: &MembershipIndex, build: &Build) -> ServerMetrics {
        let opts = Opts::new("usher_api_requests_total", "Requests to the API, by route and status.");
        let requests = IntCounterVec::new(opts, &["route", "status"]).expect("names and labels are valid");
        let opts =
            HistogramOpts::new("usher_api_request_seconds", "Time until the head of the answer was ready, by route.");
        let seconds =
            HistogramVec::new(opts.buckets(SECONDS.to_vec()), &["route"]).expect("names and labels are valid");
        let Build { version, commit, features, librdkafka } = build;
        let opts = Opts::new("usher_build_info", "1, with what the program was built from as labels.");
        let info = GaugeVec::new(opts, &["version", "commit", "features", "librdkafka"]).expect("labels are valid");
        info.with_label_values(&[&version[..], commit, features, librdkafka]).set(1.0);
        let registry = Registry::new();
        register(&registry, info);
        register(&registry, requests.clone());
        register(&registry, seconds.clone());
        register(&registry, index.epochs().clone());
        ServerMetrics { registry, requests, seconds }
    }

    /// Counts a request to `route` that was answered with `status`, `took` after it came.
    pub(crate) fn count(&self, route: &str, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[route, status.as_str()]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Returns all metrics in Prometheus' text format.
    pub(crate) fn text(&self, index: &MembershipIndex, api: &dyn Api) -> String {
        let scrape = Scrape(Registry::new());
        scrape.index(index);
        scrape.models(api);
        scrape.syncs(api);
        scrape.events(api);
        scrape.job(api);
        scrape.process();
        let mut families = self.registry.gather();
        families.extend(scrape.0.gather());
        TextEncoder::new().encode_to_string(&families).expect("gathered families have a text form")
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("each name is registered once");
}

/// The labels of what has none.
const NONE: &[&str] = &[];

/// Returns milliseconds as seconds.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

/// The metrics of the index and the job at one time.
struct Scrape(Registry);

impl Scrape {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let gauge = GaugeVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
        register(&self.0, gauge.clone());
        gauge
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let counter = CounterVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
        register(&self.0, counter.clone());
        counter
    }

    /// Gives a gauge without labels.
    fn set(&self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[]).with_label_values(NONE).set(value);
    }

    /// Gives a counter without labels.
    fn count(&self, name: &str, help: &str, value: f64) {
        self.counter(name, help, &[]).with_label_values(NONE).inc_by(value);
    }

    fn index(&self, index: &MembershipIndex) {
        let size = self.gauge("usher_audience_members", "Members of the audience.", &["audience"]);
        let entries = self.counter(
            "usher_audience_entries_total",
            "Entries since the start, including one for each member at the start.",
            &["audience"],
        );
        let exits = self.counter("usher_audience_exits_total", "Exits since the start.", &["audience"]);
        for (audience, count) in index.audiences().iter().zip(index.counts()) {
            let id = [&audience.id[..]];
            size.with_label_values(&id).set(count.size as f64);
            entries.with_label_values(&id).inc_by(count.entries as f64);
            exits.with_label_values(&id).inc_by(count.exits as f64);
        }
        let now = index.as_of();
        self.set(
            "usher_as_of_timestamp_seconds",
            "The time that lookups are as of; 0 before there is any.",
            now.map_or(0.0, |as_of| seconds(as_of.time)),
        );
        self.set(
            "usher_live",
            "1 if the job is live; 0 if lookups are answered from the ledgers, or not at all.",
            f64::from(now.is_some_and(|as_of| !as_of.recovering)),
        );
    }

    fn models(&self, api: &dyn Api) {
        let freshness = self.gauge(
            "usher_model_freshness",
            "1 for the freshness of the snapshot, 0 for the others.",
            &["model", "freshness"],
        );
        let rows = self.gauge("usher_model_rows", "Rows of the snapshot in force.", &["model"]);
        let last =
            self.gauge("usher_model_last_pull_timestamp_seconds", "When the snapshot in force was pulled.", &["model"]);
        let took = self.gauge("usher_pull_duration_seconds", "Duration of the last pull that ended.", &["model"]);
        let pulls =
            self.counter("usher_pulls_total", "Pulls that ended since the start, by result.", &["model", "status"]);
        for model in api.models() {
            for one in Freshness::ALL {
                // A model that is never pulled has no freshness.
                if let Some(now) = model.freshness {
                    freshness.with_label_values(&[&model.id[..], one.name()]).set(f64::from(one == now));
                }
            }
            let id = [&model.id[..]];
            if let Some(count) = model.rows {
                rows.with_label_values(&id).set(count as f64);
            }
            if let Some(time) = model.last_pull {
                last.with_label_values(&id).set(seconds(time.0));
            }
            let PullCounts { succeeded, failed, held } = model.pulls;
            for (name, count) in [("succeeded", succeeded), ("failed", failed), ("held", held)] {
                pulls.with_label_values(&[&model.id[..], name]).inc_by(count as f64);
            }
            if let Some(duration) = api.pulls(&model.id).iter().find_map(|pull| pull.duration_ms) {
                took.with_label_values(&id).set(seconds(duration));
            }
        }
    }

    fn syncs(&self, api: &dyn Api) {
        let committed =
            self.counter("usher_sync_committed_total", "Changes committed to the ledger of a sync.", &["sync"]);
        let delivered =
            self.counter("usher_sync_delivered_total", "Changes delivered to the destination of a sync.", &["sync"]);
        let waiting = self.gauge("usher_sync_waiting", "Changes that are committed and not delivered yet.", &["sync"]);
        let oldest = self.gauge(
            "usher_sync_oldest_waiting_seconds",
            "For how long a sync has had changes to deliver and has delivered none.",
            &["sync"],
        );
        let retries = self.counter("usher_sync_retries_total", "Deliveries that were retried.", &["sync"]);
        let dead = self.gauge(
            "usher_sync_dead_letters",
            "Changes that were given up and are in the dead letters: neither sent again nor dropped.",
            &["sync"],
        );
        let superseded = self.counter(
            "usher_sync_superseded_total",
            "Changes that need not be sent any more: a later one of their audience and key holds.",
            &["sync"],
        );
        let state = self.gauge("usher_sync_state", "1 for the state that the sync is in.", &["sync", "state"]);
        let attempts = self.counter(
            "usher_sync_attempts_total",
            "Attempts to deliver to a webhook, by how they ended.",
            &["sync", "outcome"],
        );
        let latency =
            self.counter("usher_sync_attempts_seconds_total", "How long these attempts took together.", &["sync"]);
        for sync in api.syncs() {
            let id = [&sync.id[..]];
            committed.with_label_values(&id).inc_by(sync.committed as f64);
            delivered.with_label_values(&id).inc_by(sync.delivered as f64);
            waiting.with_label_values(&id).set(sync.waiting as f64);
            oldest.with_label_values(&id).set(seconds(sync.oldest_waiting_ms));
            retries.with_label_values(&id).inc_by(sync.retries as f64);
            dead.with_label_values(&id).set(sync.dead_letters as f64);
            superseded.with_label_values(&id).inc_by(sync.superseded as f64);
            for name in SyncState::ALL {
                state.with_label_values(&[&sync.id[..], name.name()]).set(f64::from(name == sync.state));
            }
            let AttemptCounts { delivered, failed, throttled, refused, latency_ms } = sync.attempts;
            let outcomes =
                [("delivered", delivered), ("failed", failed), ("throttled", throttled), ("refused", refused)];
            for (outcome, count) in outcomes {
                attempts.with_label_values(&[&sync.id[..], outcome]).inc_by(count as f64);
            }
            latency.with_label_values(&id).inc_by(seconds(latency_ms));
        }
    }

    fn events(&self, api: &dyn Api) {
        let matched =
            self.counter("usher_event_matched_total", "Messages that match the event, repeats included.", &["event"]);
        let repeats =
            self.counter("usher_event_repeats_total", "Matched messages that repeat an earlier one.", &["event"]);
        let without_row = self.counter(
            "usher_event_without_row_total",
            "Matched messages whose key has no row in the model's snapshot.",
            &["event"],
        );
        let seen = self.gauge(
            "usher_event_last_seen_timestamp_seconds",
            "The greatest timestamp of the event's messages.",
            &["event"],
        );
        for event in api.events() {
            let id = [&event.id[..]];
            matched.with_label_values(&id).inc_by(event.matched as f64);
            repeats.with_label_values(&id).inc_by(event.repeats as f64);
            if let Some(count) = event.without_row {
                without_row.with_label_values(&id).inc_by(count as f64);
            }
            if let Some(Moment(ms)) = event.last_seen {
                seen.with_label_values(&id).set(seconds(ms));
            }
        }
    }

    fn job(&self, api: &dyn Api) {
        let metrics = api.metrics();
        let read = self.counter("usher_messages_read_total", "Messages that were read.", &["source"]);
        let matched = self.counter("usher_messages_matched_total", "Messages that match an event.", &["source"]);
        let skipped = self.counter(
            "usher_messages_skipped_total",
            "Valid messages that no event of the job uses.",
            &["source", "reason"],
        );
        let dead =
            self.counter("usher_dead_letters_total", "Messages that can't be used, by reason.", &["source", "reason"]);
        let repeats =
            self.counter("usher_messages_repeated_total", "Matched messages that repeat an earlier one.", &["source"]);
        let mismatches = self.counter(
            "usher_mismatches_total",
            "Values of another type than their column, read as null.",
            &["source"],
        );
        for (source, counts) in &metrics.messages {
            let id = [&source[..]];
            read.with_label_values(&id).inc_by(counts.read as f64);
            matched.with_label_values(&id).inc_by(counts.matched as f64);
            repeats.with_label_values(&id).inc_by(counts.repeats as f64);
            mismatches.with_label_values(&id).inc_by(counts.mismatches as f64);
            for skip in Skip::ALL {
                skipped.with_label_values(&[&source[..], skip.name()]).inc_by(counts.skipped(skip) as f64);
            }
            for reason in DeadLetterReason::ALL {
                dead.with_label_values(&[&source[..], reason.name()]).inc_by(counts.dead_letters(reason) as f64);
            }
        }
        let labels = ["source", "partition"];
        let position = self.gauge("usher_partition_position", "Position of the next message to read.", &labels);
        let lag = self.gauge(
            "usher_partition_lag_messages",
            "Messages that are in the partition and were not read yet.",
            &labels,
        );
        let lag_seconds = self.gauge(
            "usher_partition_lag_seconds",
            "How far the newest message that was read is behind the clock.",
            &labels,
        );
        for partition in &metrics.partitions {
            let id = [&partition.source[..], &partition.partition[..]];
            position.with_label_values(&id).set(partition.position as f64);
            if let Some(messages) = partition.lag_messages {
                lag.with_label_values(&id).set(messages as f64);
            }
            if let Some(ms) = partition.lag_ms {
                lag_seconds.with_label_values(&id).set(seconds(ms));
            }
        }
        let damaged = self.gauge(
            "usher_damaged_files",
            "Files of the source that are damaged in the middle: what comes before counts.",
            &["source"],
        );
        for (source, files) in &metrics.damaged_files {
            damaged.with_label_values(&[&source[..]]).set(*files as f64);
        }
        self.set(
            "usher_clock_ahead_seconds",
            "How far the job's clock is ahead of the machine's.",
            seconds(metrics.clock_ahead_ms),
        );
        self.set("usher_state_bytes", "Size of the state in the last checkpoint.", metrics.state_bytes as f64);
        let CheckpointMetrics { made, failed, age_ms, took_ms } = metrics.checkpoints;
        self.count("usher_checkpoints_total", "Checkpoints that were made.", made as f64);
        self.count("usher_checkpoints_failed_total", "Checkpoints that were given up.", failed as f64);
        if let Some(age_ms) = age_ms {
            self.set(
                "usher_checkpoint_age_seconds",
                "How long ago the last checkpoint was made; before the first, how long ago the job was started.",
                seconds(age_ms),
            );
        }
        if let Some(took_ms) = took_ms {
            self.set("usher_checkpoint_duration_seconds", "How long the last checkpoint took.", seconds(took_ms));
        }
    }

    fn process(&self) {
        let Some(process) = process::read() else { return };
        self.count("process_cpu_seconds_total", "CPU time of the process, user and system.", process.cpu_seconds);
        self.set("process_resident_memory_bytes", "Memory of the process that is in RAM.", process.resident_bytes);
        self.set("process_virtual_memory_bytes", "Address space of the process.", process.virtual_bytes);
        self.set("process_open_fds", "Open files and sockets of the process.", process.open_files);
        self.set("process_max_fds", "How many files and sockets the process may open.", process.max_files);
        self.set("process_start_time_seconds", "When the process started.", process.started);
    }
}
