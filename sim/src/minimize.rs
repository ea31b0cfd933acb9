//! Shrinks a failing rehearsal: fewer operations and fewer strikes, as long as it still fails. Strikes are left out in halves,
//! quarters and so on down to single ones (delta debugging, Zeller and Hildebrandt 2002).

/// The smallest rehearsal found that fails.
pub struct Smallest {
    pub strikes: Vec<u32>,
    pub operations: u64,
    /// The number of rehearsals that it took.
    pub tried: u64,
}

/// Shrinks; `fails(strikes, operations)` rehearses. The given strikes and operations fail.
pub fn minimize(strikes: Vec<u32>, operations: u64, mut fails: impl FnMut(&[u32], u64) -> bool) -> Smallest {
    let mut smallest = Smallest {
        strikes,
        operations,
        tried: 0,
    };
    let mut fails = |strikes: &[u32], operations: u64, tried: &mut u64| {
        *tried += 1;
        fails(strikes, operations)
    };
    // Fewer operations first: this shortens all further rehearsals, and most strikes then come too late.
    while smallest.operations > 1 {
        let fewer = smallest.operations / 2;
        if !fails(&smallest.strikes, fewer, &mut smallest.tried) {
            break;
        }
        smallest.operations = fewer;
    }
    let mut length = smallest.strikes.len().div_ceil(2);
    while length > 0 {
        let mut place = 0;
        while place < smallest.strikes.len() {
            let mut fewer = smallest.strikes.clone();
            fewer.drain(place..(place + length).min(fewer.len()));
            if fails(&fewer, smallest.operations, &mut smallest.tried) {
                smallest.strikes = fewer;
            } else {
                place += length;
            }
        }
        length = if length == 1 { 0 } else { length.div_ceil(2) };
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_fails_and_nothing_of_it_can_go() {
        let guilty = [3, 11, 12];
        let fails = |strikes: &[u32], operations: u64| {
            operations >= 100 && guilty.iter().all(|strike| strikes.contains(strike))
        };
        let smallest = minimize((1..=40).collect(), 1000, fails);
        assert_eq!(smallest.strikes, guilty);
        assert_eq!(smallest.operations, 125);
        assert!(smallest.tried < 60, "{}", smallest.tried);
    }

    #[test]
    fn a_failure_without_trouble_needs_no_strikes() {
        let smallest = minimize((1..=7).collect(), 10, |_, _| true);
        assert!(smallest.strikes.is_empty());
        assert_eq!(smallest.operations, 1);
    }
}
