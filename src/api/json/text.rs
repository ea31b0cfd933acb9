//! Converts messages to and from JSON text, by protobuf's mapping (protojson's, with names of the .proto files and without
//! defaults).

use crate::api::body;
use bytes::Bytes;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::Status;

const READING: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const WRITING: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// Converts the first JSON value of a text to a gRPC message with its prefix. An empty text gives a message of defaults; text
/// after the value is ignored. A text with more values than `values_max` is refused: a parsed value takes some hundred times the
/// memory of its text.
pub fn read(descriptor: &MessageDescriptor, text: &[u8], values_max: usize) -> Result<Bytes, Status> {
    if !has_few_values(text, values_max) {
        return Err(Status::invalid_argument(
            "proto: there are too many values in the request",
        ));
    }
    if text.trim_ascii().is_empty() {
        return body::frame(&DynamicMessage::new(descriptor.clone()));
    }
    let message = parse(descriptor, text).map_err(|error| {
        Status::invalid_argument(if error.is_eof() {
            "unexpected EOF".to_owned()
        } else {
            format!("proto: {error}")
        })
    })?;
    body::frame(&message)
}

/// Whether there are at most this many values, roughly: arrays, objects and their elements all count.
fn has_few_values(text: &[u8], values_max: usize) -> bool {
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' | b',' if !in_string => {
                values += 1;
                if values > values_max {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

fn parse(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
    let mut text_reader = serde_json::Deserializer::from_slice(text);
    let at_once = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut text_reader, &READING);
    let error = match at_once {
        Err(error) if error.is_data() => error,
        done => return done,
    };
    let mut text_reader = serde_json::Deserializer::from_slice(text);
    let mut value: Value = serde::Deserialize::deserialize(&mut text_reader)?;
    adapt(descriptor, &mut value);
    // The first error knows the position.
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &READING).map_err(|_| error)
}

