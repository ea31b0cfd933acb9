//! JSON text of messages, by protobuf's mapping (protojson's, with names of the .proto files and without defaults).

use crate::api::body;
use bytes::Bytes;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::Status;

const READING: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const WRITING: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);

/// The first JSON value of a text as a gRPC message with its prefix. No text at all is a message of defaults; what
/// follows the value is passed over.
pub fn read(descriptor: &MessageDescriptor, text: &[u8]) -> Result<Bytes, Status> {
    if text.trim_ascii().is_empty() {
        return Ok(body::frame(&DynamicMessage::new(descriptor.clone())));
    }
    let message = parse(descriptor, text).map_err(|error| {
        Status::invalid_argument(if error.is_eof() {
            "unexpected EOF".to_owned()
        } else {
            format!("proto: {error}")
        })
    })?;
    Ok(body::frame(&message))
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
