//! The daemon's own self-test, as it runs before the first client.

use dynomite_user::kernel::{FastPath, Language, Settings, selftest};

#[test]
fn the_self_test_holds_on_this_kernel() {
    let Some(cgroup) = crate::cgroup() else { return };
    let settings = Settings { datastore: ([127, 0, 0, 1], 1).into(), language: Language::Resp, flows_max: 64, cgroup };
    let path = FastPath::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    let trials = [selftest::run(&path), selftest::run_shortcut(&path)].concat();
    let faults: Vec<_> = trials.iter().filter_map(|trial| Some((trial.name, trial.fault.as_ref()?))).collect();
    println!("{:?}", path.walked());
    for trial in &trials {
        println!("{:>8.1} ms  {}", trial.took.as_secs_f64() * 1e3, trial.name);
    }
    assert!(!trials.is_empty() && faults.is_empty(), "{faults:#?}");
}
