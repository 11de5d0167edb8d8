// Package interop drives a running etcd with the Go client and judges what it says.
// The endpoint comes in INTEROP_ENDPOINT; the Rust tests start the member.
package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

func endpoint(t *testing.T) string {
	e := os.Getenv("INTEROP_ENDPOINT")
	if e == "" {
		t.Fatal("INTEROP_ENDPOINT is not set: a Rust test starts the member and sets it")
	}
	return e
}

func client(t *testing.T) *clientv3.Client {
	config := clientv3.Config{Endpoints: []string{endpoint(t)}, DialTimeout: 5 * time.Second}
	// Over mutual TLS when a test says with which files.
	if ca := os.Getenv("INTEROP_CA"); ca != "" {
		files := transport.TLSInfo{TrustedCAFile: ca, CertFile: os.Getenv("INTEROP_CERT"), KeyFile: os.Getenv("INTEROP_KEY")}
		tls, err := files.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		config.TLS = tls
	}
	c, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Every test has its own part of the key space.
func prefix(t *testing.T) string { return "/" + t.Name() + "/" }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPutGetDelete(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	first := must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "1"))
	second := must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "2", clientv3.WithPrevKV()))
	if string(second.PrevKv.Value) != "1" || second.Header.Revision != first.Header.Revision+1 {
		t.Fatalf("prev %v at %d after %d", second.PrevKv, second.Header.Revision, first.Header.Revision)
	}
	got := must[*clientv3.GetResponse](t)(c.Get(ctx, p+"a"))
	kv := got.Kvs[0]
	if got.Count != 1 || string(kv.Value) != "2" || kv.Version != 2 || kv.CreateRevision != first.Header.Revision {
		t.Fatalf("got %v", got)
	}
	old := must[*clientv3.GetResponse](t)(c.Get(ctx, p+"a", clientv3.WithRev(first.Header.Revision)))
	if string(old.Kvs[0].Value) != "1" {
		t.Fatalf("old %v", old)
	}
	del := must[*clientv3.DeleteResponse](t)(c.Delete(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV()))
	if del.Deleted != 1 || string(del.PrevKvs[0].Value) != "2" {
		t.Fatalf("del %v", del)
	}
	if n := must[*clientv3.GetResponse](t)(c.Get(ctx, p, clientv3.WithPrefix())).Count; n != 0 {
		t.Fatalf("%d keys left", n)
	}
}

func TestRangeOptions(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	for i := 0; i < 25; i++ {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("%s%02d", p, i), fmt.Sprint(25-i)))
	}
	page := must[*clientv3.GetResponse](t)(c.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithLimit(10)))
	if !page.More || page.Count != 25 || len(page.Kvs) != 10 {
		t.Fatalf("page more=%v count=%d len=%d", page.More, page.Count, len(page.Kvs))
	}
	last := must[*clientv3.GetResponse](t)(c.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1)))
	if string(last.Kvs[0].Key) != p+"24" {
		t.Fatalf("last %s", last.Kvs[0].Key)
	}
	keys := must[*clientv3.GetResponse](t)(c.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if len(keys.Kvs) != 25 || len(keys.Kvs[3].Value) != 0 {
		t.Fatalf("keys only %v", keys.Kvs[3])
	}
	count := must[*clientv3.GetResponse](t)(c.Get(ctx, p, clientv3.WithPrefix(), clientv3.WithCountOnly()))
	if count.Count != 25 || len(count.Kvs) != 0 {
		t.Fatalf("count %v", count)
	}
	_, err := c.Get(ctx, p, clientv3.WithRev(page.Header.Revision+1000))
	if !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Fatalf("future: %v", err)
	}
}

