//! Queues of many callers.

use super::queue::*;
use super::*;
use crate::api::Queues;
use crate::env::block_on;
use crate::proto::etcdserverpb::{PutRequest, PutResponse};

/// Puts keys of other callers into a queue, the oldest with the highest name: so the order of names is not that of age.
async fn fill_queue(routes: &Routes<Fake>, count: usize) {
    for number in (0..count).rev() {
        let request = PutRequest {
            key: format!("l/x{number:05}").into(),
            ..PutRequest::default()
        };
        let _: PutResponse = call(routes, "KV/Put", &request).await.expect("a put");
    }
}

#[test]
fn a_long_queue_is_followed_once_and_forgotten_with_its_last_caller() {
    const OTHERS: usize = 40;
    block_on(async {
        let (fake, routes) = stage(&[1, 2, 3], HubOptions::default()).await;
        fill_queue(&routes, OTHERS).await;
        let mut callers: Vec<_> = (1..=3).map(|lease| lock(&routes, lease)).collect();
        for caller in &mut callers {
            assert!(is_waiting(caller).await);
        }
        assert_eq!(fake.queues.sizes(), (1, OTHERS + 3));
        // Two of three callers leave; their keys are deleted, and the queue is still followed.
        callers.truncate(1);
        while fake.queues.sizes() != (1, OTHERS + 1) {
            env::yield_now().await;
        }
        for number in 0..OTHERS {
            assert!(is_waiting(&mut callers[0]).await);
            delete(&routes, &format!("l/x{number:05}")).await;
        }
        let got = come_back(callers.pop().expect("one is left"))
            .await
            .expect("its turn");
        assert_eq!(got.key, "l/1");
        while fake.queues.sizes() != (0, 0) || fake.queues.places() != 0 {
            env::yield_now().await;
        }
    });
}

#[test]
fn a_queue_that_does_not_fit_into_memory_is_waited_in_all_the_same() {
    block_on(async {
        let (mut fake, _) = stage(&[1, 2, 3], HubOptions::default()).await;
        fake.queues = Queues::with_keys_max(3);
        let routes = Routes::new(fake.clone());
        come_back(lock(&routes, 1)).await.expect("nobody has it");
        let (mut second, mut third) = (lock(&routes, 2), lock(&routes, 3));
        assert!(is_waiting(&mut second).await && is_waiting(&mut third).await);
        assert_eq!(fake.queues.sizes(), (1, 3));
        // One key more than fits arrives while they wait: from here on each watches the key before its own.
        fill_queue(&routes, 1).await;
        assert!(is_waiting(&mut second).await && is_waiting(&mut third).await);
        assert_eq!(fake.queues.sizes(), (0, 0));
        unlock(&routes, "l/1").await.expect("a key");
        let second = come_back(second).await.expect("its turn");
        assert!(is_waiting(&mut third).await);
        drop(second);
        unlock(&routes, "l/2").await.expect("a key");
        come_back(third).await.expect("its turn");
    });
}
