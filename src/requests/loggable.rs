//! Requests as the log shows them: in protobuf's text form, as etcd has it, and without what is nobody's business there
//! (api/etcdserverpb/raft_internal_stringer.go). Values are named by their size.

use crate::proto::DESCRIPTORS;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::fmt::Write;
use std::sync::LazyLock;

/// Of these fields the log shows the size.
const SECRET: [&str; 4] = ["value", "password", "hashed_password", "token"];

/// A text that is longer is cut off.
const TEXT_BYTES_MAX: usize = 2 * 1024;

static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the build has written descriptors"));

/// The text of an encoded message, as far as it is there and can be read; `name` has its package.
pub fn loggable(name: &str, mut encoded: &[u8]) -> String {
    let mut text = String::new();
    if let Some(message) = MESSAGES.get_message_by_name(name) {
        let is_whole = write_message(&mut text, &message, &mut encoded).is_some();
        if !is_whole {
            text.push_str(" ...");
        }
    }
    text
}

/// The messages, still encoded, of one field, as far as they can be read.
pub fn messages_of(mut encoded: &[u8], field: u32) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !encoded.is_empty() {
            let (tag, wire_type) = decode_key(&mut encoded).ok()?;
            if wire_type == WireType::LengthDelimited {
                let length = usize::try_from(decode_varint(&mut encoded).ok()?).ok()?;
                let inner = encoded.split_off(..length)?;
                if tag == field {
                    return Some(inner);
                }
            } else {
                skip_field(wire_type, tag, &mut encoded, DecodeContext::default()).ok()?;
            }
        }
        None
    })
}

/// Stops at what cannot be read, or would make the text too long.
fn write_message(text: &mut String, message: &MessageDescriptor, encoded: &mut &[u8]) -> Option<()> {
    let mut separator = "";
    while !encoded.is_empty() {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (tag, wire_type) = decode_key(encoded).ok()?;
        let field = message.get_field(tag);
        let before = text.len();
        text.push_str(if field.is_some() { separator } else { "" });
        match wire_type {
            WireType::Varint => {
                let number = decode_varint(encoded).ok()?;
                write_number(text, field.as_ref(), number);
            }
            WireType::SixtyFourBit => {
                let bytes = encoded.split_off(..8)?;
                write_number(text, field.as_ref(), u64::from_le_bytes(bytes.try_into().ok()?));
            }
            WireType::ThirtyTwoBit => {
                encoded.split_off(..4)?;
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(encoded).ok()?).ok()?;
                let is_whole = length <= encoded.len();
                let mut inner = encoded.split_off(..length.min(encoded.len()))?;
                if let Some(field) = &field {
                    write_bytes(text, field, &mut inner, length)?;
                }
                if !is_whole {
                    return None;
                }
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        }
        if text.len() > before {
            separator = " ";
        }
    }
    Some(())
}

// Writing to a string cannot fail.
fn write_number(text: &mut String, field: Option<&FieldDescriptor>, number: u64) {
    let Some(field) = field else { return };
    let name = field.name();
    let _ = match field.kind() {
        Kind::Bool => write!(text, "{name}:{}", number != 0),
        Kind::Enum(known) => match known.get_value(number as i32) {
            Some(value) => write!(text, "{name}:{}", value.name()),
            None => write!(text, "{name}:{number}"),
        },
        Kind::Int64 | Kind::Int32 => write!(text, "{name}:{}", number as i64),
        _ => write!(text, "{name}:{number}"),
    };
}

fn write_bytes(text: &mut String, field: &FieldDescriptor, inner: &mut &[u8], length: usize) -> Option<()> {
    let name = field.name();
    match field.kind() {
        Kind::Message(message) => {
            let _ = write!(text, "{name}:{{");
            write_message(text, &message, inner)?;
            text.push('}');
        }
        Kind::Bytes | Kind::String if !SECRET.contains(&name) => {
            let room = TEXT_BYTES_MAX.saturating_sub(text.len()).min(inner.len());
            let _ = write!(text, "{name}:\"{}\"", inner[..room].escape_ascii());
        }
        _ => {
            let _ = write!(text, "{name}_size:{length}");
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
    };
    use prost::Message;

    fn text(name: &str, message: &impl Message) -> String {
        loggable(name, &message.encode_to_vec())
    }

    fn put(key: &str, value: &str) -> PutRequest {
        PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        }
    }

    #[test]
    fn values_are_shown_by_their_size() {
        let range = RangeRequest {
            key: "a\n".into(),
            range_end: "b".into(),
            limit: 5,
            revision: -1,
            sort_order: 2,
            keys_only: true,
            ..RangeRequest::default()
        };
        assert_eq!(
            text("etcdserverpb.RangeRequest", &range),
            r#"key:"a\n" range_end:"b" limit:5 revision:-1 sort_order:DESCEND keys_only:true"#
        );
        let lease = PutRequest {
            lease: 7,
            ..put("k", "secret")
        };
        assert_eq!(
            text("etcdserverpb.PutRequest", &lease),
            r#"key:"k" value_size:6 lease:7"#
        );
        let txn = TxnRequest {
            compare: vec![Compare {
                key: "c".into(),
                target: 3,
                target_union: Some(compare::TargetUnion::Value("secret".into())),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(put("k", "secret"))),
            }],
            failure: vec![RequestOp {
                request: Some(request_op::Request::RequestDeleteRange(
                    DeleteRangeRequest::default(),
                )),
            }],
        };
        assert_eq!(
            text("etcdserverpb.TxnRequest", &txn),
            "compare:{target:VALUE key:\"c\" value_size:6} success:{request_put:{key:\"k\" value_size:6}} \
             failure:{request_delete_range:{}}"
        );
    }

    #[test]
    fn what_is_long_or_cut_off_or_no_message_is_shown_as_far_as_it_goes() {
        let long = put(&"k".repeat(5_000), "v");
        let shown = text("etcdserverpb.PutRequest", &long);
        assert!(
            shown.len() < TEXT_BYTES_MAX + 100 && shown.ends_with("k\" ..."),
            "{}",
            shown.len()
        );
        let encoded = put("k", &"v".repeat(1_000)).encode_to_vec();
        assert_eq!(
            loggable("etcdserverpb.PutRequest", &encoded[..20]),
            r#"key:"k" value_size:1000 ..."#
        );
        assert_eq!(loggable("etcdserverpb.PutRequest", &[0xff; 3]), " ...");
        assert_eq!(loggable("etcdserverpb.Gone", &encoded), "");
    }
}
