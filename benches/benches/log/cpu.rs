//! Criterion measures by the process's CPU time: what others do on the machine then matters less, and what the kernel does for a
//! write counts.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use rustix::time::{ClockId, clock_gettime};

/// See the module.
pub struct CpuTime;

/// CPU time of this process so far, user and kernel.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        now() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for CpuTime {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        scale(values, 1e3);
        "us CPU"
    }

    fn scale_throughputs(&self, _: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        match throughput {
            // ns a byte are seconds a gigabyte.
            Throughput::Bytes(bytes) => scale(values, *bytes as f64),
            _ => return "ns",
        }
        "CPU s/GB"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ns"
    }
}

fn scale(values: &mut [f64], by: f64) {
    values.iter_mut().for_each(|value| *value /= by);
}
