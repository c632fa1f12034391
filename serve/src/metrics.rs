//! `/metrics`: what is counted here, and what the job and the index tell when they are asked.
//!
//! Names begin with `usher_`, have their unit in them, and end with `_total` where they only grow.

use axum::http::StatusCode;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use std::time::Duration;
use usher_core::api::{Api, Freshness, PullResult};
use usher_core::counts::Skip;
use usher_core::dead_letters::DeadLetterReason;
use usher_core::membership_index::MembershipIndex;

/// Bounds of the buckets of answers' durations, in seconds.
const SECONDS: [f64; 10] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0];

/// What the server counts.
pub(super) struct MetricsText {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl MetricsText {
    pub(super) fn new(index: &MembershipIndex) -> MetricsText {
        let opts = Opts::new("usher_api_requests_total", "Requests of the API, by route and status.");
        let requests = IntCounterVec::new(opts, &["route", "status"]).expect("the names are some");
        let opts = HistogramOpts::new("usher_api_request_seconds", "Time to an answer's head, by route.");
        let seconds = HistogramVec::new(opts.buckets(SECONDS.to_vec()), &["route"]).expect("the names are some");
        let registry = Registry::new();
        register(&registry, requests.clone());
        register(&registry, seconds.clone());
        register(&registry, index.epochs().clone());
        MetricsText { registry, requests, seconds }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, route: &str, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[route, status.as_str()]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Everything, as text.
    pub(super) fn text(&self, index: &MembershipIndex, api: &dyn Api) -> String {
        let asked = Asked(Registry::new());
        asked.index(index);
        asked.models(api);
        asked.syncs(api);
        asked.job(api);
        let mut families = self.registry.gather();
        families.extend(asked.0.gather());
        TextEncoder::new().encode_to_string(&families).expect("families that were gathered have a text form")
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("each name is registered once");
}

/// What is asked for now.
struct Asked(Registry);

impl Asked {
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("the names are some");
        register(&self.0, gauge.clone());
        gauge
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("the names are some");
        register(&self.0, counter.clone());
        counter
    }

    fn index(&self, index: &MembershipIndex) {
        let size = self.gauge("usher_audience_members", "Members.", &["audience"]);
        let entries = self.counter("usher_audience_entries_total", "Entries since the start.", &["audience"]);
        let exits = self.counter("usher_audience_exits_total", "Exits since the start.", &["audience"]);
        for (audience, count) in index.audiences().iter().zip(index.counts()) {
            let id = [&audience.id[..]];
            size.with_label_values(&id).set(count.size as i64);
            entries.with_label_values(&id).inc_by(count.entries);
            exits.with_label_values(&id).inc_by(count.exits);
        }
        let as_of = self.gauge("usher_as_of_ms", "What lookups are as of, ms since the epoch; 0: nothing yet.", &[]);
        let live = self.gauge("usher_live", "1: lookups are what holds; 0: what was told, or nothing.", &[]);
        let now = index.as_of();
        as_of.with_label_values(&[] as &[&str]).set(now.map_or(0, |as_of| as_of.time as i64));
        live.with_label_values(&[] as &[&str]).set(i64::from(now.is_some_and(|as_of| !as_of.recovering)));
    }

    fn models(&self, api: &dyn Api) {
        let freshness = self.gauge("usher_model_freshness", "1 for how new the snapshot is.", &["model", "freshness"]);
        let rows = self.gauge("usher_model_rows", "Rows of the snapshot in force.", &["model"]);
        let last = self.gauge("usher_model_last_pull_ms", "When the snapshot in force was pulled.", &["model"]);
        let took = self.gauge("usher_pull_duration_ms", "How long the last pull took.", &["model"]);
        let pulls = self.gauge("usher_pulls", "Pulls that are remembered, by how they ended.", &["model", "status"]);
        for model in api.models() {
            for one in Freshness::ALL {
                freshness.with_label_values(&[&model.id[..], one.name()]).set(i64::from(one == model.freshness));
            }
            let id = [&model.id[..]];
            if let Some(count) = model.rows {
                rows.with_label_values(&id).set(count as i64);
            }
            if let Some(time) = model.last_pull {
                last.with_label_values(&id).set(time.0 as i64);
            }
            let remembered = api.pulls(&model.id);
            for (status, name) in [(PullResult::Succeeded, "succeeded"), (PullResult::Failed, "failed")] {
                let count = remembered.iter().filter(|pull| pull.status == status).count();
                pulls.with_label_values(&[&model.id[..], name]).set(count as i64);
            }
            if let Some(duration) = remembered.iter().find_map(|pull| pull.duration_ms) {
                took.with_label_values(&id).set(duration as i64);
            }
        }
    }

    fn syncs(&self, api: &dyn Api) {
        let committed = self.counter("usher_sync_committed_total", "Changes that syncs were told of.", &["sync"]);
        let delivered = self.counter("usher_sync_delivered_total", "Changes that were delivered.", &["sync"]);
        let waiting = self.gauge("usher_sync_waiting", "Changes that wait to be delivered.", &["sync"]);
        let retries = self.counter("usher_sync_retries_total", "Deliveries that were tried again.", &["sync"]);
        let dead = self.counter("usher_sync_dead_letters_total", "Changes given up.", &["sync"]);
        for sync in api.syncs() {
            let id = [&sync.id[..]];
            committed.with_label_values(&id).inc_by(sync.committed);
            delivered.with_label_values(&id).inc_by(sync.delivered);
            waiting.with_label_values(&id).set(sync.waiting as i64);
            retries.with_label_values(&id).inc_by(sync.retries);
            dead.with_label_values(&id).inc_by(sync.dead_letters);
        }
    }

    fn job(&self, api: &dyn Api) {
        let metrics = api.metrics();
        let read = self.counter("usher_messages_read_total", "Messages that were read.", &["source"]);
        let matched = self.counter("usher_messages_matched_total", "Messages that match an event.", &["source"]);
        let skipped =
            self.counter("usher_messages_skipped_total", "Messages without a part in anything.", &["source", "reason"]);
        let dead = self.counter("usher_dead_letters_total", "Messages that can't be used.", &["source", "reason"]);
        let repeats = self.counter("usher_messages_repeated_total", "Matched messages that are copies.", &["source"]);
        let mismatches = self.counter("usher_mismatches_total", "Values of a wrong type, read as null.", &["source"]);
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
        let position = self.gauge("usher_partition_position", "Where the next message starts.", &labels);
        let lag = self.gauge("usher_partition_lag_messages", "Messages that have not been read.", &labels);
        let lag_ms = self.gauge("usher_partition_lag_ms", "How far the newest message is behind the clock.", &labels);
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
        let state = self.gauge("usher_state_bytes", "Bytes of state.", &[]);
        state.with_label_values(&[] as &[&str]).set(metrics.state_bytes as i64);
    }
}
