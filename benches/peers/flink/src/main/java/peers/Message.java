package peers;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * The fields of one Segment message that the audience needs, read from its bytes.
 *
 * <p>One walk over the message: members of the object are compared by their bytes, every other value is passed over, eight
 * bytes at a time within strings. A message is read into the same object again and again; the user is where it stands in the
 * message and becomes a string only where it is needed.
 *
 * <p>Refuses, with an exception: what is no JSON object, a message without a time as SDKs write it
 * ({@code 2026-11-01T00:00:00.000Z}), and escapes in the values it needs. Does not check what it passes over beyond its brackets
 * and strings.
 */
final class Message {
    private static final VarHandle WORD = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final long ONES = 0x0101010101010101L;
    private static final long HIGHS = 0x8080808080808080L;
    private static final long QUOTES = ONES * '"';
    private static final long SLASHES = ONES * '\\';

    private static final byte[] TYPE = bytes("type");
    private static final byte[] USER = bytes("userId");
    private static final byte[] ID = bytes("messageId");
    private static final byte[] TIME = bytes("timestamp");
    private static final byte[] PROPERTIES = bytes("properties");
    private static final byte[] PATH = bytes("path");
    private static final byte[] PAGE = bytes("page");
    private static final byte[] PRICING = bytes("/pricing");

    private byte[] in;
    private boolean page;
    private boolean pricing;
    private int userFrom;
    private int userTo;
    private int idFrom;
    private int idTo;
    /** When the message says that it happened, Unix ms. */
    long timestamp;
    /** The date that was read last, as its ten bytes, and when it begins. */
    private long dateHead;
    private short dateTail;
    private long dateMs;

    /** Reads a message. */
    void read(byte[] message) {
        in = message;
        page = false;
        pricing = false;
        userFrom = userTo = idFrom = idTo = -1;
        timestamp = Long.MIN_VALUE;
        int at = space(0);
        if (in[at] != '{') {
            throw new IllegalArgumentException("no JSON object");
        }
        at = space(at + 1);
        while (in[at] == '"') {
            int from = at + 1;
            int to = endOfString(in, from);
            at = value(to);
            at = space(member(from, to, at));
            if (in[at] != ',') {
                break;
            }
            at = space(at + 1);
        }
        if (in[at] != '}') {
            throw new IllegalArgumentException("an object that does not end, at byte " + at);
        }
        if (timestamp == Long.MIN_VALUE) {
            throw new IllegalArgumentException("no timestamp");
        }
    }

    /** Whether it is a view of the pricing page by a known user. */
    boolean matches() {
        return page && pricing && userTo > userFrom;
    }

    /** The user. */
    String user() {
        return text(userFrom, userTo);
    }

    /** A number for the message's id: FNV-1a over words of it, mixed. 64 bits tell the messages of one user apart. */
    long id() {
        long hash = 0xcbf29ce484222325L;
        int at = idFrom;
        for (; at + 8 <= idTo; at += 8) {
            hash = (hash ^ (long) WORD.get(in, at)) * 0x9e3779b97f4a7c15L;
            hash ^= hash >>> 32;
        }
        for (; at < idTo; at++) {
            hash = (hash ^ in[at]) * 0x100000001b3L;
        }
        return hash ^ hash >>> 29;
    }

    /** Takes what a member of the message says, and returns where its value ends. */
    private int member(int from, int to, int at) {
        switch (to - from) {
            case 4:
                if (is(from, TYPE)) {
                    int end = endOfValue(in, at);
                    page = isText(at, end, PAGE);
                    return end;
                }
                break;
            case 6:
                if (is(from, USER)) {
                    int end = endOfValue(in, at);
                    boolean text = in[at] == '"';
                    userFrom = text ? at + 1 : at;
                    userTo = text ? end - 1 : in[at] == 'n' ? at : end;
                    return end;
                }
                break;
            case 9:
                if (is(from, ID)) {
                    int end = endOfValue(in, at);
                    idFrom = at;
                    idTo = end;
                    return end;
                }
                if (is(from, TIME)) {
                    int end = endOfValue(in, at);
                    time(at, end);
                    return end;
                }
                break;
            case 10:
                if (is(from, PROPERTIES) && in[at] == '{') {
                    return properties(at);
                }
                break;
            default:
                break;
        }
        return endOfValue(in, at);
    }

