//! Lookups equal membership at their as-of time.
