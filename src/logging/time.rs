//! Timestamps as zap prints them for etcd.

use std::time::Duration;

/// RFC 3339 in UTC with microseconds: `2026-11-20T10:29:42.318000Z`.
pub fn format(since_1970: Duration) -> String {
    let of_day = since_1970.as_secs() % 86_400;
    format!(
        "{}T{:02}:{:02}:{:02}.{:06}Z",
        date(since_1970),
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since_1970.subsec_micros()
    )
}

/// The same for the name of a file, with milliseconds (lumberjack, `backupTimeFormat`): `2026-11-20T10-29-42.318`.
pub fn for_file_name(since_1970: Duration) -> String {
    let of_day = since_1970.as_secs() % 86_400;
    format!(
        "{}T{:02}-{:02}-{:02}.{:03}",
        date(since_1970),
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since_1970.subsec_millis()
    )
}

/// Days to dates: Howard Hinnant's `civil_from_days`.
fn date(since_1970: Duration) -> String {
    let days = since_1970.as_secs() / 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
            (1_795_170_582, 318_000, "2026-11-20T10:29:42.318000Z"),
            (4_102_444_799, 999_999, "2099-12-31T23:59:59.999999Z"),
        ];
        for (seconds, micros, text) in cases {
            let time = Duration::new(seconds, micros * 1000);
            assert_eq!(format(time), text);
            assert_eq!(for_file_name(time), text[..23].replace(':', "-"));
        }
    }
}