    private int properties(int at) {
        pricing = false;
        at = space(at + 1);
        while (in[at] == '"') {
            int from = at + 1;
            int to = endOfString(in, from);
            at = value(to);
            int end = endOfValue(in, at);
            if (to - from == 4 && is(from, PATH)) {
                pricing = isText(at, end, PRICING);
            }
            at = space(end);
            if (in[at] != ',') {
                break;
            }
            at = space(at + 1);
        }
        if (in[at] != '}') {
            throw new IllegalArgumentException("an object that does not end, at byte " + at);
        }
        return at + 1;
    }

    /** Where the value of a member begins whose name's closing quote is at {@code quote}. */
    private int value(int quote) {
        int at = space(quote + 1);
        if (in[at] != ':') {
            throw new IllegalArgumentException("no colon at byte " + at);
        }
        return space(at + 1);
    }

    private int space(int at) {
        while (in[at] == ' ' || in[at] == '\n' || in[at] == '\r' || in[at] == '\t') {
            at++;
        }
        return at;
    }

    private boolean is(int from, byte[] name) {
        for (int i = 0; i < name.length; i++) {
            if (in[from + i] != name[i]) {
                return false;
            }
        }
        return true;
    }

    private boolean isText(int from, int to, byte[] text) {
        return to - from == text.length + 2 && in[from] == '"' && is(from + 1, text);
    }

    /** Returns where a value ends: behind its last byte. */
    private static int endOfValue(byte[] in, int at) {
        byte first = in[at];
        if (first == '"') {
            return endOfString(in, at + 1) + 1;
        }
        if (first != '{' && first != '[') {
            while (in[at] != ',' && in[at] != '}' && in[at] != ']' && in[at] > ' ') {
                at++;
            }
            return at;
        }
        int depth = 0;
        while (true) {
            byte b = in[at];
            if (b == '"') {
                at = endOfString(in, at + 1);
            } else if (b == '{' || b == '[') {
                depth++;
            } else if ((b == '}' || b == ']') && --depth == 0) {
                return at + 1;
            }
            at++;
        }
    }

    /** Returns where the closing quote of a string is whose text begins at {@code at}. */
    private static int endOfString(byte[] in, int at) {
        while (at + 8 <= in.length) {
            long word = (long) WORD.get(in, at);
            long quotes = word ^ QUOTES;
            long slashes = word ^ SLASHES;
            long found = ((quotes - ONES) & ~quotes | (slashes - ONES) & ~slashes) & HIGHS;
            if (found == 0) {
                at += 8;
                continue;
            }
            at += Long.numberOfTrailingZeros(found) >>> 3;
            if (in[at] == '"') {
                return at;
            }
            at += 2;
        }
        while (in[at] != '"') {
            at += in[at] == '\\' ? 2 : 1;
        }
        return at;
    }

    @SuppressWarnings("deprecation")
    private String text(int from, int to) {
        for (int at = from; at < to; at++) {
            if (in[at] == '\\') {
                throw new IllegalArgumentException("an escape in the user");
            }
            if (in[at] < 0) {
                return new String(in, from, to - from, java.nio.charset.StandardCharsets.UTF_8);
            }
        }
        return new String(in, 0, from, to - from);
    }

    /** {@code "2026-11-01T00:00:00.000Z"}: the date is that of the message before, nearly always. */
    private void time(int at, int end) {
        if (end - at != 26 || in[at + 24] != 'Z') {
            throw new IllegalArgumentException("a time that is not written as 2026-11-01T00:00:00.000Z");
        }
        long head = (long) WORD.get(in, at + 1);
        short tail = (short) (in[at + 9] << 8 | in[at + 10] & 0xff);
        if (head != dateHead || tail != dateTail) {
            dateMs = java.time.LocalDate.parse(text(at + 1, at + 11)).toEpochDay() * 86_400_000;
            dateHead = head;
            dateTail = tail;
        }
        int minutes = two(at + 12) * 60 + two(at + 15);
        int ms = (in[at + 21] - '0') * 100 + two(at + 22);
        timestamp = dateMs + (minutes * 60L + two(at + 18)) * 1000 + ms;
    }

    private int two(int at) {
        return (in[at] - '0') * 10 + in[at + 1] - '0';
    }

    private static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }
}
