//! A broker for tests, and plain clients that make and look at topics.

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use usher_config::Kafka;
#[cfg(feature = "tls")]
use usher_config::{Secret, Setting};

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(10);

/// The one that tests share; it ends with this process.
pub fn broker() -> Option<&'static Broker> {
    static SHARED: LazyLock<Option<Broker>> = LazyLock::new(|| Broker::start("shared"));
    SHARED.as_ref()
}

pub struct Broker {
    folder: PathBuf,
    /// What `scripts/kafka up` prints.
    variables: HashMap<String, String>,
}

/// A message as a plain consumer of what is committed sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: Option<String>,
    pub headers: BTreeMap<String, String>,
}

fn script(verb: &str, folder: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
    Command::new(script)
        .arg(verb)
        .arg(folder)
        .env("USHER_KAFKA_FOR", std::process::id().to_string())
        .output()
        .expect("bash runs scripts")
}

impl Broker {
    /// Starts one of its own; none: it can't be, which is said.
    pub fn start(name: &str) -> Option<Broker> {
        let folder = std::env::temp_dir().join(format!("usher-kafka-{}-{name}", std::process::id()));
        let up = script("up", &folder);
        if up.status.code() == Some(3) {
            let why = String::from_utf8_lossy(&up.stderr);
            // Past the test harness, which keeps what passing tests print.
            let _ = writeln!(std::io::stdout(), "not run, for there is no broker: {why}");
            return None;
        }
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let text = String::from_utf8(up.stdout).unwrap();
        let variables = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Broker { folder, variables })
    }

    /// Stops or starts it; its data stay.
    pub fn turn(&self, verb: &str) {
        let output = script(verb, &self.folder);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn variable(&self, name: &str) -> String {
        self.variables[name].clone()
    }

    pub fn kafka(&self) -> Kafka {
        Kafka { brokers: self.variable("KAFKA_BROKERS"), ..Kafka::default() }
    }

    /// With a user, over TLS. The password is `${PASSWORD}`.
    #[cfg(feature = "tls")]
    pub fn secure(&self) -> Kafka {
        let plain = |name: &str, value: &str| (name.to_owned(), Setting::Plain(value.to_owned()));
        let properties = [
            plain("security.protocol", "sasl_ssl"),
            plain("sasl.mechanism", "SCRAM-SHA-512"),
            plain("sasl.username", &self.variable("KAFKA_SASL_USER")),
            plain("ssl.ca.location", &self.variable("KAFKA_CA")),
            ("sasl.password".to_owned(), Setting::Secret(Secret("${PASSWORD}".to_owned()))),
        ];
        Kafka { brokers: self.variable("KAFKA_SASL_BROKERS"), properties: properties.into(), ..Kafka::default() }
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.variable("KAFKA_BROKERS"));
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]);
    }

    pub fn create_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        for result in wait(self.admin().create_topics(&[new], &options)).unwrap() {
            result.unwrap();
        }
        // The broker answers before it lists it.
        let consumer: BaseConsumer = self.config().create().unwrap();
        let is_listed = || {
            let all = consumer.fetch_metadata(None, REQUEST).unwrap();
            all.topics().iter().any(|of| of.name() == topic && of.partitions().len() == partitions as usize)
        };
        until("the topic is listed", is_listed);
    }

    pub fn delete(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        for result in wait(self.admin().delete_topics(&[topic], &options)).unwrap() {
            result.unwrap();
        }
    }

    /// Sets a setting of a topic, and all others to their defaults.
    pub fn set(&self, topic: &str, name: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        for result in wait(self.admin().alter_configs([&change], &AdminOptions::new())).unwrap() {
            result.unwrap();
        }
    }

    pub fn widen(&self, topic: &str, partitions: usize) {
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        for result in wait(self.admin().create_partitions(&[NewPartitions::new(topic, partitions)], &options)).unwrap()
        {
            result.unwrap();
        }
    }

    /// Deletes what lies before an offset.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        wait(self.admin().delete_records(&offsets, &AdminOptions::new())).unwrap();
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    /// Writes messages of a time to a partition.
    pub fn produce(&self, topic: &str, partition: i32, messages: &[(i64, Option<&str>)]) {
        let producer = self.producer(&[]);
        for (time, value) in messages {
            send(&producer, topic, partition, *time, *value);
        }
        producer.flush(REQUEST).unwrap();
    }

    /// All committed messages of a topic, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        let mut config = self.config();
        config.set("group.id", "test").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        config.set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST).unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let (mut seen, mut ended) = (Vec::new(), 0);
        let since = Instant::now();
        while ended < partitions.count() {
            assert!(since.elapsed() < DEADLINE, "`{topic}` is not read to its end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => seen.push(Seen::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                _ => {}
            }
        }
        seen.sort_by_key(|seen| (seen.partition, seen.offset));
        seen
    }
}

impl Seen {
    fn of(message: &impl Message) -> Seen {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect());
        Seen {
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key().unwrap_or_default()),
            value: message.payload().map(text),
            headers: headers.unwrap_or_default(),
        }
    }
}

pub fn send(producer: &BaseProducer, topic: &str, partition: i32, time: i64, value: Option<&str>) {
    let headers = OwnedHeaders::new()
        .insert(Header { key: "tenant", value: Some("first") })
        .insert(Header { key: "tenant", value: Some("last") });
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition).timestamp(time).headers(headers);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

pub fn wait<T>(request: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(request)
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < DEADLINE, "{what} within {} s", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What `${VAR}` stands for here.
pub fn variable(name: &str) -> Option<String> {
    (name == "PASSWORD").then(|| "usher-test-only".to_owned())
}
