package peers;

import java.io.IOException;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.StringValue;

/** A view of the pricing page: what crosses the exchange. Mutable, for it is used again; its serializer is written by hand. */
public final class View {
    /** Who viewed. */
    public String user;
    /** When it takes effect: the greatest timestamp that its partition had so far, Unix ms. */
    public long at;
    /** When it happened, Unix ms. */
    public long timestamp;
    /** A number for the id of its message. */
    public long id;

    View set(View other) {
        user = other.user;
        at = other.at;
        timestamp = other.timestamp;
        id = other.id;
        return this;
    }

    /** The type, for Flink. */
    static final class Info extends TypeInformation<View> {
        private static final long serialVersionUID = 1;

        @Override
        public boolean isBasicType() {
            return false;
        }

        @Override
        public boolean isTupleType() {
            return false;
        }

        @Override
        public int getArity() {
            return 1;
        }

        @Override
        public int getTotalFields() {
            return 1;
        }

        @Override
        public Class<View> getTypeClass() {
            return View.class;
        }

        @Override
        public boolean isKeyType() {
            return false;
        }

        @Override
        public TypeSerializer<View> createSerializer(SerializerConfig config) {
            return Serializer.INSTANCE;
        }

        @Override
        public String toString() {
            return "View";
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Info;
        }

        @Override
        public int hashCode() {
            return Info.class.hashCode();
        }

        @Override
        public boolean canEqual(Object other) {
            return other instanceof Info;
        }
    }

    /** How it is written. */
    public static final class Serializer extends TypeSerializerSingleton<View> {
        private static final long serialVersionUID = 1;
        static final Serializer INSTANCE = new Serializer();

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public View createInstance() {
            return new View();
        }

        @Override
        public View copy(View from) {
            return new View().set(from);
        }

        @Override
        public View copy(View from, View reuse) {
            return reuse.set(from);
        }

        @Override
        public int getLength() {
            return -1;
        }

        @Override
        public void serialize(View view, DataOutputView out) throws IOException {
            out.writeLong(view.at);
            out.writeLong(view.timestamp);
            out.writeLong(view.id);
            StringValue.writeString(view.user, out);
        }

        @Override
        public View deserialize(DataInputView in) throws IOException {
            return deserialize(new View(), in);
        }

        @Override
        public View deserialize(View reuse, DataInputView in) throws IOException {
            reuse.at = in.readLong();
            reuse.timestamp = in.readLong();
            reuse.id = in.readLong();
            reuse.user = StringValue.readString(in);
            return reuse;
        }

        @Override
        public void copy(DataInputView in, DataOutputView out) throws IOException {
            out.write(in, 24);
            StringValue.copyString(in, out);
        }

        @Override
        public TypeSerializerSnapshot<View> snapshotConfiguration() {
            return new Snapshot();
        }

        /** Says in a checkpoint which serializer wrote it. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<View> {
            public Snapshot() {
                super(() -> INSTANCE);
            }
        }
    }
}
