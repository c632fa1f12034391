package peers;

import java.nio.charset.StandardCharsets;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Writes changes as messages: {@code {"type":"entry","key":"user-0000001","at":1793491200000}}, keyed by the user. */
final class Changes implements KafkaRecordSerializationSchema<Change> {
    private static final long serialVersionUID = 1;
    private final String topic;

    Changes(String topic) {
        this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Change change, KafkaSinkContext context, Long timestamp) {
        String text = "{\"type\":\"" + (change.entry ? "entry" : "exit") + "\",\"key\":\"" + change.user + "\",\"at\":" + change.at + "}";
        return new ProducerRecord<>(
                topic, change.user.getBytes(StandardCharsets.UTF_8), text.getBytes(StandardCharsets.UTF_8));
    }
}
