"""What programs usually do with Python's etcd3, over one member. Ends with an error when something is not as it should be."""

import sys
import threading
import time

import etcd3
import etcd3.etcdrpc
import grpc

LIMIT_S = 20


def keys(client):
    put = client.put("py/a", "1")
    assert put.header.revision > 1
    client.put("py/b", b"\x00\xff")
    value, meta = client.get("py/a")
    assert (value, meta.key, meta.version) == (b"1", b"py/a", 1), (value, meta.version)
    assert client.get("py/b")[0] == b"\x00\xff"
    assert client.get("py/none") == (None, None)
    client.put("py/a", "2", prev_kv=True)
    found = [(meta.key, value) for value, meta in client.get_prefix("py/", sort_order="descend")]
    assert found == [(b"py/b", b"\x00\xff"), (b"py/a", b"2")], found
    assert [meta.key for _, meta in client.get_range("py/a", "py/b")] == [b"py/a"]
    assert client.put_if_not_exists("py/a", "3") is False
    assert client.replace("py/a", "2", "3") is True
    assert client.get("py/a")[0] == b"3"
    assert client.delete("py/none") is False
    assert client.delete("py/a") is True
    assert client.delete_prefix("py/").deleted == 1


def transactions(client):
    client.put("py/t", "old")
    swap = lambda old: client.transaction(
        compare=[client.transactions.value("py/t") == old, client.transactions.version("py/t") > 0],
        success=[client.transactions.put("py/t", "new"), client.transactions.get("py/t")],
        failure=[client.transactions.get("py/t"), client.transactions.delete("py/none")],
    )
    done, answers = swap("old")
    assert done and answers[1][0][0] == b"new", answers
    done, answers = swap("old")
    assert not done and answers[0][0][0] == b"new", answers


def watches(client):
    revision = client.put("py/w/0", "before").header.revision
    events, cancel = client.watch_prefix("py/w/", start_revision=revision)
    first = next(events)
    assert isinstance(first, etcd3.events.PutEvent) and first.value == b"before"
    client.put("py/w/1", "while")
    client.delete("py/w/1")
    assert next(events).value == b"while"
    assert isinstance(next(events), etcd3.events.DeleteEvent)
    cancel()
    told = threading.Event()
    watch = client.add_watch_callback("py/w/2", lambda response: told.set())
    client.put("py/w/2", "called back")
    assert told.wait(LIMIT_S), "the callback was not called"
    client.cancel_watch(watch)
    client.compact(client.put("py/w/0", "after").header.revision)
    try:
        events, cancel = client.watch("py/w/0", start_revision=revision)
        next(events)
        raise AssertionError("the past was compacted")
    except etcd3.exceptions.RevisionCompactedError as error:
        assert error.compacted_revision > revision


def leases(client):
    lease = client.lease(60)
    client.put("py/leased", "x", lease=lease)
    assert [answer.TTL for answer in lease.refresh()] == [60]
    assert 0 < lease.remaining_ttl <= 60 and lease.granted_ttl == 60
    assert lease.keys == [b"py/leased"]
    lease.revoke()
    assert client.get("py/leased") == (None, None)
    short = client.lease(2)
    client.put("py/short", "x", lease=short)
    deadline = time.monotonic() + LIMIT_S
    while client.get("py/short") != (None, None):
        assert time.monotonic() < deadline, "a lease does not end"
        time.sleep(0.1)


def locks(client, other):
    lock = client.lock("py", ttl=60)
    assert lock.acquire(timeout=LIMIT_S) and lock.is_acquired()
    rival = other.lock("py", ttl=60)
    assert not rival.acquire(timeout=1)
    waiting = threading.Thread(target=rival.acquire, kwargs={"timeout": LIMIT_S})
    waiting.start()
    assert lock.release()
    waiting.join()
    assert rival.is_acquired() and rival.release()


def members(client):
    members = list(client.members)
    assert len(members) == 3 and all(member.client_urls for member in members), members
    status = client.status()
    assert status.leader is not None and status.raft_index > 0 and status.version.startswith("3.")
    assert list(client.list_alarms()) == []
    client.defragment()


def many_addresses(endpoints):
    """gRPC's C core names the server by all of its addresses, and compresses if it is told to."""
    target = "ipv4:" + ",".join(endpoints)
    for compression in [grpc.Compression.NoCompression, grpc.Compression.Gzip]:
        with grpc.insecure_channel(target, options=[("grpc.lb_policy_name", "round_robin")]) as channel:
            kv = etcd3.etcdrpc.KVStub(channel)
            for number in range(20):
                value = b"%d" % number * 100
                request = etcd3.etcdrpc.PutRequest(key=b"py/many", value=value)
                kv.Put(request, timeout=LIMIT_S, compression=compression)
                found = kv.Range(etcd3.etcdrpc.RangeRequest(key=b"py/many"), timeout=LIMIT_S, compression=compression)
                assert found.kvs[0].value == value, found
    # Not in its first request on a connection, but later.
    for authority in ["http://a/b?c", "a b", "127.0.0.1:1,127.0.0.1:2"]:
        options = [("grpc.default_authority", authority)]
        with grpc.insecure_channel(endpoints[0], options=options) as channel:
            kv = etcd3.etcdrpc.KVStub(channel)
            kv.Range(etcd3.etcdrpc.RangeRequest(key=b"py/many"), timeout=LIMIT_S)
    # As much metadata as tokens may need.
    with grpc.insecure_channel(endpoints[0]) as channel:
        kv = etcd3.etcdrpc.KVStub(channel)
        metadata = [("token", "x" * 40_000)] + [("m%d" % number, "v") for number in range(150)]
        kv.Range(etcd3.etcdrpc.RangeRequest(key=b"py/many"), timeout=LIMIT_S, metadata=metadata)
        kv.DeleteRange(etcd3.etcdrpc.DeleteRangeRequest(key=b"py/many"), timeout=LIMIT_S)


def main(endpoints):
    many_addresses(endpoints.split(","))
    connect = lambda endpoint: etcd3.client(*endpoint.split(":"), timeout=LIMIT_S)
    clients = [connect(endpoint) for endpoint in endpoints.split(",")]
    keys(clients[0])
    transactions(clients[1])
    watches(clients[2])
    leases(clients[0])
    locks(clients[0], clients[1])
    members(clients[2])


if __name__ == "__main__":
    main(sys.argv[1])
