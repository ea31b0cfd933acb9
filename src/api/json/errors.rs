//! Errors as JSON: gRPC codes as HTTP statuses (grpc-gateway's runtime/errors.go), in a separate body or as the last line of a
//! stream.

use crate::api::body::Body;
use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use tonic::{Code, Status};

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Clients of etcd 3.4 and 3.5 read `error`. The order is that of those versions: some clients compare the text.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

#[derive(Serialize)]
struct Line<'a> {
    error: LineError<'a>,
}

/// Clients of etcd 3.4 and 3.5 read the last three fields.
#[derive(Serialize)]
struct LineError<'a> {
    code: i32,
    message: &'a str,
    grpc_code: i32,
    http_code: u16,
    http_status: &'a str,
}

/// The response to a call that failed.
pub fn response(status: &Status) -> Response<Body> {
    let failure = ErrorBody {
        error: status.message(),
        message: status.message(),
        code: status.code().into(),
    };
    with_status(status, serde_json::to_vec(&failure))
}

/// The response to a call that failed before the first line of its stream.
pub fn line_response(status: &Status) -> Response<Body> {
    with_status(status, Ok(line(status).into()))
}

/// The line that ends a stream.
pub fn line(status: &Status) -> Bytes {
    let http_status = http_status(status.code());
    let line = Line {
        error: LineError {
            code: status.code().into(),
            message: status.message(),
            grpc_code: status.code().into(),
            http_code: http_status.as_u16(),
            http_status: http_status.canonical_reason().unwrap_or_default(),
        },
    };
    let mut text = serde_json::to_vec(&line).expect("texts and numbers can be written");
    text.push(b'\n');
    text.into()
}

fn with_status(status: &Status, text: serde_json::Result<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::plain(text.expect("texts and numbers can be written")));
    *response.status_mut() = http_status(status.code());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(status.message())
    {
        headers.insert(header::WWW_AUTHENTICATE, message);
    }
    response
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(number).expect("between 100 and 999")
}
