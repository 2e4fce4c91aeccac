//! What the operating system knows about this process, read from `/proc` at each scrape. A field that cannot be read
//! is left out; where there is no `/proc`, all are.

use std::fs::{self, File};
use std::io::Read;
use std::sync::OnceLock;

/// Values of the `process_*` families.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_memory_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) start_time_seconds: Option<f64>,
}

impl Process {
    /// Reads everything now.
    pub(crate) fn read() -> Self {
        let stat = read_file("/proc/self/stat");
        let fields = stat.as_deref().map(fields_after_name).unwrap_or_default();
        Self {
            resident_memory_bytes: read_file("/proc/self/status").and_then(|status| resident_memory(&status)),
            cpu_seconds: cpu_seconds(&fields),
            open_fds: open_fds(),
            max_fds: read_file("/proc/self/limits").and_then(|limits| max_fds(&limits)),
            start_time_seconds: boot_seconds().and_then(|boot| start_time(&fields, boot)),
        }
    }
}

/// `VmRSS` in bytes; the kernel prints it in units of 1024 bytes.
fn resident_memory(status: &str) -> Option<u64> {
    let kib: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1_024)
}

/// The fields of `/proc/self/stat` from the third on. The second is the program's name in brackets, which may itself
/// hold blanks and brackets, so the last closing one counts.
fn fields_after_name(stat: &str) -> Vec<u64> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().take(FIELDS_MAX).map(|field| field.parse().unwrap_or(0)).collect()
}

/// User and system time, fields 14 and 15.
fn cpu_seconds(fields: &[u64]) -> Option<f64> {
    let ticks = fields.get(14 - FIRST_FIELD)?.checked_add(*fields.get(15 - FIRST_FIELD)?)?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// Start, field 22, in ticks since boot.
fn start_time(fields: &[u64], boot_seconds: u64) -> Option<f64> {
    Some(boot_seconds as f64 + *fields.get(22 - FIRST_FIELD)? as f64 / TICKS_PER_SECOND)
}

/// The soft limit; `unlimited` is no number and gives none.
fn max_fds(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// Open descriptors. Newer kernels give their number as the size of the directory; older ones give 0, and the entries
/// are counted, as many as the process may have.
fn open_fds() -> Option<u64> {
    let size = fs::metadata(FD_DIRECTORY).ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir(FD_DIRECTORY).ok()?.count() as u64) }
}

/// Unix time of boot. Read once: the kernel derives it from the clock, and the start of a process must not move when
/// the clock is set.
fn boot_seconds() -> Option<u64> {
    static BOOT_SECONDS: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT_SECONDS.get_or_init(|| boot_time(&read_file("/proc/stat")?))
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn read_file(path: &str) -> Option<String> {
    read_text(File::open(path).ok()?)
}

/// The first [`FILE_BYTES_MAX`] bytes; nothing if they are not UTF-8.
fn read_text(file: impl Read) -> Option<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `USER_HZ`, which Linux fixes at 100 for programs on every architecture Serin is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Number of the first field that [`fields_after_name`] gives, counted as the manual page does.
const FIRST_FIELD: usize = 3;

/// Fields of `/proc/self/stat` that are read; the last one needed is number 22.
const FIELDS_MAX: usize = 22 - FIRST_FIELD + 1;

/// Most bytes read of one file. Only `/proc/stat` grows, with processors and interrupts.
const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

const FD_DIRECTORY: &str = "/proc/self/fd";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 4200 1000 50 184";

    #[track_caller]
    fn check_stat(stat: &str, cpu: Option<f64>, start: Option<f64>) {
        let fields = fields_after_name(stat);
        assert_eq!((cpu_seconds(&fields), start_time(&fields, 1_000)), (cpu, start));
    }

    #[test]
    fn times_are_found_behind_a_name_with_brackets() {
        check_stat(STAT, Some(3.0), Some(1_042.0));
    }

    #[test]
    fn fields_that_are_not_there_are_left_out() {
        check_stat("", None, None);
        check_stat("7 (serin) S 1 2", None, None);
        assert_eq!(resident_memory("Name: serin\n"), None);
        assert_eq!(max_fds("Max open files            unlimited            unlimited            files\n"), None);
        assert_eq!(boot_time("cpu 1 2 3\n"), None);
    }

    #[test]
    fn memory_limit_and_boot_are_found() {
        assert_eq!(resident_memory("VmPeak:\t  900 kB\nVmRSS:\t    12 kB\n"), Some(12_288));
        assert_eq!(
            max_fds("Max processes 1 2 x\nMax open files            1024            4096         files\n"),
            Some(1_024)
        );
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_is_described_where_proc_exists() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let process = Process::read();
        assert!(process.resident_memory_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.open_fds.is_some_and(|count| count >= 3), "{process:?}");
        assert!(process.start_time_seconds.is_some_and(|start| start > 1.0e9), "{process:?}");
        assert!(process.cpu_seconds.is_some(), "{process:?}");
    }

    #[test]
    fn a_file_is_read_up_to_the_limit_and_no_further() {
        let length_read = |length| read_text(std::io::repeat(b'x').take(length)).map(|text| text.len() as u64);
        assert_eq!(length_read(FILE_BYTES_MAX), Some(FILE_BYTES_MAX));
        assert_eq!(length_read(FILE_BYTES_MAX + 1), Some(FILE_BYTES_MAX));
    }

    #[test]
    fn fields_are_read_up_to_the_last_one_needed() {
        let stat = |fields: usize| format!("7 (serin) {}", "1 ".repeat(fields));
        assert_eq!(fields_after_name(&stat(FIELDS_MAX)).len(), FIELDS_MAX);
        assert_eq!(fields_after_name(&stat(FIELDS_MAX + 1)).len(), FIELDS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[ -~\n]{0,300}") {
            let fields = fields_after_name(&text);
            let _ = (cpu_seconds(&fields), start_time(&fields, 1), resident_memory(&text), max_fds(&text), boot_time(&text));
        }
    }
}
