//! One member that listens on all addresses of its machine.

use super::scene::{READY_LIMIT, Scene, cells, etcdctl_stdout, member_id, wait_etcdctl};
use super::support::ports;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// An address of this machine that others reach it at; none without a network. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (address != IpAddr::V4(Ipv4Addr::LOCALHOST)).then_some(address)
}

#[test]
fn a_member_on_all_addresses_is_listed_through_each_of_them_and_through_its_peer_url() {
    let scene = Scene::new();
    let ports = ports::free(2);
    let (client, peer) = (ports[0], ports[1]);
    let own = own_address();
    if own.is_none() {
        println!("only loopback is tried: this machine has no other address");
    }
    let own = own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let kept = format!(
        "etcd --name infra0 --data-dir {} --listen-client-urls http://0.0.0.0:{client} --advertise-client-urls \
         http://{own}:{client} --listen-peer-urls http://0.0.0.0:{peer}",
        scene.file("infra0.etcd")
    );
    let initial = format!(
        "--initial-advertise-peer-urls http://{own}:{peer} --initial-cluster infra0=http://{own}:{peer}"
    );
    let through = [
        format!("127.0.0.1:{client}"),
        format!("{own}:{client}"),
        format!("http://127.0.0.1:{peer}"),
        format!("http://{own}:{peer}"),
    ];
    let list = ["member", "list", "-w", "table"];
    let mut member = scene.start("infra0", &format!("{kept} {initial}"), &[]);
    let loopback = format!("--endpoints {}", through[0]);
    wait_etcdctl(&loopback, &["put", "key", "value"], &mut member);
    let id = member_id(&loopback);
    let expected = vec![
        vec![
            "ID".to_owned(),
            "STATUS".to_owned(),
            "NAME".to_owned(),
            "PEER ADDRS".to_owned(),
            "CLIENT ADDRS".to_owned(),
            "IS LEARNER".to_owned(),
        ],
        vec![
            format!("{id:x}"),
            "started".to_owned(),
            "infra0".to_owned(),
            format!("http://{own}:{peer}"),
            format!("http://{own}:{client}"),
            "false".to_owned(),
        ],
    ];
    for endpoint in &through {
        let table = etcdctl_stdout(&format!("--endpoints {endpoint}"), &list);
        assert_eq!(cells(&table), expected, "{endpoint}\n{table}");
    }

    member.terminate(READY_LIMIT);
    let mut member = scene.start("infra0", &kept, &[]);
    let got = wait_etcdctl(&loopback, &["get", "key", "--print-value-only"], &mut member);
    assert_eq!((got.as_str(), member_id(&loopback)), ("value\n", id));
    let table = etcdctl_stdout(&loopback, &list);
    assert_eq!(cells(&table), expected);
}
