//! gRPC's health checks.

use super::fake::Fake;
use super::{Reading, call, framed, start_hub};
use crate::api::Routes;
use crate::env::block_on;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use crate::watch::HubOptions;
use ::http::Request;
use http_body_util::Full;
use tonic::Code;

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn watch(routes: &Routes<Fake>, service: &str) -> Reading {
    let request = Request::post("http://x/grpc.health.v1.Health/Watch")
        .header("content-type", "application/grpc")
        .body(Full::new(framed(&about(service))))
        .expect("a request");
    Reading::new(routes.handle(request).await)
}

async fn check(routes: &Routes<Fake>, service: &str) -> Result<ServingStatus, (Code, String)> {
    let path = "grpc.health.v1.Health/Check";
    let reply: HealthCheckResponse = call(routes, path, &about(service)).await?;
    Ok(reply.status())
}

#[test]
fn the_server_as_a_whole_serves_and_nothing_else_is_known() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        assert_eq!(check(&routes, "").await, Ok(ServingStatus::Serving));
        let not_found = (Code::NotFound, "unknown service".to_owned());
        assert_eq!(check(&routes, "etcdserverpb.KV").await, Err(not_found));
        let path = "grpc.health.v1.Health/List";
        let list: HealthListResponse = call(&routes, path, &HealthListRequest {}).await.unwrap();
        let statuses = list.statuses.iter().map(|(name, it)| (&name[..], it.status()));
        assert_eq!(statuses.collect::<Vec<_>>(), [("", ServingStatus::Serving)]);
        let path = "grpc.health.v1.Health/Ask";
        let error = call::<_, HealthListResponse>(&routes, path, &HealthListRequest {}).await;
        let text = "unknown method Ask for service grpc.health.v1.Health".to_owned();
        assert_eq!(error.unwrap_err(), (Code::Unimplemented, text));
    });
}

#[test]
fn who_watches_health_is_told_once_and_hears_of_the_end() {
    block_on(async {
        let fake = Fake::new();
        start_hub(&fake, HubOptions::default());
        let routes = Routes::new(fake.clone());
        let mut server = watch(&routes, "").await;
        let mut other = watch(&routes, "other").await;
        let told: HealthCheckResponse = server.next().await.unwrap();
        assert_eq!(told.status(), ServingStatus::Serving);
        let told: HealthCheckResponse = other.next().await.unwrap();
        assert_eq!(told.status(), ServingStatus::ServiceUnknown);
        fake.watches.stop();
        let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
        assert_eq!(server.next::<HealthCheckResponse>().await.unwrap_err(), stopped);
        assert_eq!(other.next::<HealthCheckResponse>().await.unwrap_err(), stopped);
    });
}