/// Converts values that Go's decoder accepts into a form that ours accepts. Line ends are removed from base64, since Ruby's and
/// MIME's encoders insert them. Whole numbers may be written as `1.0` or `1e3`.
fn adapt(descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(fields) = value else {
        return;
    };
    for (name, value) in fields {
        let by_name = descriptor.get_field_by_name(name);
        let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(name)) else {
            continue;
        };
        let values = match value {
            Value::Array(values) => values.as_mut_slice(),
            single => std::slice::from_mut(single),
        };
        for value in values {
            match (field.kind(), value) {
                (Kind::Bytes, Value::String(text)) => {
                    text.retain(|character| !matches!(character, '\r' | '\n'));
                }
                (Kind::Message(inner), value) => adapt(&inner, value),
                (kind, Value::String(text)) if is_whole_number(&kind) => {
                    if let Some(plain) = plain_number(text) {
                        *text = plain;
                    }
                }
                (kind, value @ Value::Number(_))
                    if is_whole_number(&kind) || matches!(kind, Kind::Enum(_)) =>
                {
                    let plain = plain_number(&value.to_string()).and_then(|plain| plain.parse::<i64>().ok());
                    if let Some(plain) = plain {
                        *value = plain.into();
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_whole_number(kind: &Kind) -> bool {
    use Kind::{Fixed32, Fixed64, Int32, Int64, Sfixed32, Sfixed64, Sint32, Sint64, Uint32, Uint64};
    matches!(
        kind,
        Int32 | Int64 | Uint32 | Uint64 | Sint32 | Sint64 | Fixed32 | Fixed64 | Sfixed32 | Sfixed64
    )
}

/// Rewrites a whole JSON number without point and exponent.
fn plain_number(text: &str) -> Option<String> {
    /// More digits than any number of 64 bits has.
    const DIGITS_MAX: i64 = 40;
    if !text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        || text.ends_with(char::is_whitespace)
    {
        return None;
    }
    // Checks the grammar; the size does not matter.
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let shift = exponent.checked_sub(fraction.len() as i64)?;
    if shift >= 0 {
        let zeros = shift.min(DIGITS_MAX) as usize;
        digits.push_str(&"0".repeat(zeros));
    } else {
        let cut = usize::try_from(-shift).ok()?.min(digits.len());
        let (rest, cut) = digits.split_at(digits.len() - cut);
        if cut.bytes().any(|digit| digit != b'0') {
            return None;
        }
        digits = rest.to_owned();
    }
    match digits.trim_start_matches('0') {
        "" => Some("0".to_owned()),
        digits => Some(format!("{sign}{digits}")),
    }
}

/// Appends the JSON form of a message.
pub fn write(descriptor: &MessageDescriptor, message: Bytes, text: &mut Vec<u8>) -> Result<(), Status> {
    let message = DynamicMessage::decode(descriptor.clone(), message).map_err(|error| {
        Status::internal(format!("grpc: failed to unmarshal the received message: {error}"))
    })?;
    message
        .serialize_with_options(&mut serde_json::Serializer::new(text), &WRITING)
        .map_err(|error| Status::internal(format!("failed to marshal the reply: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body::PREFIX_BYTES;
    use crate::api::json::table;
    use proptest::prelude::*;
    use serde_json::json;

    const VALUES_MAX: usize = 1_000;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let cases = [
            (r#""1e3""#, Some(1000)),
            (r#""1.0""#, Some(1)),
            ("1e3", Some(1000)),
            ("1.0", Some(1)),
            (r#""1E+2""#, Some(100)),
            (r#""100e-2""#, Some(1)),
            (r#""-1.0""#, Some(-1)),
            (r#""-0""#, Some(0)),
            ("-0", Some(0)),
            ("null", Some(0)),
            (r#""9223372036854775807""#, Some(i64::MAX)),
            (r#""92233720368547758070e-1""#, Some(i64::MAX)),
            (r#""9223372036854775808""#, None),
            (r#""1e-3""#, None),
            ("1.5", None),
            (r#"" 1""#, None),
            (r#""1 ""#, None),
            // Go's decoder refuses these two.
            (r#""+1""#, Some(1)),
            (r#""01""#, Some(1)),
            (r#""1e30""#, None),
            (r#""""#, None),
            (r#""1.""#, None),
            (r#"".5""#, None),
            (r#""1_0""#, None),
            ("true", None),
        ];
        let request = &table::call("kv/range").expect("in the table").request;
        for (number, expected) in cases {
            let text = format!("{{\"key\":\"YQ==\",\"limit\":{number}}}");
            let read = read(request, text.as_bytes(), VALUES_MAX).ok();
            let limit = read.map(|frame| {
                use crate::proto::etcdserverpb::RangeRequest;
                let request: RangeRequest =
                    prost::Message::decode(frame.slice(PREFIX_BYTES..)).expect("sound");
                request.limit
            });
            assert_eq!(limit, expected, "{number}");
        }
        for (order, is_read) in [("1.0", true), ("1e0", true), ("1.5", false)] {
            let text = format!("{{\"sort_order\":{order}}}");
            assert_eq!(
                read(request, text.as_bytes(), VALUES_MAX).is_ok(),
                is_read,
                "{order}"
            );
        }
    }

    #[test]
    fn values_are_counted_outside_strings() {
        let cases = [
            ("{}", 1),
            ("[[],[]]", 4),
            (r#"{"a":"[[[,,,\"{{","b":1}"#, 2),
            (r#""\\",["#, 2),
        ];
        for (text, values) in cases {
            assert!(has_few_values(text.as_bytes(), values), "{text}");
            assert!(!has_few_values(text.as_bytes(), values - 1), "{text}");
        }
    }

    /// Objects with fields of transactions, valid and invalid ones.
    fn values() -> impl Strategy<Value = Value> {
        let leaves = [
            json!(null),
            json!(true),
            json!(7),
            json!(-1.0),
            json!("9223372036854775807"),
            json!("Zm9v"),
            json!("_-8"),
            json!("Zm\n9v\r\n"),
            json!("NOT_EQUAL"),
            json!("SIDEWAYS"),
            json!(77),
            json!("***"),
        ];
        let names = [
            "compare",
            "success",
            "failure",
            "result",
            "target",
            "key",
            "range_end",
            "rangeEnd",
            "lease",
            "version",
            "modRevision",
            "request_txn",
            "requestRange",
            "request_put",
            "value",
            "prev_kv",
            "limit",
            "sort_order",
            "sortTarget",
            "nobody",
        ];
        let leaf = prop::sample::select(leaves.to_vec());
        leaf.prop_recursive(6, 40, 4, move |inner| {
            let name = prop::sample::select(names.to_vec());
            let object = prop::collection::btree_map(name, inner.clone(), 0..4);
            prop_oneof![
                4 => object.prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
                2 => prop::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_written_and_read_again(value in values(), route in prop::sample::select(&["kv/txn", "kv/range", "kv/put"][..])) {
            let request = &table::call(route).expect("in the table").request;
            if let Ok(frame) = read(request, value.to_string().as_bytes(), VALUES_MAX) {
                let mut written = vec![];
                write(request, frame.slice(PREFIX_BYTES..), &mut written).expect("what was read can be written");
                prop_assert_eq!(read(request, &written, VALUES_MAX).expect("what was written can be read"), frame);
            }
        }

        #[test]
        fn no_text_breaks_it(text in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let request = &table::call("kv/txn").expect("in the table").request;
            let _ = read(request, &text, VALUES_MAX);
            let sound = br#"{"success":[{"request_put":{"key":"Zm9v","lease":"7"}},{"request_range":{}}]}"#;
            let cut = cut.index(sound.len());
            prop_assert!(cut == 0 || read(request, &sound[..cut], VALUES_MAX).is_err());
        }
    }
}
