package peers;

import java.io.BufferedOutputStream;
import java.io.OutputStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What the comparison does with topics: makes them, fills one with messages, writes what is committed in one to a file.
 *
 * <ul>
 *   <li>{@code make --brokers B --topics A,B,C [--partitions 4]}
 *   <li>{@code fill --brokers B --topic T --folder F --events N [--users 1000000] [--hours 3] [--partitions 4] [--seed 2]}: the
 *       messages of the canonical workload ({@code benches/canonical/workload.rs}: Segment, some 960 bytes, users by Zipf's law, 10 % up
 *       to ten minutes late, 5 % twice), the last of them a moment ago. All messages of a user are in one partition, as where a
 *       topic is keyed by the user. The same to {@code F/events-P.jsonl}, one file per partition. Prints a JSON object.
 *   <li>{@code dump --brokers B --topic T --out FILE}: the values of what is committed, one a line.
 *   <li>{@code await --brokers B --topic T --warm W}: reads numbers from stdin; answers each with the Unix ms at which that many messages
 *       of the topic were committed and read. Reads some of topic W before, so that the JVM has run this code.
 * </ul>
 */
public final class Topics {
    private static final String[] CATEGORIES = {"shoes", "coats", "hats", "bags", "socks"};
    private static final String[] TRACKS = {"Product Added", "Product Viewed", "Checkout Started", "Order Completed"};
    private static final String[] PATHS = {"/pricing", "/", "/sale", "/help"};

    private Topics() {}

    public static void main(String[] args) throws Exception {
        Flags flags = new Flags(args, 1);
        switch (args[0]) {
            case "make" -> make(flags, List.of(flags.text("topics").split(",")));
            case "fill" -> fill(flags);
            case "dump" -> dump(flags);
            case "await" -> await(flags);
            default -> throw new IllegalArgumentException("`" + args[0] + "` is none of make, fill, dump, await");
        }
    }

