//! What this process uses of its machine, read from `/proc/self` (proc(5)).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::catalogue;

/// Readings younger than this are used again. A collection asks every instrument in turn, all within microseconds:
/// this makes one reading of it, and is far below any interval between collections.
const SAME_COLLECTION: Duration = Duration::from_millis(20);

/// Figures of this process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Share of all processors used since the reading before, 0 to 1. The first one covers the process's whole life.
    pub cpu_usage: f64,
    /// Share of the machine's memory that is resident, 0 to 1.
    pub memory_usage: f64,
    /// Share of the file system under the data directory in use, 0 to 1.
    pub disk_usage: f64,
    /// Threads.
    pub threads: u64,
    /// Time since the process started.
    pub uptime: Duration,
    /// Processor time, user and system.
    pub cpu_time: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Reads the figures of this process; keeps its files open, so that a reading is a few system calls.
#[derive(Debug)]
pub struct Host {
    stat: File,
    fds: File,
    data_dir: PathBuf,
    page_bytes: u64,
    memory_bytes: u64,
    processors: f64,
    started: SystemTime,
    uptime_then: Duration,
    opened: Instant,
    /// When and at what processor time the last reading was.
    last: Option<(Instant, Duration)>,
}

impl Host {
    /// Opens what readings need. `data_dir` names the file system whose use is told; one that does not exist yet is
    /// looked for again at each reading.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let stat = File::open("/proc/self/stat")?;
        let now = SystemTime::now();
        let uptime_then = age(&stat)?;
        Ok(Self {
            stat,
            fds: File::open("/proc/self/fd")?,
            data_dir: data_dir.to_owned(),
            page_bytes: system_constant(SysconfVar::PAGE_SIZE, 4096),
            memory_bytes: total_memory()?,
            processors: std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64),
            started: now.checked_sub(uptime_then).unwrap_or(UNIX_EPOCH),
            uptime_then,
            opened: Instant::now(),
            last: None,
        })
    }

    /// When the process started.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Reads all figures now.
    ///
    /// # Errors
    /// What the system says; the usual ones cannot fail while the process runs.
    pub fn read(&mut self) -> io::Result<Reading> {
        let now = Instant::now();
        let stat = Stat::read(&self.stat)?;
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu_time = duration(usage.user_time()) + duration(usage.system_time());
        let uptime = self.uptime_then + now.saturating_duration_since(self.opened);
        let (wall, cpu) = match self.last {
            Some((then, before)) => (now.saturating_duration_since(then), cpu_time.saturating_sub(before)),
            None => (uptime, cpu_time),
        };
        self.last = Some((now, cpu_time));
        let resident_bytes = stat.resident_pages.saturating_mul(self.page_bytes);
        Ok(Reading {
            cpu_usage: ratio(cpu.as_secs_f64(), wall.as_secs_f64() * self.processors),
            memory_usage: ratio(resident_bytes as f64, self.memory_bytes as f64),
            disk_usage: disk_usage(&self.data_dir).unwrap_or(0.0),
            threads: stat.threads,
            uptime,
            cpu_time,
            resident_bytes,
            open_fds: self.open_fds()?,
        })
    }

    fn open_fds(&self) -> io::Result<u64> {
        // Since Linux 6.2 the size of the folder is the number of its entries; before, it is 0.
        match self.fds.metadata()?.len() {
            0 => Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64),
            entries => Ok(entries),
        }
    }
}

/// Registers all figures of this process on `meter`. `identity` goes with every series: nothing where a receiver
/// adds `process` and `role`, both where none does.
///
/// # Errors
/// See [`Host::open`].
pub fn observe_as(meter: &Meter, data_dir: &Path, identity: &[KeyValue]) -> io::Result<()> {
    let host = Host::open(data_dir)?;
    let started = host.started().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let shared = Arc::new(Mutex::new(Cached { host, reading: None }));
    let gauge = |metric: &catalogue::Metric, value: fn(&Reading) -> f64| {
        let (shared, identity) = (shared.clone(), identity.to_vec());
        let _ = metric
            .observed_gauge(meter)
            .with_callback(move |observer| {
                if let Some(reading) = Cached::reading(&shared) {
                    observer.observe(value(&reading), &identity);
                }
            })
            .build();
    };
    gauge(&catalogue::SYSTEM_CPU_USAGE, |reading| reading.cpu_usage);
    gauge(&catalogue::SYSTEM_MEMORY_USAGE, |reading| reading.memory_usage);
    gauge(&catalogue::SYSTEM_DISK_USAGE, |reading| reading.disk_usage);
    gauge(&catalogue::PROCESS_THREADS, |reading| reading.threads as f64);
    gauge(&catalogue::UPTIME, |reading| reading.uptime.as_secs_f64());
    gauge(&catalogue::PROCESS_RESIDENT_MEMORY, |reading| reading.resident_bytes as f64);
    gauge(&catalogue::PROCESS_OPEN_FDS, |reading| reading.open_fds as f64);
    let own = identity.to_vec();
    let _ = catalogue::PROCESS_START_TIME
        .observed_gauge(meter)
        .with_callback(move |observer| observer.observe(started, &own))
        .build();
    let own = identity.to_vec();
    let _ = catalogue::PROCESS_CPU
        .observed_f64_counter(meter)
        .with_callback(move |observer| {
            if let Some(reading) = Cached::reading(&shared) {
                observer.observe(reading.cpu_time.as_secs_f64(), &own);
            }
        })
        .build();
    Ok(())
}

