//! Downgrades, and the versions that are told meanwhile.

use super::*;
use crate::env::block_on;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
use crate::proto::etcdserverpb::{
    DowngradeRequest, DowngradeResponse, StatusRequest, StatusResponse, downgrade_request::DowngradeAction,
};

async fn ask(
    routes: &Routes<Fake>,
    action: DowngradeAction,
    version: &str,
) -> Result<String, (Code, String)> {
    let request = DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    };
    let answer: DowngradeResponse = call(routes, "Maintenance/Downgrade", &request).await?;
    assert_eq!(answer.header.expect("a header").revision, 1);
    Ok(answer.version)
}

async fn text_of(routes: &Routes<Fake>, path: &str) -> String {
    let request = Request::get(format!("http://x{path}"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    let body = routes.handle(request).await.into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn a_cluster_goes_down_by_one_minor_version_and_back() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let peers = Routes::peers(fake, axum::Router::new());
        let refused = |text: &str| Err((Code::FailedPrecondition, text.to_owned()));
        let in_progress = refused("etcdserver: cluster has a downgrade job in progress");
        let told = async || {
            let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
                .await
                .expect("a status");
            let info = status.downgrade_info.expect("always there");
            let enabled = text_of(&peers, "/downgrade/enabled").await;
            assert_eq!(enabled, info.enabled.to_string());
            (
                text_of(&routes, "/version").await,
                status.storage_version,
                info.target_version,
            )
        };
        let newest = (
            r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#.to_owned(),
            "3.7.0".to_owned(),
            String::new(),
        );

        assert_eq!(ask(&routes, Validate, "3.6").await, Ok("3.7".to_owned()));
        assert_eq!(
            ask(&routes, Cancel, "").await,
            Ok("3.7".to_owned()),
            "whatever there is to cancel"
        );
        assert_eq!(told().await, newest);
        assert_eq!(ask(&routes, Enable, "3.6.0").await, Ok("3.7".to_owned()));
        let older = (
            r#"{"etcdserver":"3.7.1","etcdcluster":"3.6.0","storage":"3.6.0"}"#.to_owned(),
            "3.6.0".to_owned(),
            "3.6.0".to_owned(),
        );
        assert_eq!(told().await, older);
        for action in [Validate, Enable] {
            let invalid = (
                Code::InvalidArgument,
                "etcdserver: invalid downgrade target version".to_owned(),
            );
            assert_eq!(ask(&routes, action, "3.6").await, Err(invalid));
            assert_eq!(ask(&routes, action, "3.5").await, in_progress);
        }
        assert_eq!(ask(&routes, Cancel, "").await, Ok("3.7".to_owned()));
        assert_eq!(told().await, newest);
    });
}

#[test]
fn only_the_minor_version_before_is_a_target() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let refused = |text: &str| Err((Code::InvalidArgument, text.to_owned()));
        for action in [Validate, Enable] {
            for version in ["", "3", "latest", "3.6.0.0"] {
                let format = refused("etcdserver: wrong downgrade target version format");
                assert_eq!(ask(&routes, action, version).await, format, "{version}");
            }
            for version in ["3.5", "3.7", "3.8", "2.6", "4.6.0"] {
                let target = refused("etcdserver: invalid downgrade target version");
                assert_eq!(ask(&routes, action, version).await, target, "{version}");
            }
        }
        let unknown = DowngradeRequest {
            action: 7,
            version: "3.6".to_owned(),
        };
        let answer: Result<DowngradeResponse, _> = call(&routes, "Maintenance/Downgrade", &unknown).await;
        assert_eq!(
            answer,
            Err((Code::Unknown, "etcdserver: unknown method".to_owned()))
        );
    });
}