    private static Properties client(Flags flags) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", flags.text("brokers"));
        return properties;
    }

    private static void make(Flags flags, List<String> names) throws Exception {
        int partitions = (int) flags.number("partitions", 4);
        try (Admin admin = Admin.create(client(flags))) {
            admin.createTopics(names.stream()
                            .map(name -> new NewTopic(name, partitions, (short) 1).configs(Map.of("retention.ms", "-1")))
                            .toList())
                    .all()
                    .get();
        }
    }

    private static void fill(Flags flags) throws Exception {
        String topic = flags.text("topic");
        make(flags, List.of(topic));
        int partitions = (int) flags.number("partitions", 4);
        int users = (int) flags.number("users", 1_000_000);
        long events = flags.number("events", 3_000_000);
        long span = flags.number("hours", 3) * 3_600_000;
        long start = System.currentTimeMillis() - span;
        Path folder = Path.of(flags.text("folder"));
        Random random = new Random(flags.number("seed", 2));
        Properties properties = client(flags);
        properties.put("compression.type", "lz4");
        properties.put("linger.ms", "20");
        properties.put("batch.size", "262144");
        properties.put("buffer.memory", "67108864");
        long messages = 0;
        long bytes = 0;
        List<OutputStream> files = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            Path file = folder.resolve("events-" + partition + ".jsonl");
            files.add(new BufferedOutputStream(Files.newOutputStream(file), 1 << 20));
        }
        long last = start;
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            byte[][] previous = new byte[partitions][];
            long[] clocks = new long[partitions];
            for (long number = 0; number < events; number++) {
                long now = start + number * span / events;
                long late = random.nextInt(10) == 0 ? random.nextInt(600_000) : 0;
                long at = Math.max(now - late, start);
                int user = user(random, users);
                byte[] message = message(random, number, at, user).getBytes(StandardCharsets.UTF_8);
                int partition = user % partitions;
                last = Math.max(last, at);
                clocks[partition] = Math.max(clocks[partition], at);
                boolean twice = random.nextInt(20) == 0 && previous[partition] != null;
                for (byte[] each : twice ? new byte[][] {message, previous[partition]} : new byte[][] {message}) {
                    producer.send(new ProducerRecord<>(topic, partition, clocks[partition], null, each));
                    files.get(partition).write(each);
                    files.get(partition).write('\n');
                    messages++;
                    bytes += each.length;
                }
                previous[partition] = message;
            }
        }
        for (OutputStream file : files) {
            file.close();
        }
        System.out.printf("{\"messages\":%d,\"bytes\":%d,\"first_ms\":%d,\"last_ms\":%d}%n", messages, bytes, start, last);
    }

    /** A user by Zipf's law with exponent 1, names scattered. */
    private static int user(Random random, int users) {
        double euler = 0.577_215_664_9;
        double ln = Math.log(users) + euler;
        long rank = Math.min((long) Math.exp(random.nextDouble() * ln - euler), users - 1L);
        return (int) (rank * 7_368_787 % users);
    }

    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    private static String message(Random random, long number, long timestamp, int user) {
        String time = TIME.format(Instant.ofEpochMilli(timestamp));
        String category = CATEGORIES[random.nextInt(CATEGORIES.length)];
        String id = hex(random.nextLong());
        StringBuilder line = new StringBuilder(1024);
        line.append("{\"anonymousId\":\"").append(id).append("-a2b1\",\"context\":{\"active\":true,\"app\":{\"name\":\"Shop\",\"version\":\"5.4.")
                .append(random.nextInt(50))
                .append("\",\"build\":\"3.0.1.545\"},\"campaign\":{\"name\":\"Autumn Sale\",\"source\":\"Newsletter\",\"medium\":\"email\",\"term\":\"warm coats\",\"content\":\"image link\"},\"device\":{\"id\":\"B5372DB0-C21E-11E4-8DFC-AA07A5B093DB\",\"manufacturer\":\"Apple\",\"model\":\"iPhone15,2\",\"type\":\"ios\"},\"ip\":\"10.8.")
                .append(random.nextInt(256)).append('.').append(random.nextInt(256))
                .append("\",\"library\":{\"name\":\"analytics.js\",\"version\":\"2.11.1\"},\"locale\":\"en-US\",\"timezone\":\"Europe/Amsterdam\",\"userAgent\":\"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X)\"},\"messageId\":\"m-")
                .append(padded(number, 10)).append('-').append(id).append("\",");
        int price = 100 + random.nextInt(29_900);
        int what = random.nextInt(100);
        if (what < 50) {
            line.append("\"type\":\"page\",\"name\":\"Page\",\"properties\":{\"path\":\"").append(PATHS[random.nextInt(4)])
                    .append("\",\"title\":\"Our shop\",\"category\":\"").append(category)
                    .append("\",\"referrer\":\"https://search.example/?q=coats\"},");
        } else {
            line.append("\"type\":\"track\",\"event\":\"").append(TRACKS[what < 70 ? 0 : what < 90 ? 1 : what < 96 ? 2 : 3])
                    .append("\",\"properties\":{\"category\":\"").append(category).append("\",\"sku\":\"S-").append(price)
                    .append("\",\"revenue\":").append(price / 100).append('.').append(padded(price % 100, 2))
                    .append(",\"currency\":\"EUR\"},");
        }
        line.append("\"integrations\":{\"All\":true,\"Mixpanel\":false}");
        for (String field : new String[] {"receivedAt", "sentAt", "originalTimestamp", "timestamp"}) {
            line.append(",\"").append(field).append("\":\"").append(time).append('"');
        }
        return line.append(",\"userId\":\"user-").append(padded(user, 7)).append("\",\"version\":2}").toString();
    }

    private static String hex(long number) {
        String text = Long.toHexString(number);
        return "0".repeat(16 - text.length()) + text;
    }

    private static String padded(long number, int digits) {
        String text = Long.toString(number);
        return "0".repeat(Math.max(0, digits - text.length())) + text;
    }

    private static KafkaConsumer<byte[], byte[]> committed(Flags flags, String topic) {
        Properties properties = client(flags);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        properties.put("fetch.max.wait.ms", "1000");
        KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        begin(consumer, topic);
        return consumer;
    }

    private static void begin(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> all = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .toList();
        consumer.assign(all);
        consumer.seekToBeginning(all);
    }

    private static void dump(Flags flags) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = committed(flags, flags.text("topic"));
                OutputStream out = new BufferedOutputStream(Files.newOutputStream(Path.of(flags.text("out"))), 1 << 20)) {
            // For a reader of what is committed the end is the last stable offset.
            Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    if (record.value() != null) {
                        out.write(record.value());
                        out.write('\n');
                    }
                }
            }
        }
    }

    private static void await(Flags flags) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = committed(flags, flags.text("warm"));
                var in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in))) {
            long all = consumer.endOffsets(consumer.assignment()).values().stream().mapToLong(end -> end).sum();
            long warmed = 0;
            while (warmed < Math.min(50_000, all)) {
                warmed += consumer.poll(Duration.ofMillis(20)).count();
            }
            begin(consumer, flags.text("topic"));
            // The JVM goes on to compile what has run. That would take processor time from the process that is measured.
            var compiler = ManagementFactory.getCompilationMXBean();
            for (long before = -1; before != compiler.getTotalCompilationTime(); ) {
                before = compiler.getTotalCompilationTime();
                Thread.sleep(200);
            }
            System.out.println("ready");
            long read = 0;
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                long wanted = Long.parseLong(line.trim());
                while (read < wanted) {
                    // Without messages it polls rarely, for the same reason.
                    read += consumer.poll(Duration.ofSeconds(1)).count();
                }
                System.out.println(System.currentTimeMillis());
            }
        }
    }
}