/// [`observe_as`] without an identity: for a process whose receiver knows who it is.
///
/// # Errors
/// See [`Host::open`].
pub fn observe(meter: &Meter, data_dir: &Path) -> io::Result<()> {
    observe_as(meter, data_dir, &[])
}

struct Cached {
    host: Host,
    reading: Option<(Instant, Reading)>,
}

impl Cached {
    fn reading(shared: &Mutex<Self>) -> Option<Reading> {
        let mut cached = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, reading)) = cached.reading
            && at.elapsed() < SAME_COLLECTION
        {
            return Some(reading);
        }
        let reading = cached.host.read().ok()?;
        cached.reading = Some((Instant::now(), reading));
        Some(reading)
    }
}

/// The fields of `/proc/self/stat` that are used.
struct Stat {
    threads: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(file: &File) -> io::Result<Self> {
        // The line has 52 numbers of at most 20 digits.
        let mut buffer = [0; 2048];
        let length = file.read_at(&mut buffer, 0)?;
        let line = String::from_utf8_lossy(&buffer[..length]);
        Self::parse(&line)
            .ok_or_else(|| io::Error::other("/proc/self/stat has another form than proc(5) says"))
    }

    fn parse(line: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
        let (_, rest) = line.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1 and `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { threads: field(20)?, start_ticks: field(22)?, resident_pages: field(24)? })
    }
}

/// How long ago the process of `stat` started.
fn age(stat: &File) -> io::Result<Duration> {
    let ticks_per_second = system_constant(SysconfVar::CLK_TCK, 100);
    let started = Stat::read(stat)?.start_ticks as f64 / ticks_per_second as f64;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let now = uptime
        .split_ascii_whitespace()
        .next()
        .and_then(|seconds| seconds.parse::<f64>().ok())
        .ok_or_else(|| io::Error::other("/proc/uptime has another form than proc(5) says"))?;
    Ok(Duration::try_from_secs_f64((now - started).max(0.0)).unwrap_or_default())
}

fn total_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?;
    Ok(kibibytes.saturating_mul(1024))
}

fn disk_usage(path: &Path) -> Option<f64> {
    let system = statvfs(path).ok()?;
    // As df(1) has it: what is used, of what users can have.
    let used = system.blocks().saturating_sub(system.blocks_free()) as f64;
    Some(ratio(used, used + system.blocks_available() as f64))
}

fn system_constant(variable: SysconfVar, otherwise: u64) -> u64 {
    sysconf(variable)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or(otherwise)
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plausible_and_agree_with_the_system() {
        let mut host = Host::open(Path::new("/")).unwrap();
        let first = host.read().unwrap();
        for share in [first.cpu_usage, first.memory_usage, first.disk_usage] {
            assert!((0.0..=1.0).contains(&share), "{first:?}");
        }
        assert!(first.threads >= 2 && first.open_fds >= 5, "{first:?}");
        let listed = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        assert!(first.open_fds.abs_diff(listed) < 64, "{} and {listed}", first.open_fds);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident: u64 = resident.split_ascii_whitespace().next().unwrap().parse().unwrap();
        let difference = first.resident_bytes.abs_diff(resident * 1024);
        assert!(difference < 64 << 20, "{} and {resident} KiB", first.resident_bytes);
        assert!(first.uptime < Duration::from_secs(3600), "{:?}", first.uptime);
    }

    #[test]
    fn a_busy_process_shows_in_the_next_reading() {
        let mut host = Host::open(Path::new("/")).unwrap();
        let before = host.read().unwrap();
        let mut sum = 0_u64;
        loop {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
            let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
            if duration(usage.user_time()) > before.cpu_time + Duration::from_millis(50) {
                break;
            }
        }
        let after = host.read().unwrap();
        assert!(after.cpu_usage > 0.0 && after.cpu_time > before.cpu_time, "{after:?}");
    }

    #[test]
    fn a_program_name_with_parentheses_is_no_trouble() {
        let line = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.threads, stat.start_ticks, stat.resident_pages), (17, 19, 21));
        assert!(Stat::parse("7 (a) S 1").is_none());
        assert!(Stat::parse("").is_none());
    }
}
