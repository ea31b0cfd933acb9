//! Requests that are not gRPC calls of a client's: plain paths, JSON, those of other members, and what is not served.

use super::{Routes, Traffic};
use crate::api::backend::Backend;
use crate::api::body::Body;
use crate::api::connection::Connection;
use crate::api::ports::{MEMBERS_PACKAGE, Port};
use crate::api::{grpc, http, json, monitoring, peer_port, ports};
use ::http::{Method, Request, Response, header};
use bytes::Bytes;
use tonic::{Code, Status};

impl<B: Backend> Routes<B> {
    /// Other members, and tools that ask what etcd's members ask each other.
    pub(super) async fn handle_peer<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let path = request.uri().path();
        if let Some(response) = http::redirect(request.method(), request.uri(), self.port, false) {
            response
        } else if ports::answers(Port::Peers, path) {
            peer_port::respond(&self.backend, request).await
        } else {
            self.route(request).await
        }
    }

    pub(super) async fn handle_http<R>(&self, connection: &Connection, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        if self.traffic == Traffic::Grpc {
            return unanswered(&request, self.services());
        }
        if let (false, Some(hosts)) = (connection.is_secure, &self.hosts)
            && let Some(refused) = hosts.refuse(&request)
        {
            return refused;
        }
        let path = request.uri().path();
        let is_answered = ports::answers(self.port, path);
        if self.port == Port::Metrics {
            if !is_answered {
                return http::not_found();
            }
            let answer = http::respond(self, request.method(), request.uri()).await;
            return answer.unwrap_or_else(http::not_found);
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let path = path.to_owned();
        let mut response = if self.cors.is_some() && request.method() == Method::OPTIONS {
            Response::default()
        } else if let Some(response) = http::redirect(request.method(), request.uri(), self.port, self.json) {
            response
        } else if let Some(route) = json::route(&path).filter(|_| self.json) {
            json::respond(self, route, connection, request).await
        } else if !is_answered {
            self.route(request).await
        } else if path == monitoring::LOG_LEVEL_PATH {
            monitoring::set_log_level(request).await
        } else if let Some(response) = http::respond(self, request.method(), request.uri()).await {
            response
        } else {
            self.route(request).await
        };
        if let Some(cors) = &self.cors {
            cors.add_headers(origin, response.headers_mut());
        }
        response
    }

    pub(super) async fn route_closed<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        if request.uri().path().starts_with(MEMBERS_PACKAGE) {
            self.route(request).await
        } else if grpc::is_grpc(request.headers()) {
            Status::unavailable("this member is still comparing its data with the others").into_http()
        } else {
            http::not_yet()
        }
    }

    pub(super) async fn route<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        use tower_service::Service;
        let Some(mut router) = self.more.clone() else {
            return unanswered(&request, self.services());
        };
        let answer = router.call(request.map(axum::body::Body::new)).await;
        answer
            .unwrap_or_else(|never: std::convert::Infallible| match never {})
            .map(Body::routed)
    }
}

/// What nobody answers: in gRPC's way or in HTTP's.
pub(super) fn unanswered<R>(request: &Request<R>, services: &[&str]) -> Response<Body> {
    if grpc::is_grpc(request.headers()) {
        let status = grpc::unknown(request.uri().path(), services);
        debug_assert_eq!(status.code(), Code::Unimplemented);
        return status.into_http();
    }
    http::not_found()
}
