//! What is measured, by whom, in which order: rounds in which every place takes its turn at every task.

use std::time::Duration;

use anyhow::Result;
use dynomite_tests::need::target;

use crate::Args;
use crate::load::{Generator, Load};
use crate::machine;
use crate::places::Place;
use crate::report::{Measured, Report, Unit, median};

type Measure = Box<dyn Fn(&Place, Duration) -> Result<Option<f64>>>;

/// One line of the report.
pub struct Task {
    name: String,
    unit: Unit,
    /// Measured in the first round only: it does not vary, and costs.
    once: bool,
    measure: Measure,
}

impl Task {
    pub fn new(name: String, unit: Unit, measure: impl Fn(&Place, Duration) -> Result<Option<f64>> + 'static) -> Task {
        Task { name, unit, once: false, measure: Box::new(measure) }
    }

    pub fn once(self) -> Task {
        Task { once: true, ..self }
    }

    /// As many requests as go through.
    pub fn throughput(load: Load) -> Task {
        Task::new(load.name(), Unit::PerSecond, move |place, time| rate(load, place, time / 5, time))
    }

    /// The same when it has been so for a while: until then a place may still be finding out what clients are like.
    pub fn steady_throughput(load: Load) -> Task {
        const WHILE: Duration = Duration::from_millis(500);
        let name = format!("{}, after {} ms", load.name(), WHILE.as_millis());
        Task::new(name, Unit::PerSecond, move |place, time| rate(load, place, WHILE, time))
    }

    /// One request at a time at a fixed rate: how long half of them take at most. (Who shares the machine decides what
    /// the slowest take, and with them the mean.)
    pub fn latency(load: Load, rate: f64) -> Task {
        let name = format!("{} at {}k/s, median latency", load.name(), rate / 1000.0);
        Task::new(name, Unit::Microseconds, move |place, time| {
            let mut generator = Generator::connect(load, place.address)?;
            generator.paced(rate, time / 5)?;
            Ok(Some(generator.paced(rate, time)?.1.median().as_secs_f64() * 1e6))
        })
    }

    /// The same: what they cost the whole machine.
    pub fn cpu(load: Load, rate: f64) -> Task {
        let name = format!("{} at {}k/s, CPU per request", load.name(), rate / 1000.0);
        Task::new(name, Unit::Microseconds, move |place, time| {
            let mut generator = Generator::connect(load, place.address)?;
            generator.paced(rate, time / 5)?;
            // Processor time is counted in hundredths of a second: longer is better.
            Ok(Some(generator.paced(rate, time * 2)?.0.cpu_per_request()))
        })
    }

    /// The same: what they cost the place's own process.
    pub fn own_cpu(load: Load, rate: f64) -> Task {
        let name = format!("{} at {}k/s, CPU of its own per request", load.name(), rate / 1000.0);
        Task::new(name, Unit::Microseconds, move |place, time| {
            let mut generator = Generator::connect(load, place.address)?;
            generator.paced(rate, time / 5)?;
            let Some(before) = place.cpu() else { return Ok(None) };
            let (done, _) = generator.paced(rate, time * 2)?;
            let spent = place.cpu().unwrap_or(before).saturating_sub(before);
            Ok(Some(spent.as_secs_f64() * 1e6 / done.requests as f64))
        })
    }
}

fn rate(load: Load, place: &Place, warm_up: Duration, time: Duration) -> Result<Option<f64>> {
    let mut generator = Generator::connect(load, place.address)?;
    generator.run(warm_up)?;
    Ok(Some(generator.run(time)?.per_second()))
}

/// A rate that keeps nobody busy: an eighth of what the first place makes of this load as fast as it can, in two digits.
pub fn pace(load: Load, place: &Place) -> Result<f64> {
    let mut generator = Generator::connect(load, place.address)?;
    generator.run(Duration::from_millis(200))?;
    let most =
        (0..9).map(|_| Ok(generator.run(Duration::from_millis(100))?.per_second())).collect::<Result<Vec<_>>>()?;
    let rate = median(most) / 8.0;
    let digits = 10_f64.powf(rate.log10().floor() - 1.0);
    Ok((rate / digits).round() * digits)
}

/// Measures everything everywhere, round by round, and writes the report.
pub fn run(args: &Args, title: &str, places: &[Place], mut tasks: Vec<Task>) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.quick { 5 } else { 11 });
    // Many short turns rather than few long ones: who shares the machine with us does so for seconds.
    let time = Duration::from_secs_f64(args.seconds.unwrap_or(0.3));
    tasks.retain(|task| args.only.is_empty() || args.only.iter().any(|word| task.name.contains(word.as_str())));
    let busy = machine::busy()?;
    if busy > 0.1 {
        eprintln!("the machine is {:.0} % busy with something else: these numbers are worth little", busy * 100.0);
    }
    let mut report = Report::new(title, places.iter().map(|place| place.name).collect(), rounds, time, busy);
    for round in 0..rounds {
        for task in tasks.iter().filter(|task| round == 0 || !task.once) {
            let mut measured = Measured { name: task.name.clone(), unit: task.unit, values: vec![None; places.len()] };
            // Everybody is first as often as last.
            for turn in 0..places.len() {
                let place = (turn + round) % places.len();
                measured.values[place] = (task.measure)(&places[place], time).unwrap_or_else(|error| {
                    eprintln!("{}, {}: {error:#}", task.name, places[place].name);
                    None
                });
            }
            eprintln!("round {}: {}", round + 1, report.line(&measured));
            report.add(measured);
        }
    }
    report.finish(&target().join("bench"), args.save.as_deref())
}
