//! Maintenance.Snapshot.

use super::*;
use crate::backup::reader;
use crate::env::block_on;
use crate::limits::{BACKUP_CHUNK_BYTES, BACKUPS_MAX};
use crate::proto::etcdserverpb::{PutRequest, PutResponse, SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};

const PATH: &str = "Maintenance/Snapshot";

/// More than what is buffered for a client that does not read.
async fn fill(routes: &Routes<Fake>) {
    for number in 0..20 {
        let put = PutRequest {
            key: format!("key{number}").into(),
            value: vec![number; 50_000].into(),
            ..PutRequest::default()
        };
        call::<_, PutResponse>(routes, "KV/Put", &put)
            .await
            .expect("a put");
    }
}

#[test]
fn a_backup_is_a_file_and_its_sum() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        fill(&routes).await;
        let messages = call_many::<_, SnapshotResponse>(&routes, PATH, &SnapshotRequest {}).await;
        let mut messages = messages.expect("a backup");
        let sum = messages.pop().expect("a last one");
        let mut file = vec![];
        let mut left = messages
            .iter()
            .map(|message| message.blob.len() as u64)
            .sum::<u64>();
        for message in &messages {
            file.extend_from_slice(&message.blob);
            left -= message.blob.len() as u64;
            assert_eq!(
                (message.remaining_bytes, message.version.as_str()),
                (left, "3.7.0")
            );
            assert!(message.blob.len() <= BACKUP_CHUNK_BYTES);
        }
        assert_eq!(sum.remaining_bytes, 0);
        assert_eq!(sum.blob[..], Sha256::digest(&file)[..]);
        let content = reader::read(&file).expect("in order");
        assert_eq!(content["key"].len(), 20);
    });
}

#[test]
fn few_at_a_time_are_read_and_who_goes_makes_room() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        fill(&routes).await;
        let open = || async {
            let request = Request::post(format!("http://x/etcdserverpb.{PATH}"))
                .header("content-type", "application/grpc")
                .body(Full::new(framed(&SnapshotRequest {})))
                .unwrap();
            routes.handle(request).await
        };
        let mut under_way = vec![];
        for _ in 0..BACKUPS_MAX {
            under_way.push(open().await);
        }
        let refused = call_many::<_, SnapshotResponse>(&routes, PATH, &SnapshotRequest {}).await;
        let text = "etcdserver: too many requests".to_owned();
        assert_eq!(refused.expect_err("no place"), (Code::Unknown, text));
        under_way.pop();
        let again = async {
            while Status::from_header_map(open().await.headers()).is_some() {
                env::yield_now().await;
            }
        };
        env::timeout(Duration::from_secs(10), again)
            .await
            .expect("a place, once the other thread has noticed");
    });
}
