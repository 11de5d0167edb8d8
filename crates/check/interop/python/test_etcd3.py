"""The Python client etcd3, unmodified, against the member at INTEROP_ENDPOINT.

Run by tests/python_client.rs, with the standard library's unittest.
"""

import io
import os
import queue
import threading
import time
import unittest

import etcd3
from etcd3 import exceptions
from etcd3.events import DeleteEvent, PutEvent

HOST, PORT = os.environ["INTEROP_ENDPOINT"].split(":")
PATIENCE = 20


def wait_for(what, condition):
    """Asks until it holds; fails after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain for " + what)
        time.sleep(0.05)


class Client(unittest.TestCase):
    def setUp(self):
        self.etcd = etcd3.client(host=HOST, port=int(PORT), timeout=PATIENCE)
        self.p = "/python/" + self._testMethodName + "/"

    def tearDown(self):
        self.etcd.delete_prefix(self.p)
        self.etcd.close()

    def revision(self):
        return self.etcd.get_response(self.p).header.revision

    def take(self, events, n):
        """The next n events of a watch, read on a thread so that none is waited for forever."""
        got = queue.Queue()

        def read():
            for event in events:
                got.put(event)

        threading.Thread(target=read, daemon=True).start()
        return [got.get(timeout=PATIENCE) for _ in range(n)]

    def test_put_get_delete(self):
        key = self.p + "a"
        self.etcd.put(key, "1")
        answer = self.etcd.put(key, "2", prev_kv=True)
        self.assertEqual(answer.prev_kv.value, b"1")
        value, meta = self.etcd.get(key)
        self.assertEqual((value, meta.version, meta.key), (b"2", 2, key.encode()))
        self.assertEqual(meta.mod_revision, meta.create_revision + 1)
        self.assertEqual(self.etcd.get(key, serializable=True)[0], b"2")
        self.assertEqual(self.etcd.get(self.p + "none"), (None, None))
        deleted = self.etcd.delete(key, prev_kv=True, return_response=True)
        self.assertEqual((deleted.deleted, deleted.prev_kvs[0].value), (1, b"2"))
        self.assertFalse(self.etcd.delete(key))

    def test_bytes_of_any_kind(self):
        key, value = self.p.encode() + bytes(range(256)), bytes(range(256)) * 400
        self.etcd.put(key, value)
        got, meta = self.etcd.get(key)
        self.assertEqual((got, meta.key), (value, key))

    def test_ranges(self):
        for n in range(20):
            self.etcd.put("%s%02d" % (self.p, n), str(99 - n))
        keys = [m.key for _, m in self.etcd.get_prefix(self.p, sort_order="descend")]
        self.assertEqual(len(keys), 20)
        self.assertEqual(keys, sorted(keys, reverse=True))
        values = [
            v for v, _ in self.etcd.get_prefix(self.p, sort_order="ascend", sort_target="value")
        ]
        self.assertEqual(values, sorted(values))
        some = list(self.etcd.get_range(self.p + "05", self.p + "08"))
        self.assertEqual([v for v, _ in some], [b"94", b"93", b"92"])
        bare = list(self.etcd.get_prefix(self.p, keys_only=True))
        self.assertEqual({v for v, _ in bare}, {b""})
        self.assertGreaterEqual(len(list(self.etcd.get_all())), 20)
        self.assertEqual(self.etcd.delete_prefix(self.p).deleted, 20)

    def test_transactions(self):
        t, key = self.etcd.transactions, self.p + "a"
        self.assertTrue(self.etcd.put_if_not_exists(key, "1"))
        self.assertFalse(self.etcd.put_if_not_exists(key, "2"))
        self.assertFalse(self.etcd.replace(key, "no", "3"))
        self.assertTrue(self.etcd.replace(key, "1", "3"))
        held, answers = self.etcd.transaction(
            compare=[
                t.value(key) == "3",
                t.version(key) > 1,
                t.create(key) > 0,
                t.mod(key) != 0,
                t.version(self.p + "none") == 0,
            ],
            success=[
                t.put(self.p + "b", "x"),
                t.get(self.p + "b"),
                t.delete(key),
                # Compared before any of these operations is done.
                t.txn([t.version(key) > 0], [t.put(self.p + "c", "y")], []),
            ],
            failure=[],
        )
        self.assertTrue(held)
        self.assertEqual(answers[1][0][0], b"x")
        self.assertEqual(self.etcd.get(self.p + "c")[0], b"y")
        held, answers = self.etcd.transaction(
            compare=[t.version(key) > 0], success=[], failure=[t.get(self.p + "b")]
        )
        self.assertFalse(held)
        self.assertEqual(answers[0][0][0], b"x")

    def test_watch(self):
        events, cancel = self.etcd.watch_prefix(self.p, prev_kv=True)
        self.etcd.put(self.p + "a", "1")
        self.etcd.put(self.p + "a", "2")
        self.etcd.delete(self.p + "a")
        one, two, three = self.take(events, 3)
        self.assertIsInstance(one, PutEvent)
        self.assertEqual((one.key, one.value), ((self.p + "a").encode(), b"1"))
        self.assertEqual((two.value, two.prev_value), (b"2", b"1"))
        self.assertIsInstance(three, DeleteEvent)
        self.assertEqual(three.prev_value, b"2")
        cancel()

    def test_watch_from_the_past(self):
        start = self.revision() + 1
        for n in range(50):
            self.etcd.put(self.p + "a", str(n))
        events, cancel = self.etcd.watch(self.p + "a", start_revision=start)
        got = self.take(events, 50)
        self.assertEqual([int(e.value) for e in got], list(range(50)))
        self.assertEqual([e.mod_revision for e in got], list(range(start, start + 50)))
        cancel()

    def test_many_watches_on_one_stream(self):
        got = queue.Queue()
        ids = [
            self.etcd.add_watch_callback(
                "%s%d" % (self.p, n),
                lambda r, n=n: [got.put((n, e.value)) for e in r.events],
            )
            for n in range(30)
        ]
        for n in range(30):
            self.etcd.put("%s%d" % (self.p, n), str(n))
        seen = {got.get(timeout=PATIENCE) for _ in range(30)}
        self.assertEqual(seen, {(n, str(n).encode()) for n in range(30)})
        for watch in ids:
            self.etcd.cancel_watch(watch)
        self.etcd.put(self.p + "0", "after")
        self.etcd.add_watch_callback(self.p + "z", lambda r: got.put("z"))
        self.etcd.put(self.p + "z", "")
        self.assertEqual(got.get(timeout=PATIENCE), "z")

    def test_watch_of_what_is_compacted(self):
        for n in range(3):
            self.etcd.put(self.p + "a", str(n))
        here = self.revision()
        self.etcd.compact(here, physical=True)
        told = queue.Queue()
        self.etcd.add_watch_callback(self.p + "a", told.put, start_revision=here - 1)
        error = told.get(timeout=PATIENCE)
        self.assertIsInstance(error, exceptions.RevisionCompactedError)
        self.assertEqual(error.compacted_revision, here)

    def test_lease_is_kept_alive_and_ends(self):
        lease = self.etcd.lease(2)
        self.etcd.put(self.p + "a", "1", lease=lease)
        self.assertEqual(self.etcd.get(self.p + "a")[1].lease_id, lease.id)
        self.assertEqual((lease.granted_ttl, lease.keys), (2, [(self.p + "a").encode()]))
        for _ in range(4):
            time.sleep(1)
            self.assertEqual([a.TTL for a in lease.refresh()], [2])
        self.assertEqual(self.etcd.get(self.p + "a")[0], b"1", "renewed past its time")
        events, cancel = self.etcd.watch(self.p + "a")
        self.assertIsInstance(self.take(events, 1)[0], DeleteEvent)
        cancel()
        self.assertEqual(self.etcd.get_lease_info(lease.id).TTL, -1)

    def test_lease_revoked(self):
        lease = self.etcd.lease(600, lease_id=77001)
        self.assertEqual(lease.id, 77001)
        self.etcd.put(self.p + "a", "1", lease=lease)
        lease.revoke()
        self.assertEqual(self.etcd.get(self.p + "a"), (None, None))

    def test_locks(self):
        name, ours = self.p + "lock", []
        inside, most = [0], [0]
        guard = threading.Lock()

        def work(n):
            with etcd3.client(host=HOST, port=int(PORT), timeout=PATIENCE) as client:
                for _ in range(3):
                    lock = client.lock(name, ttl=30)
                    wait_for("the lock", lambda: lock.acquire(timeout=0))
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    ours.append(n)
                    with guard:
                        inside[0] -= 1
                    lock.release()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        [t.start() for t in threads]
        [t.join(60) for t in threads]
        self.assertEqual((len(ours), most[0]), (12, 1))

    def test_a_lock_is_not_given_twice(self):
        one, two = self.etcd.lock(self.p + "l", ttl=30), self.etcd.lock(self.p + "l", ttl=30)
        self.assertTrue(one.acquire(timeout=PATIENCE))
        self.assertTrue(one.is_acquired())
        # With a time the client's own wait fails: its retry library changed under it.
        self.assertFalse(two.acquire(timeout=0))
        one.release()
        self.assertTrue(two.acquire(timeout=PATIENCE))
        two.release()

    def test_cluster_and_maintenance(self):
        status = self.etcd.status()
        self.assertRegex(status.version, r"^3\.\d+\.\d+$")
        self.assertGreater(status.db_size, 0)
        members = list(self.etcd.members)
        self.assertEqual([m.name for m in members], ["m1"])
        self.assertEqual(status.leader.id, members[0].id)
        self.assertIsInstance(self.etcd.hash(), int)
        self.etcd.defragment()
        file = io.BytesIO()
        self.etcd.snapshot(file)
        self.assertEqual(len(file.getvalue()) % 512, 32)

    def test_alarms(self):
        self.etcd.create_alarm()
        try:
            self.assertEqual(len(list(self.etcd.list_alarms())), 1)
        finally:
            self.etcd.disarm_alarm()
        self.assertEqual(list(self.etcd.list_alarms()), [])
        self.etcd.put(self.p + "a", "writable again")

    def test_errors(self):
        with self.assertRaises(Exception) as told:
            self.etcd.compact(self.revision() + 1000)
        self.assertIn("required revision is a future revision", str(told.exception))
        with self.assertRaises(Exception) as told:
            self.etcd.put("", "no key")
        self.assertIn("key is not provided", str(told.exception))
        with self.assertRaises(Exception) as told:
            self.etcd.put(self.p + "a", "1", lease=12345678)
        self.assertIn("requested lease not found", str(told.exception))
        with self.assertRaises(Exception) as told:
            self.etcd.put(self.p + "a", b"x" * 1_600_000)
        self.assertIn("request is too large", str(told.exception))
        wait_for("an answer after errors", lambda: self.etcd.get(self.p) == (None, None))


if __name__ == "__main__":
    unittest.main()