func TestTxn(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	create := func() *clientv3.TxnResponse {
		return must[*clientv3.TxnResponse](t)(c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(p+"a"), "=", 0)).
			Then(clientv3.OpPut(p+"a", "x"), clientv3.OpGet(p+"a"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(p+"b", "y")}, nil)).
			Else(clientv3.OpGet(p + "a")).Commit())
	}
	if r := create(); !r.Succeeded || len(r.Responses) != 3 || r.Responses[1].GetResponseRange().Count != 1 {
		t.Fatalf("first %v", r)
	}
	if r := create(); r.Succeeded || string(r.Responses[0].GetResponseRange().Kvs[0].Value) != "x" {
		t.Fatalf("second %v", r)
	}
	_, err := c.Txn(ctx).Then(clientv3.OpPut(p+"d", "1"), clientv3.OpPut(p+"d", "2")).Commit()
	if !errors.Is(err, rpctypes.ErrDuplicateKey) {
		t.Fatalf("duplicate: %v", err)
	}
	ops := make([]clientv3.Op, 129)
	for i := range ops {
		ops[i] = clientv3.OpPut(fmt.Sprint(p, i), "")
	}
	if _, err := c.Txn(ctx).Then(ops...).Commit(); !errors.Is(err, rpctypes.ErrTooManyOps) {
		t.Fatalf("too many: %v", err)
	}
}

func TestWatch(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	begin := must[*clientv3.PutResponse](t)(c.Put(ctx, p+"before", "0")).Header.Revision
	live := c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	if r := <-live; !r.Created {
		t.Fatalf("not created: %v", r)
	}
	for i := 0; i < 100; i++ {
		must[*clientv3.PutResponse](t)(c.Put(ctx, p+"k", fmt.Sprint(i)))
	}
	must[*clientv3.DeleteResponse](t)(c.Delete(ctx, p+"k"))
	collect := func(w clientv3.WatchChan, n int) (events []*clientv3.Event) {
		for len(events) < n {
			r, ok := <-w
			if !ok || r.Err() != nil {
				t.Fatalf("watch ended: %v", r.Err())
			}
			events = append(events, r.Events...)
		}
		return events
	}
	events := collect(live, 101)
	for i, e := range events[:100] {
		if string(e.Kv.Value) != fmt.Sprint(i) || (i > 0 && string(e.PrevKv.Value) != fmt.Sprint(i-1)) {
			t.Fatalf("event %d: %v", i, e)
		}
	}
	if events[100].Type != clientv3.EventTypeDelete || string(events[100].PrevKv.Value) != "99" {
		t.Fatalf("delete %v", events[100])
	}
	history := collect(c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(begin)), 102)
	if string(history[0].Kv.Key) != p+"before" {
		t.Fatalf("history starts with %v", history[0])
	}
	only := collect(c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFilterPut()), 1)
	if only[0].Type != clientv3.EventTypeDelete {
		t.Fatalf("filtered %v", only[0])
	}
}

func TestWatchProgressAndCompaction(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	watch := c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	rev := must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "")).Header.Revision
	<-watch
	if err := c.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	if r := <-watch; !r.IsProgressNotify() || r.Header.Revision < rev {
		t.Fatalf("progress %v", r)
	}
	for i := 0; i < 5; i++ {
		rev = must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "")).Header.Revision
	}
	must[*clientv3.CompactResponse](t)(c.Compact(ctx, rev, clientv3.WithCompactPhysical()))
	r := <-c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(rev-3))
	if r.CompactRevision != rev || !errors.Is(r.Err(), rpctypes.ErrCompacted) {
		t.Fatalf("compacted %v %v", r, r.Err())
	}
	if _, err := c.Get(ctx, p+"a", clientv3.WithRev(rev-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("get: %v", err)
	}
	if _, err := c.Compact(ctx, rev); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("compact again: %v", err)
	}
}

func TestManyWatchersOneStream(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	var watches []clientv3.WatchChan
	for i := 0; i < 200; i++ {
		w := c.Watch(ctx, fmt.Sprint(p, i), clientv3.WithCreatedNotify())
		<-w
		watches = append(watches, w)
	}
	for i := range watches {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprint(p, i), fmt.Sprint(i)))
	}
	for i, w := range watches {
		if r := <-w; string(r.Events[0].Kv.Value) != fmt.Sprint(i) {
			t.Fatalf("watch %d: %v", i, r.Events)
		}
	}
}

