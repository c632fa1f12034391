package peers;

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.runtime.jobmaster.JobResult;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.graph.StreamGraph;

/**
 * Runs the audience as a Flink job between two topics, again and again in one JVM, and prints a JSON object per run.
 *
 * <p>{@code java … peers.Job --brokers B --topic T --out PREFIX --folder F --messages N [--backend heap|rocksdb] [--runs 3]
 * [--parallelism 2] [--checkpoint-ms 5000]}: run i writes to the topic PREFIX-i, which must be there.
 *
 * <p>A run is timed from handing the job to a cluster that is up until the job has ended, with its last transaction committed.
 * Flink commits the end of a bounded job with the next checkpoint; so that a run does not wait for one, checkpoints are asked for
 * as soon as all messages have been read.
 */
public final class Job {
    private Job() {}

    public static void main(String[] args) throws Exception {
        Flags flags = new Flags(args, 0);
        boolean heap = switch (flags.text("backend", "heap")) {
            case "heap" -> true;
            case "rocksdb" -> false;
            default -> throw new IllegalArgumentException("`--backend` is heap or rocksdb");
        };
        Configuration config = config(heap, Path.of(flags.text("folder")), flags.number("checkpoint-ms", 5_000));
        int parallelism = (int) flags.number("parallelism", 2);
        long messages = flags.number("messages", -1);
        MiniClusterConfiguration cluster = new MiniClusterConfiguration.Builder()
                .setConfiguration(config)
                .setNumTaskManagers(1)
                .setNumSlotsPerTaskManager(parallelism)
                .withRandomPorts()
                .build();
        try (MiniCluster mini = new MiniCluster(cluster)) {
            mini.start();
            for (int run = 1; run <= flags.number("runs", 3); run++) {
                StreamGraph graph = graph(flags, config, heap, parallelism, flags.text("out") + "-" + run);
                long before = Views.READ.sum();
                long processor = processorNanos();
                long since = System.nanoTime();
                JobResult result = execute(mini, graph, before + messages - (long) parallelism * Views.STEP);
                double seconds = (System.nanoTime() - since) / 1e9;
                result.toJobExecutionResult(Job.class.getClassLoader());
                System.out.printf(
                        Locale.ROOT,
                        "{\"run\":%d,\"seconds\":%.3f,\"processor_seconds\":%.3f,\"peak_bytes\":%d}%n",
                        run, seconds, (processorNanos() - processor) / 1e9, peakBytes());
            }
        }
    }

    /** Runs a job to its end; from when {@code read} messages have been read, asks for one checkpoint after the other. */
    private static JobResult execute(MiniCluster mini, StreamGraph graph, long read) throws Exception {
        mini.submitJob(graph).get();
        CompletableFuture<JobResult> result = mini.requestJobResult(graph.getJobID());
        while (Views.READ.sum() < read && !result.isDone()) {
            Thread.sleep(2);
        }
        while (!result.isDone()) {
            CompletableFuture<String> checkpoint = mini.triggerCheckpoint(graph.getJobID());
            // One that is refused, since tasks are just about to end, is asked for again.
            CompletableFuture.anyOf(checkpoint.handle((path, error) -> path), result).get();
            Thread.sleep(2);
        }
        return result.get();
    }

    private static StreamGraph graph(Flags flags, Configuration config, boolean heap, int parallelism, String out) {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(config);
        env.setParallelism(parallelism);
        Properties consumer = new Properties();
        consumer.putAll(Map.of(
                "check.crcs", "false",
                "fetch.min.bytes", "1048576",
                "fetch.max.wait.ms", "50",
                "fetch.max.bytes", "16777216",
                "max.partition.fetch.bytes", "4194304",
                "max.poll.records", "4000",
                "receive.buffer.bytes", "1048576",
                "enable.auto.commit", "false",
                "commit.offsets.on.checkpoint", "false"));
        KafkaSource<View> source = KafkaSource.<View>builder()
                .setBootstrapServers(flags.text("brokers"))
                .setTopics(flags.text("topic"))
                .setGroupId("flink-peer")
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setBounded(OffsetsInitializer.latest())
                .setDeserializer(new Views())
                .setProperties(consumer)
                .build();
        KafkaSink<Change> sink = KafkaSink.<Change>builder()
                .setBootstrapServers(flags.text("brokers"))
                .setRecordSerializer(new Changes(out))
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(out)
                .setProperty("transaction.timeout.ms", "600000")
                .setProperty("linger.ms", "20")
                .setProperty("batch.size", "131072")
                .build();
        WatermarkStrategy<View> clock =
                WatermarkStrategy.<View>forMonotonousTimestamps().withTimestampAssigner((view, time) -> view.at);
        env.fromSource(source, clock, "Views")
                .keyBy(view -> view.user)
                .process(new Membership(heap))
                .sinkTo(sink);
        StreamGraph graph = env.getStreamGraph();
        graph.setJobName(out);
        return graph;
    }

    private static Configuration config(boolean heap, Path folder, long checkpointMs) {
        Configuration config = new Configuration();
        Map<String, String> values = new java.util.HashMap<>(Map.of(
                "pipeline.object-reuse", "true",
                "pipeline.generic-types", "false",
                "execution.checkpointing.interval", checkpointMs + " ms",
                // Those that are asked for while tasks are ending are declined, and asked for again.
                "execution.checkpointing.tolerable-failed-checkpoints", "1000",
                "execution.checkpointing.dir", folder.resolve("checkpoints").toUri().toString(),
                "execution.buffer-timeout.interval", "100 ms",
                "taskmanager.memory.network.min", "128m",
                "taskmanager.memory.network.max", "128m",
                "io.tmp.dirs", folder.toString(),
                "state.backend.type", heap ? "hashmap" : "rocksdb"));
        if (!heap) {
            values.putAll(Map.of(
                    "execution.checkpointing.incremental", "true",
                    "taskmanager.memory.managed.size", "1g",
                    "state.backend.rocksdb.localdir", folder.resolve("rocksdb").toString(),
                    "state.backend.rocksdb.predefined-options", "FLASH_SSD_OPTIMIZED",
                    "state.backend.rocksdb.timer-service.factory", "HEAP",
                    "state.backend.rocksdb.memory.write-buffer-ratio", "0.6"));
        }
        values.forEach(config::setString);
        return config;
    }

    /** The processor time of this process so far, compilation and collection of garbage included. */
    private static long processorNanos() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** The most memory that this process has had, from Linux. */
    private static long peakBytes() throws java.io.IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
            }
        }
        return 0;
    }
}
