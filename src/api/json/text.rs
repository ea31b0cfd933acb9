//! JSON text of messages, by protobuf's mapping (protojson's, with names of the .proto files and without defaults).

use crate::api::body;
use bytes::Bytes;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::Status;

const READING: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const WRITING: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// The first JSON value of a text as a gRPC message with its prefix. No text at all is a message of defaults; what
/// follows the value is passed over. A text of more values than `values_max` is not read: each takes some hundred times
/// what it takes here.
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

/// Whether there are no more values than this, arrays and objects and what they hold together, roughly.
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
    // Only an escape can bring a line end into a string.
    if !text.contains(&b'\\') {
        return DynamicMessage::deserialize_with_options(descriptor.clone(), &mut text_reader, &READING);
    }
    let mut value: Value = serde::Deserialize::deserialize(&mut text_reader)?;
    join_lines(descriptor, &mut value);
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &READING)
}

/// Takes line ends out of base64, as Go's decoder does: Ruby's and MIME's encoders put some in.
fn join_lines(descriptor: &MessageDescriptor, value: &mut Value) {
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
                (Kind::Message(inner), value) => join_lines(&inner, value),
                _ => {}
            }
        }
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

    /// Objects with fields of transactions, as they should be and as they should not.
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
