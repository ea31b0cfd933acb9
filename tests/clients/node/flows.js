// What programs usually do with npm's etcd3, over all members. Ends with an error when something is not as it should be.
"use strict";

const assert = require("node:assert/strict");
const { Etcd3, EtcdLockFailedError, EtcdLeaseInvalidError } = require("etcd3");

const LIMIT_MS = 20_000;

/** The first event of this name. */
function next(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} within ${LIMIT_MS} ms`)), LIMIT_MS);
    emitter.once(name, (...values) => {
      clearTimeout(timer);
      resolve(values);
    });
  });
}

async function keys(client) {
  const space = client.namespace("js/");
  await space.put("a").value("1");
  await space.put("b").value(Buffer.from([0, 255]));
  assert.equal(await space.get("a"), "1");
  assert.equal(await space.get("a").number(), 1);
  assert.deepEqual(await space.get("b").buffer(), Buffer.from([0, 255]));
  assert.equal(await space.get("none"), null);
  assert.deepEqual(await space.getAll().keys(), ["a", "b"]);
  assert.deepEqual(await space.getAll().sort("Key", "Descend").limit(1).keys(), ["b"]);
  assert.equal(await space.getAll().count(), 2);
  const answer = await space.get("a").exec();
  assert.equal(answer.kvs[0].version, "1");
  const old = await space.put("a").value("2").getPrevious();
  assert.equal(old.value.toString(), "1");
  assert.equal((await space.delete().key("none")).deleted, "0");
  assert.equal((await space.delete().all()).deleted, "2");
}

async function transactions(client) {
  await client.put("js/t").value("old");
  const swap = () =>
    client
      .if("js/t", "Value", "==", "old")
      .and("js/t", "Version", ">", 0)
      .then(client.put("js/t").value("new"), client.get("js/t"))
      .else(client.get("js/t"))
      .commit();
  const done = await swap();
  assert.equal(done.succeeded, true);
  assert.equal(done.responses[1].response_range.kvs[0].value.toString(), "new");
  const refused = await swap();
  assert.equal(refused.succeeded, false);
  assert.equal(refused.responses[0].response_range.kvs[0].value.toString(), "new");
  await client.stm().transact((stm) => stm.get("js/t").then((value) => stm.put("js/t").value(`${value}er`)));
  assert.equal(await client.get("js/t"), "newer");
}

async function watches(client) {
  const before = await client.put("js/w/0").value("before");
  const watcher = client.watch().prefix("js/w/").startRevision(before.header.revision).watcher();
  assert.equal((await next(watcher, "put"))[0].value.toString(), "before");
  const during = next(watcher, "put");
  await client.put("js/w/1").value("while");
  assert.equal((await during)[0].value.toString(), "while");
  const gone = next(watcher, "delete");
  await client.delete().key("js/w/1");
  assert.equal((await gone)[0].key.toString(), "js/w/1");
  await watcher.cancel();
  const second = await client.watch().key("js/w/2").create();
  const told = next(second, "put");
  await client.put("js/w/2").value("again");
  assert.equal((await told)[0].value.toString(), "again");
  await second.cancel();
}

async function leases(client) {
  const lease = client.lease(60, { autoKeepAlive: true });
  await lease.put("js/leased").value("x");
  await lease.keepaliveOnce();
  const id = await lease.grant();
  const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(left.grantedTTL, "60");
  assert.equal(left.keys[0].toString(), "js/leased");
  await lease.revoke();
  assert.equal(await client.get("js/leased"), null);
  await assert.rejects(lease.put("js/leased").value("y").exec(), EtcdLeaseInvalidError);
}

async function locks(client) {
  const lock = client.lock("js/lock").ttl(60);
  await lock.acquire();
  await assert.rejects(client.lock("js/lock").acquire(), EtcdLockFailedError);
  await lock.release();
  assert.equal(await client.lock("js/lock").do(async () => "mine"), "mine");
}

async function elections(client) {
  const election = client.election("js/election");
  const first = election.campaign("one");
  await next(first, "elected");
  assert.equal(await election.leader(), "one");
  const second = election.campaign("two");
  const elected = next(second, "elected");
  await first.resign();
  await elected;
  assert.equal(await election.leader(), "two");
  await second.resign();
}

async function members(client) {
  const { members } = await client.cluster.memberList({});
  assert.equal(members.length, 3);
  const status = await client.maintenance.status({});
  assert.notEqual(status.leader, "0");
  assert.match(status.version, /^3\./);
  assert.deepEqual((await client.maintenance.alarm({})).alarms, []);
}

async function main(endpoints) {
  const client = new Etcd3({ hosts: endpoints.split(",").map((endpoint) => `http://${endpoint}`) });
  for (const flow of [keys, transactions, watches, leases, locks, elections, members]) {
    await flow(client);
  }
  client.close();
  // A keep-alive that crosses the end of its lease leaves a timer of 30 seconds behind, with etcd as with Callboard.
  process.exit(0);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
