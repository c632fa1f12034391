//! Durations as the job file writes them: `250ms 30s 5m 4h 7d`, `1h30m`.
