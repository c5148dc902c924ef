//! The machine that is measured on: its processors' time and what to say about it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A reading of the processor time spent by everything on the machine.
pub struct Cpu(u64);

impl Cpu {
    pub fn now() -> Result<Cpu> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat has no first line")?;
        // user nice system idle iowait irq softirq steal; guests are counted in user.
        let numbers: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|number| number.parse().ok()).collect();
        let idle = numbers.get(3).context("no idle time")? + numbers.get(4).context("no waiting time")?;
        Ok(Cpu(numbers.iter().sum::<u64>() - idle))
    }

    /// Seconds spent since the reading.
    pub fn since(&self) -> Result<f64> {
        Ok((Cpu::now()?.0 - self.0) as f64 / 100.0)
    }
}

/// How busy the machine is without us, from 0 to 1: what is measured beside other work is worth little.
pub fn busy() -> Result<f64> {
    let (cpu, time) = (Cpu::now()?, Duration::from_secs(1));
    std::thread::sleep(time);
    Ok(cpu.since()? / cores() as f64 / time.as_secs_f64())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One line about the machine.
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|line| line.split(':').nth(1))
        .unwrap_or("?");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} cores ({}), Linux {}", cores(), model.trim(), kernel.trim())
}

/// Raises the limit of open files as far as it goes, for us and for who we start.
pub fn raise_open_files() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
