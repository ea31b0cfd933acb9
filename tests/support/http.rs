//! One plain HTTP/1.1 request over a fresh connection, as `curl` would send it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Long enough for a member on a busy machine, short enough for a member that hangs.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Header lines as they came, without the status line.
    pub headers: String,
    pub body: String,
}

/// GET of `path` (with its query) from the member at `address`.
pub fn get(address: SocketAddr, path: &str) -> Result<Response, String> {
    request(address, "GET", path, "")
}

/// A request with a JSON body, which may be empty.
pub fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Response, String> {
    exchange(address, method, path, body, |_| false)
        .map_err(|error| format!("{method} {path} of {address}: {error}"))
}

/// POSTs a JSON body and reads the lines of the answer, a stream that need not end, until there are `count`.
pub fn lines(address: SocketAddr, path: &str, body: &str, count: usize) -> Result<Response, String> {
    let enough = |response: &Response| response.body.matches('\n').count() >= count;
    exchange(address, "POST", path, body, enough)
        .map_err(|error| format!("POST {path} of {address}: {error}"))
}

/// Sends a request and reads until the answer is whole, or enough of it is there. The connection is not asked to close
/// behind the answer: who closes it with a body unread may reset it, and the answer is lost.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    enough: impl Fn(&Response) -> bool,
) -> std::io::Result<Response> {
    let mut stream = connect(address)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..read]);
        match parse(&bytes) {
            Some((response, whole)) if whole || enough(&response) => return Ok(response),
            _ if read > 0 => {}
            _ => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Err(std::io::Error::other(format!("not a whole answer: {text:?}")));
            }
        }
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// What has come of an answer, and whether that is all.
fn parse(bytes: &[u8]) -> Option<(Response, bool)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status_line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status: u16 = status_line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let lower = headers.to_ascii_lowercase();
    let (body, whole) = if lower.contains("transfer-encoding: chunked") {
        join_chunks(body)
    } else {
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = match status {
            // "No content" has no length either.
            204 => 0,
            _ => length?.trim().parse().ok()?,
        };
        (body.to_owned(), bytes.len() - (head.len() + 4) >= length)
    };
    let headers = headers.to_owned();
    Some((
        Response {
            status,
            headers,
            body,
        },
        whole,
    ))
}

/// As far as they have come, and whether that is all. Trailers behind the last one are not looked at.
fn join_chunks(mut text: &str) -> (String, bool) {
    let mut body = String::new();
    loop {
        let Some((size, rest)) = text.split_once("\r\n") else {
            return (body, false);
        };
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            return (body, rest.ends_with("\r\n"));
        }
        let (Some(chunk), Some(rest)) = (rest.get(..size), rest.get(size + 2..)) else {
            return (body, false);
        };
        body.push_str(chunk);
        text = rest;
    }
}
