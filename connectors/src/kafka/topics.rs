//! Topics of a cluster by name: what they are, and which name was probably meant by one that is missing.

use super::client::{Context, REQUEST, retry};
use super::error::Problem;
use super::ffi::{self, TopicDescription};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use std::future::Future;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most names that an error suggests.
const SUGGESTIONS_MAX: usize = 3;

/// How long a topic is looked for again that the broker which was asked does not know: of a new topic the brokers learn one after the other.
const NEW_TOPIC: Duration = Duration::from_secs(3);

/// Returns the descriptions of topics, in the order of `names`.
///
/// # Errors
///
/// A topic is missing, the brokers refuse, or they do not answer within `patience`.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    context: &Context,
    names: &[&str],
    patience: Duration,
) -> Result<Vec<TopicDescription>, Problem> {
    let found = find(client, context, names, names.len(), patience)?;
    let mut all = Vec::new();
    for (name, found) in names.iter().zip(found) {
        all.push(found.ok_or_else(|| missing(client, context, name))?);
    }
    Ok(all)
}

/// Returns the descriptions of topics, in the order of `names`; `None` for a topic that is missing. The first `expected` ones are looked for
/// again for a while, for they may be new.
///
/// # Errors
///
/// The brokers refuse, or do not answer within `patience`.
pub(super) fn find<C: ClientContext>(
    client: &Client<C>,
    context: &Context,
    names: &[&str],
    expected: usize,
    patience: Duration,
) -> Result<Vec<Option<TopicDescription>>, Problem> {
    let until = Instant::now() + NEW_TOPIC;
    loop {
        let found = retry(context, patience, || ffi::describe(client, names, REQUEST))?;
        if found[..expected].iter().all(Option::is_some) || Instant::now() >= until {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a client that asks for settings and creates topics. It takes up to 100 ms to end: its polling thread looks so often whether it is to.
pub(super) fn admin(config: &ClientConfig, context: Context) -> Result<AdminClient<Context>, Problem> {
    config.create_with_context(context).map_err(|error| Problem::not_created(&error))
}

/// An admin client that ends, in a thread of its own. Whoever drops this waits for the end.
pub(super) struct Ending(Option<JoinHandle<()>>);

impl Ending {
    pub(super) fn of(admin: AdminClient<Context>) -> Ending {
        // Where there is no thread the client has ended once the closure is dropped.
        Ending(std::thread::Builder::new().name("kafka".to_owned()).spawn(move || drop(admin)).ok())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}

/// Returns a setting of topics, in the order of `names`; the brokers' code where they do not show it.
///
/// # Errors
///
/// The brokers refuse, or do not answer within `patience`.
pub(super) fn setting(
    admin: &AdminClient<Context>,
    names: &[&str],
    name: &str,
    patience: Duration,
) -> Result<Vec<Result<String, RDKafkaErrorCode>>, Problem> {
    let wanted: Vec<ResourceSpecifier<'_>> = names.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let found = retry(admin.inner().context(), patience, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        wait(admin.describe_configs(&wanted, &options), "the settings of a topic")
    })?;
    let value = |resource: ConfigResource| resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    Ok(found.into_iter().map(|resource| resource.map(value)).collect())
}

/// Waits for the answer to a request, which has a timeout of its own.
pub(super) fn wait<T>(request: impl Future<Output = KafkaResult<T>>, what: &str) -> Result<T, Problem> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(request).map_err(|error| Problem::of_error(&error, what))
}

/// Returns the problem of a missing topic, with the names of topics that may have been meant.
pub(super) fn missing<C: ClientContext>(client: &Client<C>, context: &Context, name: &str) -> Problem {
    let metadata = client.fetch_metadata(None, REQUEST).ok();
    let all: Vec<&str> = metadata.iter().flat_map(|found| found.topics()).map(|topic| topic.name()).collect();
    let suggested = suggestions(name, &all);
    let suggested = if suggested.is_empty() { String::new() } else { format!("; there is {}", suggested.join(", ")) };
    Problem::permanent(
        format!("`{}` has no topic `{name}`{suggested}", context.brokers()),
        "create the topic, or correct its name",
    )
}

/// Returns the topics that may be meant by `name`: the nearest, then those that contain it or that it contains.
fn suggestions(name: &str, all: &[&str]) -> Vec<String> {
    let nearest = usher_config::nearest(name, all.iter().copied());
    let mut alike: Vec<&str> =
        all.iter().copied().filter(|topic| topic.contains(name) || name.contains(topic)).collect();
    alike.retain(|topic| Some(*topic) != nearest);
    alike.sort_unstable_by_key(|topic| (topic.len().abs_diff(name.len()), *topic));
    nearest.into_iter().chain(alike).take(SUGGESTIONS_MAX).map(|topic| format!("`{topic}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::suggestions;

    #[test]
    fn a_missing_topic_suggests_near_names_and_names_that_contain_it() {
        let all = ["pricing-events", "events", "web-events", "orders", "app-events", "mobile-events"];
        assert_eq!(suggestions("pricing-event", &all), ["`pricing-events`"]);
        assert_eq!(suggestions("event", &all), ["`events`", "`app-events`", "`web-events`"]);
        assert!(suggestions("users", &all).is_empty());
    }
}
