//! The guard's proof on this kernel: frames of our own making are run through the program, attached nowhere.
//! Owns: what each frame must come to.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use dynomite_common::frame::make::Recipe;
use dynomite_common::guard::Mode;

use super::Verdict::{Drop, Pass};
use super::{Guard, Verdict};
use crate::kernel::selftest::Trial;

/// The most that the program may take for one packet, on average; a busy processor makes no hundredfold of it.
const TIME_MAX: Duration = Duration::from_micros(100);

const SYN: u8 = 2;
const ACK: u8 = 16;

type Try = fn(&Guard) -> io::Result<()>;

const TRIALS: [(&str, Try); 5] = [
    ("strangers at the peer port are dropped, members are not", strangers),
    ("nor do fragments and headers hide strangers", hidden),
    ("other ports and other packets pass", others),
    ("connections of one source in a second are limited", limited),
    ("a thousand packets", thousand),
];

/// Every trial, or those up to the first fault.
pub fn run(guard: &Guard) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, trial) in TRIALS {
        let start = Instant::now();
        let fault = ready(guard).and_then(|()| trial(guard)).err().map(|error| error.to_string());
        let failed = fault.is_some();
        trials.push(Trial { name, took: start.elapsed(), fault });
        if failed {
            break;
        }
    }
    trials
}

const OURS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(address6(1))];
const MEMBER: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), IpAddr::V6(address6(2))];
const STRANGER: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)), IpAddr::V6(address6(3))];

/// Of the part that documentation uses.
const fn address6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn ready(guard: &Guard) -> io::Result<()> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    guard.set_rules([8102, 8101, 22222].map(|port| Some(SocketAddr::new(any, port))), 0)?;
    guard.set_members(&BTreeSet::from(MEMBER), true)?;
    guard.set_mode(Mode::Enforce)
}

fn is(guard: &Guard, recipe: &Recipe<'_>, expected: Verdict) -> io::Result<()> {
    match tried(guard, recipe, 1)?.0 {
        got if got == expected => Ok(()),
        got => Err(io::Error::other(format!("{got:?}, not {expected:?}, for {recipe:?}"))),
    }
}

fn tried(guard: &Guard, recipe: &Recipe<'_>, times: u32) -> io::Result<(Verdict, Duration)> {
    let mut frame = [0; 512];
    let len = recipe.write(&mut frame);
    guard.try_frame(&frame[..len], times)
}

fn strangers(guard: &Guard) -> io::Result<()> {
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 4]] {
        for ((ours, member), stranger) in OURS.into_iter().zip(MEMBER).zip(STRANGER) {
            let from = |source, flags| Recipe { tags, ..Recipe::new(source, ours, 8101, flags) };
            is(guard, &from(stranger, SYN), Drop)?;
            is(guard, &from(stranger, ACK), Pass)?;
            is(guard, &from(stranger, 0), Drop)?;
            is(guard, &from(member, SYN), Pass)?;
            is(guard, &from(member, 0), Pass)?;
        }
    }
    guard.set_members(&BTreeSet::from(MEMBER), false)?;
    is(guard, &Recipe::new(STRANGER[0], OURS[0], 8101, SYN), Pass)?;
    guard.set_members(&BTreeSet::new(), true)?;
    is(guard, &Recipe::new(MEMBER[0], OURS[0], 8101, SYN), Drop)?;
    guard.set_mode(Mode::Observe)?;
    is(guard, &Recipe::new(STRANGER[0], OURS[0], 8101, SYN), Pass)
}

fn others(guard: &Guard) -> io::Result<()> {
    for (ours, stranger) in OURS.into_iter().zip(STRANGER) {
        let here = Recipe::new(stranger, ours, 8101, SYN);
        is(guard, &Recipe { port: 22, flags: 0, ..here.clone() }, Pass)?;
        is(guard, &Recipe { port: 8102, ..here.clone() }, Pass)?;
        is(guard, &Recipe { protocol: 17, ..here }, Pass)?;
    }
    let extensions = &[(0, 8), (60, 24)];
    is(guard, &Recipe { extensions, ..Recipe::new(STRANGER[1], OURS[1], 8101, SYN) }, Drop)?;
    is(guard, &Recipe { fragment_at: 9, ..Recipe::new(STRANGER[0], OURS[0], 8101, SYN) }, Pass)
}

fn hidden(guard: &Guard) -> io::Result<()> {
    for ((ours, member), stranger) in OURS.into_iter().zip(MEMBER).zip(STRANGER) {
        let first = |source| {
            let extensions: &[_] = if ours.is_ipv6() { &[(44, 8)] } else { &[] };
            Recipe { extensions, more: true, header_bytes: 8, ..Recipe::new(source, ours, 8101, ACK) }
        };
        is(guard, &first(stranger), Drop)?;
        is(guard, &first(member), Pass)?;
        is(guard, &Recipe { port: 22, ..first(stranger) }, Pass)?;
        is(guard, &Recipe { protocol: 17, ..first(stranger) }, Pass)?;
        is(guard, &Recipe { header_bytes: 20, ..first(stranger) }, Pass)?;
        is(guard, &Recipe { fragment_at: 1, more: false, ..first(stranger) }, Drop)?;
        is(guard, &Recipe { fragment_at: 2, more: false, ..first(stranger) }, Pass)?;
        is(guard, &Recipe { tags: &[0x8100; 5], ..first(stranger) }, Drop)?;
    }
    let deep = |source| Recipe { extensions: &[(60, 8); 5], ..Recipe::new(source, OURS[1], 8101, ACK) };
    is(guard, &deep(STRANGER[1]), Drop)?;
    is(guard, &deep(MEMBER[1]), Pass)
}

fn limited(guard: &Guard) -> io::Result<()> {
    guard.set_rules([Some(SocketAddr::new(OURS[0], 8102)), None, None], 3)?;
    let opens = |source| Recipe::new(source, OURS[0], 8102, SYN);
    let (mut passed, start) = (0, Instant::now());
    for _ in 0..100 {
        passed += u128::from(tried(guard, &opens(STRANGER[0]), 1)?.0 == Pass);
    }
    let seconds = start.elapsed().as_secs() as u128 + 1;
    if !(3..=3 * (seconds + 1)).contains(&passed) {
        return Err(io::Error::other(format!("{passed} of 100 passed in {seconds} s")));
    }
    for _ in 0..10 {
        is(guard, &opens(MEMBER[0]), Pass)?;
    }
    Ok(())
}

fn thousand(guard: &Guard) -> io::Result<()> {
    let (_, time) = tried(guard, &Recipe::new(MEMBER[1], OURS[1], 8101, SYN), 1000)?;
    match time {
        _ if time <= TIME_MAX => Ok(()),
        _ => Err(io::Error::other(format!("{time:?} for a packet"))),
    }
}
