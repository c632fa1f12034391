//! Room for tables by slot, in which they grow without moving.
//!
//! A vector that is full moves all that it has to another of twice the size: with some million keys that takes tenths of a second, in which
//! nothing else of its worker goes on. So a table that is no longer small gets address space for more rows than a worker is likely to hold.
//! Promises: a table takes memory for the rows that it has, since the system gives a page once something is written there; where the
//! system refuses so much address space, the table has less, or grows as a vector does. Refuses: to decide whether address space is free
//! on this system; the program decides it ([`reserve_for_tables`]).

use std::sync::atomic::{AtomicUsize, Ordering};

/// How large a table gets as a vector, bytes. A larger one has address space of its own, and with it up to a huge page (2 MiB) that it does
/// not fill.
const SMALL: usize = 2 << 20;

/// Bytes of address space of a table that is larger.
static ROOM: AtomicUsize = AtomicUsize::new(0);

/// Sets how much address space each large table of this process gets, bytes; 0, as it is before, leaves tables to grow as vectors do.
pub fn reserve_for_tables(bytes: usize) {
    ROOM.store(bytes, Ordering::Relaxed);
}

/// Makes room in a table for `more` elements, which are added next.
pub(crate) fn make_room<T>(table: &mut Vec<T>, more: usize) {
    let needed = table.len() + more;
    // A vector that is full would have twice as much.
    if needed > table.capacity() && needed.max(2 * table.capacity()) * size_of::<T>() > SMALL {
        make_large(table, needed);
    }
}

/// Reserves memory for so many more elements, or makes room for them.
pub(crate) fn reserve<T>(table: &mut Vec<T>, more: usize) {
    make_room(table, more);
    table.reserve(more);
}

#[cold]
fn make_large<T>(table: &mut Vec<T>, needed: usize) {
    let mut room = ROOM.load(Ordering::Relaxed) / size_of::<T>();
    while room > needed && table.try_reserve_exact(room - table.len()).is_err() {
        room /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_stays_where_it_is() {
        const BYTES: usize = 64 << 20;
        reserve_for_tables(BYTES);
        let mut table: Vec<u64> = Vec::new();
        let mut moved = 0;
        for n in 0..4 * SMALL as u64 / 8 {
            let at = table.as_ptr();
            make_room(&mut table, 1);
            table.push(n);
            moved += usize::from(table.as_ptr() != at && table.len() > SMALL / 8 + 1);
        }
        assert_eq!((moved, table[SMALL / 8]), (0, SMALL as u64 / 8));
        assert_eq!(table.capacity(), BYTES / 8);
        let mut wide: Vec<[u64; 3]> = Vec::with_capacity(SMALL / 32);
        wide.resize(SMALL / 32, [0; 3]);
        make_room(&mut wide, 1);
        assert_eq!(wide.capacity(), BYTES / 24, "a vector would have been larger than a small table");
    }

    #[test]
    fn a_small_table_grows_as_a_vector_does() {
        let mut table = vec![0u8; 5];
        make_room(&mut table, SMALL - 5);
        assert_eq!(table.capacity(), 5);
        reserve(&mut table, 100);
        assert!((105..SMALL).contains(&table.capacity()));
    }
}
