//! A cluster of three under load, whose operator never rests: members are killed, restarted, removed and replaced by blank ones,
//! moved to other ports; the leadership is transferred; certificates between members are renewed, their authority replaced.
//!
//! What must hold: every acknowledged write is there at every look, and memory, descriptors and disk of the members stay within
//! bounds and do not grow with time.
//!
//! `SOAK_SECONDS` names another length than the default; from ten minutes on, growth is judged too. `SOAK_SEED` names what the operator
//! does.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod load;
mod measures;
mod operator;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use load::Load;
use measures::Measures;
use operator::Operator;

const SECONDS_DEFAULT: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

#[test]
fn nothing_is_lost_and_nothing_grows() {
    let length = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let seed = number("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SOAK_SEED={seed} for {length:?}");
    let begin = Instant::now();
    let mut operator = Operator::start(seed);
    let load = Load::start(operator.clients());
    let mut measures = Measures::default();
    while begin.elapsed() < length {
        operator.act();
        operator.settle();
        load.check();
        measures.take(begin.elapsed(), operator.members());
    }
    let counts = load.finish();
    println!("{counts}");
    println!("{}", operator.counts());
    measures.print();
    measures.judge(length);
    assert!(
        counts.acknowledged > length.as_secs() * 20,
        "the load was a load: {counts}"
    );
}
