//! Requests in their JSON form: one HTTP/1.1 call on a separate connection, to one member.

use crate::checkers::requests::{Answer, End, Request};
use crate::cluster::endpoint;
use callboard::api::json::{table, text};
use callboard::env;
use prost::Message;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest reply.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The prefix of a message in a frame.
const FRAME_BYTES: usize = 5;
/// Status codes that mean that nothing was changed: refused, not found, or not accepted for lack of resources.
const REFUSED: [u16; 4] = [400, 404, 412, 429];

/// Sends a request to a member, and waits this long for the reply. None if it has no JSON form here.
pub async fn send(member: usize, limit: Duration, request: &Request) -> Option<End> {
    let (route, message) = match request {
        Request::Range(range) => ("kv/range", range.encode_to_vec()),
        Request::Put(put) => ("kv/put", put.encode_to_vec()),
        Request::DeleteRange(delete) => ("kv/deleterange", delete.encode_to_vec()),
        Request::Txn(txn) => ("kv/txn", txn.encode_to_vec()),
        Request::Revoke(_) => return None,
    };
    let call = table::call(route)?;
    let mut body = Vec::new();
    text::write(&call.request, message.into(), &mut body).ok()?;
    let answer = env::timeout(limit, post(&endpoint(member), route, &body)).await;
    let is_read = matches!(request, Request::Range(_));
    let failed = |reason: String| {
        if is_read {
            End::Refused(reason)
        } else {
            End::Unknown(reason)
        }
    };
    Some(match answer {
        Err(env::Elapsed) => failed("no answer in time".to_owned()),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok((200, body))) => {
            match text::read(&call.reply, &body, usize::MAX).map(|message| decode(request, &message)) {
                Ok(Some(answer)) => End::Answered(answer),
                _ => failed(format!("cannot be read: {}", String::from_utf8_lossy(&body))),
            }
        }
        Ok(Ok((code, body))) => {
            let reason = String::from_utf8_lossy(&body).into_owned();
            if REFUSED.contains(&code) {
                End::Refused(reason)
            } else {
                failed(reason)
            }
        }
    })
}

/// Decodes a message that is framed as in gRPC.
fn decode(request: &Request, framed: &[u8]) -> Option<Answer> {
    let message = framed.get(FRAME_BYTES..)?;
    Some(match request {
        Request::Range(_) => Answer::Range(Message::decode(message).ok()?),
        Request::Put(_) => Answer::Put(Message::decode(message).ok()?),
        Request::DeleteRange(_) => Answer::DeleteRange(Message::decode(message).ok()?),
        Request::Txn(_) => Answer::Txn(Message::decode(message).ok()?),
        Request::Revoke(_) => return None,
    })
}

/// The status code and the body of the reply.
async fn post(address: &str, route: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = env::connect(address).await?;
    let head = format!(
        "POST /v3/{route} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let (code, begin) = loop {
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).into_owned();
            let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            let code = code.ok_or_else(|| io::Error::other("no status code"))?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().ok()).flatten()
            });
            let length = length.ok_or_else(|| io::Error::other("no length"))?;
            if answer.len() >= end + 4 + length {
                break (code, end + 4);
            }
        }
        if answer.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    Ok((code, answer.split_off(begin)))
}