func TestLease(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60))
	must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "1", clientv3.WithLease(lease.ID)))
	alive := must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, lease.ID))
	if alive.TTL != 60 {
		t.Fatalf("ttl %d", alive.TTL)
	}
	left := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))
	if left.GrantedTTL != 60 || left.TTL > 60 || left.TTL < 50 || string(left.Keys[0]) != p+"a" {
		t.Fatalf("left %v", left)
	}
	found := false
	for _, l := range must[*clientv3.LeaseLeasesResponse](t)(c.Leases(ctx)).Leases {
		found = found || l.ID == lease.ID
	}
	if !found {
		t.Fatal("the lease is not listed")
	}
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, lease.ID))
	if n := must[*clientv3.GetResponse](t)(c.Get(ctx, p+"a")).Count; n != 0 {
		t.Fatal("the key outlived its lease")
	}
	if _, err := c.Revoke(ctx, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("revoke: %v", err)
	}
	if _, err := c.KeepAliveOnce(ctx, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("keep alive: %v", err)
	}
	if gone := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, lease.ID)); gone.TTL != -1 {
		t.Fatalf("gone: %v", gone)
	}
	if _, err := c.Put(ctx, p+"b", "", clientv3.WithLease(lease.ID)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("put: %v", err)
	}
}

func TestLeaseExpires(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	watch := c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 2))
	granted := time.Now()
	must[*clientv3.PutResponse](t)(c.Put(ctx, p+"b", "", clientv3.WithLease(lease.ID)))
	must[*clientv3.PutResponse](t)(c.Put(ctx, p+"a", "", clientv3.WithLease(lease.ID)))
	<-watch
	<-watch
	r := <-watch
	if age := time.Since(granted); age < 2*time.Second {
		t.Fatalf("expired after %v, granted for 2 s", age)
	}
	if len(r.Events) != 2 || string(r.Events[0].Kv.Key) != p+"a" || r.Events[1].Type != clientv3.EventTypeDelete {
		t.Fatalf("events %v", r.Events)
	}
}

func TestKeepAliveStream(t *testing.T) {
	c, ctx := client(t), within(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 2))
	alive := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(ctx, lease.ID))
	begun := time.Now()
	for time.Since(begun) < 4*time.Second {
		if r := <-alive; r == nil || r.TTL != 2 {
			t.Fatalf("keep alive %v", r)
		}
	}
}

