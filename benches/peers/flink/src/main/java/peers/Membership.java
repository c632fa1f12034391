package peers;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Who viewed the page three times within four hours: an entry when a third view takes effect, an exit when the third newest is
 * four hours old.
 *
 * <p>Per user it holds its three newest views, each with its time and the number of its message; whether it is a member; and one
 * timer. The timer is armed at the earliest time at which something can happen, and armed anew when it fires too early, so that a
 * view of a member moves none. Where nothing is left in the window the state is removed.
 *
 * <p>Views of a user come in the order in which they take effect (all of them are in one partition), timers behind them, as the
 * least partition has come: an exit that is due before a view takes effect is therefore emitted with the view. One that is due at
 * the same ms waits for its timer, since further views of that ms may follow.
 */
final class Membership extends KeyedProcessFunction<String, View, Change> {
    private static final long serialVersionUID = 1;
    /** How long a view counts, ms. */
    static final long WINDOW = 4 * 3_600_000;

    private static final int TIMES = 0;
    private static final int THIRD = 2;
    private static final int IDS = 3;
    private static final int ARMED = 6;
    private static final int MEMBER = 7;
    private static final long NONE = Long.MIN_VALUE;

    /** Whether the backend hands out the array that it holds: then what is written to it need not be put back. */
    private final boolean inPlace;
    private transient ValueState<long[]> state;
    private transient Change change;

    Membership(boolean inPlace) {
        this.inPlace = inPlace;
    }

    @Override
    public void open(OpenContext context) {
        state = getRuntimeContext().getState(
                new ValueStateDescriptor<>("views", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
        change = new Change();
    }

    @Override
    public void processElement(View view, Context context, Collector<Change> out) throws Exception {
        long[] views = state.value();
        boolean isNew = views == null;
        if (isNew) {
            views = new long[] {NONE, NONE, NONE, 0, 0, 0, NONE, 0};
        }
        if (views[MEMBER] == 1 && views[THIRD] + WINDOW < view.at) {
            emit(out, view.user, false, views[THIRD] + WINDOW);
            views[MEMBER] = 0;
        }
        if (!insert(views, view.timestamp, view.id) && !isNew) {
            put(views);
            return;
        }
        if (views[MEMBER] == 0 && views[THIRD] != NONE && views[THIRD] + WINDOW > view.at) {
            emit(out, view.user, true, view.at);
            views[MEMBER] = 1;
        }
        arm(views, context);
        if (isNew || !inPlace) {
            state.update(views);
        }
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Change> out) throws Exception {
        long[] views = state.value();
        if (views == null || views[ARMED] != time) {
            return;
        }
        views[ARMED] = NONE;
        if (views[MEMBER] == 1 && views[THIRD] + WINDOW == time) {
            emit(out, context.getCurrentKey(), false, time);
            views[MEMBER] = 0;
        }
        if (views[TIMES] + WINDOW <= time) {
            state.clear();
            return;
        }
        arm(views, context);
        put(views);
    }

    /** Inserts a view among the newest three; returns whether they changed. One that is there already is a repeat. */
    private static boolean insert(long[] views, long time, long id) {
        if (time <= views[THIRD]) {
            return false;
        }
        for (int i = 0; i < 3 && views[TIMES + i] != NONE; i++) {
            if (views[IDS + i] == id) {
                return false;
            }
        }
        int at = THIRD;
        for (; at > 0 && views[TIMES + at - 1] < time; at--) {
            views[TIMES + at] = views[TIMES + at - 1];
            views[IDS + at] = views[IDS + at - 1];
        }
        views[TIMES + at] = time;
        views[IDS + at] = id;
        return true;
    }

    /** Arms the timer for the exit of a member, or for when nothing is left of another, unless it fires earlier anyway. */
    private static void arm(long[] views, Context context) {
        long due = (views[MEMBER] == 1 ? views[THIRD] : views[TIMES]) + WINDOW;
        if (views[ARMED] == NONE || due < views[ARMED]) {
            context.timerService().registerEventTimeTimer(due);
            views[ARMED] = due;
        }
    }

    private void put(long[] views) throws Exception {
        if (!inPlace) {
            state.update(views);
        }
    }

    private void emit(Collector<Change> out, String user, boolean entry, long at) {
        change.user = user;
        change.entry = entry;
        change.at = at;
        out.collect(change);
    }
}
