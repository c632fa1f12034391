package peers;

/** An entry or an exit. Mutable, for it is used again: it does not outlive the call that emits it. */
public final class Change {
    /** Whose membership changes. */
    public String user;
    /** Whether it is an entry. */
    public boolean entry;
    /** When, Unix ms. */
    public long at;
}