func TestMutexAndElection(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	var inside, total int
	var all sync.WaitGroup
	for i := 0; i < 4; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			s, err := concurrency.NewSession(c, concurrency.WithTTL(10))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for j := 0; j < 5; j++ {
				m := concurrency.NewMutex(s, p+"lock")
				if err := m.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				inside++
				if inside != 1 {
					t.Errorf("%d inside", inside)
				}
				total++
				inside--
				if err := m.Unlock(ctx); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if total != 20 {
		t.Fatalf("total %d", total)
	}
	s := must[*concurrency.Session](t)(concurrency.NewSession(c, concurrency.WithTTL(10)))
	defer s.Close()
	e := concurrency.NewElection(s, p+"election")
	if err := e.Campaign(ctx, "me"); err != nil {
		t.Fatal(err)
	}
	if leader := must[*clientv3.GetResponse](t)(e.Leader(ctx)); string(leader.Kvs[0].Value) != "me" {
		t.Fatalf("leader %v", leader)
	}
	if err := e.Resign(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestSTM(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	var all sync.WaitGroup
	for i := 0; i < 4; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 10; j++ {
				if _, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					var n int
					fmt.Sscan(s.Get(p+"n"), &n)
					s.Put(p+"n", fmt.Sprint(n+1))
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if v := must[*clientv3.GetResponse](t)(c.Get(ctx, p+"n")); string(v.Kvs[0].Value) != "40" {
		t.Fatalf("counted %s", v.Kvs[0].Value)
	}
}

func TestMirror(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	for i := 0; i < 1500; i++ {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("%s%04d", p, i), ""))
	}
	s := mirror.NewSyncer(c, p, 0)
	base, errs := s.SyncBase(ctx)
	n := 0
	for r := range base {
		n += len(r.Kvs)
	}
	if err := <-errs; err != nil || n != 1500 {
		t.Fatalf("%d keys, %v", n, err)
	}
	updates := s.SyncUpdates(ctx)
	must[*clientv3.PutResponse](t)(c.Put(ctx, p+"new", "1"))
	if r := <-updates; string(r.Events[0].Kv.Key) != p+"new" {
		t.Fatalf("update %v", r)
	}
}

func TestNamespaceOrderingLeasing(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	ns := namespace.NewKV(c.KV, p)
	must[*clientv3.PutResponse](t)(ns.Put(ctx, "a", "1"))
	if v := must[*clientv3.GetResponse](t)(c.Get(ctx, p+"a")); v.Count != 1 {
		t.Fatal("namespace")
	}
	ord := ordering.NewKV(ns, func(clientv3.Op, clientv3.OpResponse, int64) error { return errors.New("went back") })
	for i := 0; i < 10; i++ {
		must[*clientv3.PutResponse](t)(ord.Put(ctx, "a", fmt.Sprint(i)))
		must[*clientv3.GetResponse](t)(ord.Get(ctx, "a", clientv3.WithSerializable()))
	}
	kv, closeKV, err := leasing.NewKV(c, p+"leasing/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeKV()
	for i := 0; i < 10; i++ {
		must[*clientv3.PutResponse](t)(kv.Put(ctx, p+"b", fmt.Sprint(i)))
		if v := must[*clientv3.GetResponse](t)(kv.Get(ctx, p+"b")); string(v.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("leasing %v", v)
		}
	}
}

func TestMaintenance(t *testing.T) {
	c, ctx := client(t), within(t)
	status := must[*clientv3.StatusResponse](t)(c.Status(ctx, endpoint(t)))
	if status.Leader == 0 || status.RaftAppliedIndex == 0 || status.DbSize == 0 {
		t.Fatalf("status %v", status)
	}
	a := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint(t), 0))
	b := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint(t), a.Header.Revision))
	if a.Hash != b.Hash {
		t.Fatalf("hash %d then %d", a.Hash, b.Hash)
	}
	must[*clientv3.DefragmentResponse](t)(c.Defragment(ctx, endpoint(t)))
	if after := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint(t), a.Header.Revision)); after.Hash != a.Hash {
		t.Fatalf("hash %d after defragment %d", a.Hash, after.Hash)
	}
	members := must[*clientv3.MemberListResponse](t)(c.MemberList(ctx))
	if len(members.Members) != 1 || members.Members[0].Name == "" {
		t.Fatalf("members %v", members)
	}
	if alarms := must[*clientv3.AlarmResponse](t)(c.AlarmList(ctx)); len(alarms.Alarms) != 0 {
		t.Fatalf("alarms %v", alarms)
	}
}

func TestBadRequests(t *testing.T) {
	c, ctx, p := client(t), within(t), prefix(t)
	if _, err := c.Put(ctx, "", "x"); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Fatalf("empty key: %v", err)
	}
	if _, err := c.Put(ctx, p+"a", string(make([]byte, 1600*1024))); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Fatalf("too large: %v", err)
	}
	if _, err := c.Put(ctx, p+"missing", "", clientv3.WithIgnoreValue()); !errors.Is(err, rpctypes.ErrKeyNotFound) {
		t.Fatalf("ignore value: %v", err)
	}
	if _, err := c.Grant(ctx, 9000000001); !errors.Is(err, rpctypes.ErrLeaseTTLTooLarge) {
		t.Fatalf("ttl: %v", err)
	}
	if _, err := c.Compact(ctx, 1<<40); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Fatalf("compact: %v", err)
	}
}
