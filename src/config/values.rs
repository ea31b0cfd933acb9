//! Values of flags, read as Go reads them. The texts of errors are what etcd prints after `invalid value "x" for flag -y: `.

use crate::cluster::MemberUrl;
use std::time::Duration;

/// The error of Go's strconv as its flag package shows it.
const PARSE_ERROR: &str = "parse error";
/// The same for numbers that are too large.
const RANGE_ERROR: &str = "value out of range";

/// `1`, `true` and their like.
pub fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(PARSE_ERROR),
    }
}

/// Decimal, or with a prefix hexadecimal, octal or binary; digits can be grouped with `_` after a prefix.
pub fn unsigned(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(PARSE_ERROR);
    }
    u64::from_str_radix(digits, radix).map_err(|_| RANGE_ERROR)
}

/// The same, up to 2^32 - 1.
pub fn unsigned_32(text: &str) -> Result<u32, &'static str> {
    u32::try_from(unsigned(text)?).map_err(|_| RANGE_ERROR)
}

/// The same with a sign.
pub fn signed(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = i128::from(unsigned(digits)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| RANGE_ERROR)
}

/// Go's way of writing durations: numbers with units, one after the other. What is negative counts as nothing.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(PARSE_ERROR);
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let unit_start = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let (number, after) = rest.split_at(unit_start.ok_or(PARSE_ERROR)?);
        let unit_end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        let unit_nanos = match unit {
            "ns" => 1.0,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(PARSE_ERROR),
        };
        nanos += number.parse::<f64>().map_err(|_| PARSE_ERROR)? * unit_nanos;
        rest = after;
    }
    if nanos > i64::MAX as f64 {
        return Err(PARSE_ERROR);
    }
    Ok(Duration::from_nanos(if negative { 0 } else { nanos as u64 }))
}

/// URLs between commas.
#[derive(Clone, Debug)]
pub struct UrlList(pub Vec<MemberUrl>);

/// Reads them.
pub fn urls(text: &str) -> Result<UrlList, String> {
    MemberUrl::parse_list(text)
        .map(UrlList)
        .map_err(|error| error.to_string())
}

/// The same, or nothing.
pub fn optional_urls(text: &str) -> Result<UrlList, String> {
    if text.is_empty() {
        return Ok(UrlList(Vec::new()));
    }
    urls(text)
}

/// Origins between commas, or `*`.
#[derive(Clone, Debug)]
pub struct Origins(pub Vec<String>);

/// Reads them.
pub fn origins(text: &str) -> Result<Origins, String> {
    if text == "*" {
        return Ok(Origins(vec![text.to_owned()]));
    }
    let UrlList(urls) = urls(text)?;
    Ok(Origins(urls.iter().map(|url| url.as_str().to_owned()).collect()))
}
