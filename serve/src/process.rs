//! What the kernel knows of this process: CPU time, memory, files, start. Read from `/proc` at each scrape.
//!
//! `None` where there is no `/proc`, or it has another form.

use std::fs;

/// Ticks a second in `/proc/self/stat`: Linux' USER_HZ, which is 100 on all machines that usher is built for.
const TICKS: f64 = 100.0;

/// The resources of the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process {
    /// CPU time of all its threads, user and system.
    pub(crate) cpu_seconds: f64,
    /// Memory in RAM.
    pub(crate) resident_bytes: f64,
    /// Address space.
    pub(crate) virtual_bytes: f64,
    /// Open files and sockets.
    pub(crate) open_files: f64,
    /// How many it may open; infinity without a limit.
    pub(crate) max_files: f64,
    /// When it started, seconds since the epoch.
    pub(crate) started: f64,
}

/// Reads what the kernel knows.
pub(crate) fn read() -> Option<Process> {
    let text = |path: &str| fs::read_to_string(path).ok();
    let (stat, status) = (text("/proc/self/stat")?, text("/proc/self/status")?);
    let (cpu_seconds, after_boot) = times(&stat)?;
    let max_files = after(&text("/proc/self/limits")?, "Max open files")?;
    Some(Process {
        cpu_seconds,
        resident_bytes: number(&after(&status, "VmRSS:")?)? * 1024.0,
        virtual_bytes: number(&after(&status, "VmSize:")?)? * 1024.0,
        // One of them is the folder that is read.
        open_files: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64,
        max_files: if max_files.starts_with("unlimited") { f64::INFINITY } else { number(&max_files)? },
        started: number(&after(&text("/proc/stat")?, "btime")?)? + after_boot,
    })
}

/// Returns the CPU time and, counted from the boot of the machine, the start of a process, in seconds.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The second field is the name in parentheses, which may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((field(14)? + field(15)?) / TICKS, field(22)? / TICKS))
}

/// Returns what stands behind a word at the beginning of a line.
fn after(text: &str, word: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(word)?.trim_start().to_owned()))
}

/// Returns the number at the beginning of a text.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 1234 1000 100 0";
        assert_eq!(times(stat), Some((2.0, 12.34)));
        assert_eq!(times("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_files_and_a_start_in_the_past() {
        let process = read().expect("Linux has /proc");
        assert!(process.resident_bytes > 1e6 && process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.open_files > 2.0 && process.open_files <= process.max_files, "{process:?}");
        // After the year 2020, and CPU time grows.
        assert!(process.started > 1.58e9, "{process:?}");
        let mut sum = 0u64;
        while read().expect("as before").cpu_seconds <= process.cpu_seconds {
            sum = (0..1_000_000u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        std::hint::black_box(sum);
    }
}
