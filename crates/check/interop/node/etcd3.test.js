// The Node client etcd3, unmodified, against the member at INTEROP_ENDPOINT.
// Run by tests/node_client.rs, with Node's own test runner.
'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Etcd3, EtcdLockFailedError, EtcdLeaseInvalidError, STMConflictError } = require('etcd3');

const hosts = process.env.INTEROP_ENDPOINT;
assert.ok(hosts, 'INTEROP_ENDPOINT is not set: a Rust test starts the member and sets it');

// Every test has a client and a part of the key space of its own.
function client(name, body) {
  test(name, { timeout: 60_000 }, async t => {
    const etcd = new Etcd3({ hosts });
    t.after(() => etcd.close());
    const keys = etcd.namespace(`/node/${name}/`);
    await keys.delete().all();
    await body(keys, etcd);
  });
}

const pause = ms => new Promise(done => setTimeout(done, ms));

// The next n events of a watcher, as [kind, key, value].
function take(watcher, n) {
  return new Promise((done, failed) => {
    const got = [];
    const add = kind => kv => {
      got.push([kind, kv.key.toString(), kv.value.toString()]);
      if (got.length === n) done(got);
    };
    watcher.on('put', add('put')).on('delete', add('delete')).on('error', failed);
  });
}

client('put get delete', async keys => {
  await keys.put('a').value('1');
  const before = await keys.put('a').value('2').getPrevious();
  assert.equal(before.value.toString(), '1');
  assert.equal(await keys.get('a').string(), '2');
  assert.equal(await keys.get('a').serializable(true).number(), 2);
  assert.equal(await keys.get('none').string(), null);
  const [kv] = (await keys.get('a').exec()).kvs;
  assert.equal(kv.version, '2');
  assert.equal(Number(kv.mod_revision), Number(kv.create_revision) + 1);
  assert.equal(await keys.get('a').revision(kv.create_revision).string(), '1');
  const bytes = Buffer.from([...Array(256).keys()]);
  await keys.put('bytes').value(bytes);
  assert.deepEqual(await keys.get('bytes').buffer(), bytes);
  const [gone] = await keys.delete().key('a').getPrevious();
  assert.equal(gone.value.toString(), '2');
  assert.equal((await keys.delete().key('a')).deleted, '0');
});

client('ranges', async keys => {
  for (let n = 0; n < 12; n++) await keys.put(`k${String(n).padStart(2, '0')}`).value(String(50 - n));
  assert.equal(await keys.getAll().prefix('k').count(), 12);
  assert.deepEqual(await keys.getAll().prefix('k').sort('Key', 'Descend').limit(2).keys(), ['k11', 'k10']);
  assert.deepEqual(await keys.getAll().prefix('k').sort('Value', 'Ascend').limit(2).strings(), { k11: '39', k10: '40' });
  assert.deepEqual(await keys.getAll().inRange({ start: 'k03', end: 'k05' }).numbers(), { k03: 47, k04: 46 });
  const page = await keys.getAll().prefix('k').limit(5).exec();
  assert.deepEqual([page.more, page.count, page.kvs.length], [true, '12', 5]);
  assert.equal((await keys.delete().range(keys.range({ start: 'k00', end: 'k05' }))).deleted, '5');
});

client('transactions', async keys => {
  const create = () =>
    keys.if('a', 'Create', '==', 0).then(keys.put('a').value('new'), keys.get('a')).else(keys.get('a')).commit();
  const first = await create();
  assert.equal(first.succeeded, true);
  assert.equal(first.responses[1].response_range.kvs[0].value.toString(), 'new');
  const second = await create();
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), 'new');
  for (const [column, sign, value] of [['Value', '==', 'new'], ['Version', '==', 1], ['Mod', '>', 1], ['Lease', '==', 0], ['Value', '<', 'newer'], ['Value', '!=', 'old']]) {
    assert.equal((await keys.if('a', column, sign, value).then(keys.get('a')).commit()).succeeded, true, column + sign);
  }
});

client('software transactions count to the end', async keys => {
  await keys.put('n').value('0');
  const add = () => keys.stm({ retries: 50 }).transact(tx => tx.get('n').number().then(n => tx.put('n').value(n + 1)));
  await Promise.all([...Array(5)].map(async () => { for (let i = 0; i < 4; i++) await add(); }));
  assert.equal(await keys.get('n').number(), 20);
  await assert.rejects(
    keys.stm({ retries: 0 }).transact(async tx => {
      await tx.get('n').number();
      await keys.put('n').value('from outside');
      await tx.put('n').value('inside');
    }), STMConflictError);
});

client('watch', async keys => {
  const watcher = await keys.watch().prefix('').withPreviousKV().create();
  const events = take(watcher, 4);
  await keys.put('a').value('1');
  await keys.put('b').value('2');
  await keys.put('a').value('3');
  await keys.delete().key('a');
  assert.deepEqual(await events, [['put', 'a', '1'], ['put', 'b', '2'], ['put', 'a', '3'], ['delete', 'a', '']]);
  await watcher.cancel();
});

