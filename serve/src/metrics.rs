//! The metrics of `/metrics`: the server's own counters, and those of the index and the job, read at each scrape.
//!
//! Names begin with `usher_`, contain their unit, and end with `_total` if they only grow.

use axum::http::StatusCode;
use prometheus::core::Collector;
use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
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
    /// Returns counters at 0, beside the histogram of epochs of `index`.
    pub(crate) fn new(index: &MembershipIndex) -> ServerMetrics {
        let opts = Opts::new("usher_api_requests_total", "Requests to the API, by route and status.");
        let requests = IntCounterVec::new(opts, &["route", "status"]).expect("names and labels are valid");
        let opts =
            HistogramOpts::new("usher_api_request_seconds", "Time until the head of the answer was ready, by route.");
        let seconds =
            HistogramVec::new(opts.buckets(SECONDS.to_vec()), &["route"]).expect("names and labels are valid");
        let registry = Registry::new();
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
        let mut families = self.registry.gather();
        families.extend(scrape.0.gather());
        TextEncoder::new().encode_to_string(&families).expect("gathered families have a text form")
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("each name is registered once");
}

/// The metrics of the index and the job at one time.
struct Scrape(Registry);

impl Scrape {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
        register(&self.0, gauge.clone());
        gauge
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("names and labels are valid");
        register(&self.0, counter.clone());
        counter
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
            size.with_label_values(&id).set(count.size as i64);
            entries.with_label_values(&id).inc_by(count.entries);
            exits.with_label_values(&id).inc_by(count.exits);
        }
        let as_of = self.gauge(
            "usher_as_of_ms",
            "The time that lookups are as of, ms since the epoch; 0 before there is any.",
            &[],
        );
        let live = self.gauge(
            "usher_live",
            "1 if the job is live; 0 if lookups are answered from the ledgers, or not at all.",
            &[],
        );
        let now = index.as_of();
        as_of.with_label_values(&[] as &[&str]).set(now.map_or(0, |as_of| as_of.time as i64));
        live.with_label_values(&[] as &[&str]).set(i64::from(now.is_some_and(|as_of| !as_of.recovering)));
    }

    fn models(&self, api: &dyn Api) {
        let freshness = self.gauge(
            "usher_model_freshness",
            "1 for the freshness of the snapshot, 0 for the others.",
            &["model", "freshness"],
        );
        let rows = self.gauge("usher_model_rows", "Rows of the snapshot in force.", &["model"]);
        let last = self.gauge(
            "usher_model_last_pull_ms",
            "When the snapshot in force was pulled, ms since the epoch.",
            &["model"],
        );
        let took = self.gauge("usher_pull_duration_ms", "Duration of the last pull that ended.", &["model"]);
        let pulls =
            self.counter("usher_pulls_total", "Pulls that ended since the start, by result.", &["model", "status"]);
        for model in api.models() {
            for one in Freshness::ALL {
                // A model that is never pulled has no freshness.
                if let Some(now) = model.freshness {
                    freshness.with_label_values(&[&model.id[..], one.name()]).set(i64::from(one == now));
                }
            }
            let id = [&model.id[..]];
            if let Some(count) = model.rows {
                rows.with_label_values(&id).set(count as i64);
            }
            if let Some(time) = model.last_pull {
                last.with_label_values(&id).set(time.0 as i64);
            }
            let PullCounts { succeeded, failed, held } = model.pulls;
            for (name, count) in [("succeeded", succeeded), ("failed", failed), ("held", held)] {
                pulls.with_label_values(&[&model.id[..], name]).inc_by(count);
            }
            if let Some(duration) = api.pulls(&model.id).iter().find_map(|pull| pull.duration_ms) {
                took.with_label_values(&id).set(duration as i64);
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
            "usher_sync_oldest_waiting_ms",
            "For how long a sync has had changes to deliver and has delivered none.",
            &["sync"],
        );
        let retries = self.counter("usher_sync_retries_total", "Deliveries that were retried.", &["sync"]);
        let dead = self.counter(
            "usher_sync_dead_letters_total",
            "Changes that were given up and written to the dead letters.",
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
        let latency = self.counter("usher_sync_attempts_ms_total", "How long these attempts took.", &["sync"]);
        for sync in api.syncs() {
            let id = [&sync.id[..]];
            committed.with_label_values(&id).inc_by(sync.committed);
            delivered.with_label_values(&id).inc_by(sync.delivered);
            waiting.with_label_values(&id).set(sync.waiting as i64);
            oldest.with_label_values(&id).set(sync.oldest_waiting_ms as i64);
            retries.with_label_values(&id).inc_by(sync.retries);
            dead.with_label_values(&id).inc_by(sync.dead_letters);
            superseded.with_label_values(&id).inc_by(sync.superseded);
            for name in SyncState::ALL {
                state.with_label_values(&[&sync.id[..], name.name()]).set(i64::from(name == sync.state));
            }
            let AttemptCounts { delivered, failed, throttled, refused, latency_ms } = sync.attempts;
            let outcomes =
                [("delivered", delivered), ("failed", failed), ("throttled", throttled), ("refused", refused)];
            for (outcome, count) in outcomes {
                attempts.with_label_values(&[&sync.id[..], outcome]).inc_by(count);
            }
            latency.with_label_values(&id).inc_by(latency_ms);
        }
    }

    fn events(&self, api: &dyn Api) {
        let matched =
            self.counter("usher_event_matched_total", "Messages that match the event, repeats included.", &["event"]);
        let repeats =
            self.counter("usher_event_repeats_total", "Matched messages that repeat an earlier one.", &["event"]);
        let seen = self.gauge(
            "usher_event_last_seen_timestamp_seconds",
            "The greatest timestamp of the event's messages.",
            &["event"],
        );
        for event in api.events() {
            let id = [&event.id[..]];
            matched.with_label_values(&id).inc_by(event.matched);
            repeats.with_label_values(&id).inc_by(event.repeats);
            if let Some(Moment(ms)) = event.last_seen {
                seen.with_label_values(&id).set((ms / 1000) as i64);
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
            read.with_label_values(&id).inc_by(counts.read);
            matched.with_label_values(&id).inc_by(counts.matched);
            repeats.with_label_values(&id).inc_by(counts.repeats);
            mismatches.with_label_values(&id).inc_by(counts.mismatches);
            for skip in Skip::ALL {
                skipped.with_label_values(&[&source[..], skip.name()]).inc_by(counts.skipped(skip));
            }
            for reason in DeadLetterReason::ALL {
                dead.with_label_values(&[&source[..], reason.name()]).inc_by(counts.dead_letters(reason));
            }
        }
        let labels = ["source", "partition"];
        let position = self.gauge("usher_partition_position", "Position of the next message to read.", &labels);
        let lag = self.gauge(
            "usher_partition_lag_messages",
            "Messages that are in the partition and were not read yet.",
            &labels,
        );
        let lag_ms = self.gauge(
            "usher_partition_lag_ms",
            "How far the newest message that was read is behind the clock.",
            &labels,
        );
        for partition in &metrics.partitions {
            let id = [&partition.source[..], &partition.partition[..]];
            position.with_label_values(&id).set(partition.position as i64);
            if let Some(messages) = partition.lag_messages {
                lag.with_label_values(&id).set(messages as i64);
            }
            if let Some(ms) = partition.lag_ms {
                lag_ms.with_label_values(&id).set(ms as i64);
            }
        }
        let damaged = self.gauge(
            "usher_damaged_files",
            "Files of the source that are damaged in the middle: what comes before counts.",
            &["source"],
        );
        for (source, files) in &metrics.damaged_files {
            damaged.with_label_values(&[&source[..]]).set(*files as i64);
        }
        let ahead = Gauge::new("usher_clock_ahead_seconds", "How far the job's clock is ahead of the machine's.");
        let ahead = ahead.expect("the name is valid");
        register(&self.0, ahead.clone());
        ahead.set(metrics.clock_ahead_ms as f64 / 1e3);
        let state = self.gauge("usher_state_bytes", "Size of the state.", &[]);
        state.with_label_values(&[] as &[&str]).set(metrics.state_bytes as i64);
        let none: [&str; 0] = [];
        let CheckpointMetrics { made, failed, age_ms, took_ms } = metrics.checkpoints;
        self.counter("usher_checkpoints_total", "Checkpoints that were made.", &[])
            .with_label_values(&none)
            .inc_by(made);
        self.counter("usher_checkpoints_failed_total", "Checkpoints that were given up.", &[])
            .with_label_values(&none)
            .inc_by(failed);
        if let Some(age_ms) = age_ms {
            let age = self.gauge("usher_checkpoint_age_ms", "How long ago the last checkpoint was made.", &[]);
            age.with_label_values(&none).set(age_ms as i64);
            let took = self.gauge("usher_checkpoint_duration_ms", "How long the last checkpoint took.", &[]);
            took.with_label_values(&none).set(took_ms as i64);
        }
    }
}
