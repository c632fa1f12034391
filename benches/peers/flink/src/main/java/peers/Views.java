package peers;

import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.api.common.serialization.DeserializationSchema.InitializationContext;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * Reads messages and passes on the views of the pricing page, each with the time at which it takes effect: the greatest timestamp
 * of its partition so far, to which every message contributes, whether it is a view or not.
 *
 * <p>Keeps that time per partition in memory only: a job that is restored from a checkpoint would date late views by the
 * messages it reads after it.
 */
final class Views implements KafkaRecordDeserializationSchema<View> {
    private static final long serialVersionUID = 1;
    /** Messages read by all subtasks of this JVM, in steps of {@link #STEP}. */
    static final LongAdder READ = new LongAdder();
    /** How many messages a subtask reads before it counts them. */
    static final int STEP = 256;

    private transient Message message;
    private transient View view;
    private transient long[] clocks;
    private transient int uncounted;

    @Override
    public void open(InitializationContext context) {
        message = new Message();
        view = new View();
        clocks = new long[0];
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<View> out) {
        message.read(record.value());
        int partition = record.partition();
        if (partition >= clocks.length) {
            clocks = java.util.Arrays.copyOf(clocks, partition + 1);
        }
        long clock = Math.max(clocks[partition], message.timestamp);
        clocks[partition] = clock;
        if (++uncounted == STEP) {
            READ.add(STEP);
            uncounted = 0;
        }
        if (message.matches()) {
            view.user = message.user();
            view.at = clock;
            view.timestamp = message.timestamp;
            view.id = message.id();
            out.collect(view);
        }
    }

    @Override
    public TypeInformation<View> getProducedType() {
        return new View.Info();
    }
}