client('watch from the past, and only deletions', async keys => {
  const start = (await keys.put('a').value('0')).header.revision;
  for (let n = 1; n < 40; n++) await keys.put('a').value(String(n));
  await keys.delete().key('a');
  const all = await keys.watch().key('a').startRevision(start).create();
  const values = (await take(all, 41)).map(([, , value]) => value);
  assert.deepEqual(values, [...Array(40).keys()].map(String).concat(['']));
  const some = await keys.watch().key('a').startRevision(start).only('delete').create();
  assert.deepEqual(await take(some, 1), [['delete', 'a', '']]);
  await Promise.all([all.cancel(), some.cancel()]);
});

client('twenty watchers on one stream', async keys => {
  const watchers = await Promise.all([...Array(20).keys()].map(n => keys.watch().key(`k${n}`).create()));
  const events = watchers.map(w => take(w, 1));
  for (let n = 0; n < 20; n++) await keys.put(`k${n}`).value(String(n));
  const got = await Promise.all(events);
  got.forEach(([[, key, value]], n) => assert.deepEqual([key, value], [`k${n}`, String(n)]));
  await Promise.all(watchers.map(w => w.cancel()));
});

client('a lease is kept alive, and ends when it is not', async keys => {
  const lease = keys.lease(2);
  await lease.put('kept').value('1');
  await once(lease, 'keepaliveSucceeded');
  const id = await lease.grant();
  for (let n = 0; n < 8; n++) {
    await pause(500);
    assert.equal(await keys.get('kept').string(), '1', 'renewed past its time');
  }
  assert.equal((await lease.keepaliveOnce()).TTL, '2');
  const watcher = await keys.watch().key('kept').create();
  const end = take(watcher, 1);
  lease.release();
  assert.deepEqual(await end, [['delete', 'kept', '']]);
  const left = await keys.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(left.TTL, '-1');
  await watcher.cancel();
});

client('a lease revoked takes its keys along', async keys => {
  const lease = keys.lease(600);
  await lease.put('a').value('1');
  const id = await lease.grant();
  const left = await keys.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.deepEqual([left.grantedTTL, left.keys.length], ['600', 1]);
  await lease.revoke();
  assert.equal(await keys.get('a').string(), null);
  await assert.rejects(keys.put('a').value('x').lease(id), /requested lease not found/);
});

client('a lease that others revoke is lost', async keys => {
  const lease = keys.lease(3);
  const id = await lease.grant();
  const lost = once(lease, 'lost');
  await keys.leaseClient.leaseRevoke({ ID: id });
  const [error] = await lost;
  assert.ok(error instanceof EtcdLeaseInvalidError, String(error));
});

client('locks', async keys => {
  const lock = keys.lock('l').ttl(10);
  await lock.acquire();
  await assert.rejects(keys.lock('l').acquire(), EtcdLockFailedError);
  await lock.release();
  assert.equal(await keys.lock('l').do(() => 42), 42);
});

client('elections', async (keys, etcd) => {
  const [one, two] = [etcd.election('node', 10), etcd.election('node', 10)];
  const first = one.campaign('first');
  await first.wait();
  assert.equal(await two.leader(), 'first');
  const second = two.campaign('second');
  await first.resign();
  await second.wait();
  assert.equal(await one.leader(), 'second');
  await second.resign();
});

client('cluster and maintenance', async (keys, etcd) => {
  const status = await etcd.maintenance.status();
  assert.match(status.version, /^3\.\d+\.\d+$/);
  const { members } = await etcd.cluster.memberList({});
  assert.deepEqual(members.map(m => m.name), ['m1']);
  assert.equal(members[0].ID, status.leader);
  assert.ok((await etcd.maintenance.hash()).hash > 0);
  await etcd.maintenance.defragment();
  assert.deepEqual((await etcd.maintenance.alarm({ action: 'Get', memberID: 0, alarm: 'None' })).alarms, []);
  const snapshot = await etcd.maintenance.snapshot();
  let bytes = 0;
  snapshot.on('data', piece => { bytes += piece.blob.length; });
  await once(snapshot, 'end');
  assert.equal(bytes % 512, 32);
});

client('errors', async (keys, etcd) => {
  const here = Number((await keys.put('a').value('1')).header.revision);
  await assert.rejects(keys.get('a').revision(here + 1000).string(), /required revision is a future revision/);
  await etcd.kv.compact({ revision: here, physical: true });
  await assert.rejects(keys.get('a').revision(here - 1).string(), /required revision has been compacted/);
  await assert.rejects(etcd.put('').value('x'), /key is not provided/);
  await assert.rejects(keys.put('a').value('x').lease('12345678'), /requested lease not found/);
  await assert.rejects(keys.put('a').value('x'.repeat(1_600_000)), /request is too large/);
  assert.equal(await keys.get('a').string(), '1', 'the client goes on after errors');
});
