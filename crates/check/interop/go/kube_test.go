package interop

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What kube-apiserver asks of etcd on /registry/...: creation and update by transactions
// on the mod revision, lists in pages at one revision, watches with previous values and
// progress, and the compaction protocol that several apiservers share.

// objects in the run; INTEROP_KUBE_OBJECTS changes it.
func objects() int {
	if n, err := strconv.Atoi(os.Getenv("INTEROP_KUBE_OBJECTS")); err == nil {
		return n
	}
	return 100_000
}

// A pod as the apiserver stores it is some 3 kB of protobuf; nodes and leases differ.
func manifest(rng *rand.Rand, kind string, i int) string {
	size := map[string]int{"pods": 3000, "configmaps": 1500, "leases": 400, "minions": 8000}[kind]
	var b strings.Builder
	fmt.Fprintf(&b, "k8s\x00\n\x0c\n\x02v1\x12\x06%s name:%06d uid:%016x ", kind, i, rng.Uint64())
	for b.Len() < size {
		fmt.Fprintf(&b, "label-%d=%x;", rng.Intn(100), rng.Uint64())
	}
	return b.String()[:size]
}

func objectKey(i int) string {
	switch {
	case i%100 == 0:
		return fmt.Sprintf("/registry/minions/node-%06d", i)
	case i%10 == 1:
		return fmt.Sprintf("/registry/leases/kube-node-lease/node-%06d", i)
	case i%10 == 2:
		return fmt.Sprintf("/registry/configmaps/ns-%03d/cm-%06d", i%500, i)
	default:
		return fmt.Sprintf("/registry/pods/ns-%03d/pod-%06d", i%500, i)
	}
}

func create(ctx context.Context, c *clientv3.Client, key, value string) (int64, error) {
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value)).Commit()
	if err != nil {
		return 0, err
	}
	if !r.Succeeded {
		return 0, fmt.Errorf("%s exists", key)
	}
	return r.Header.Revision, nil
}

// update is GuaranteedUpdate: put if the mod revision is as known, else learn the newest.
func update(ctx context.Context, c *clientv3.Client, key, value string, known int64) (rev int64, conflicts int, err error) {
	for {
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", known)).
			Then(clientv3.OpPut(key, value)).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return 0, conflicts, err
		}
		if r.Succeeded {
			return r.Header.Revision, conflicts, nil
		}
		conflicts++
		known = r.Responses[0].GetResponseRange().Kvs[0].ModRevision
	}
}

// list walks a prefix in pages, all at the revision of the first.
func list(ctx context.Context, c *clientv3.Client, prefix string, limit int64) (keys map[string]int64, rev int64, err error) {
	keys = map[string]int64{}
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(limit)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		page, err := c.Get(ctx, from, opts...)
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = page.Header.Revision
		}
		if want := int64(len(keys)); page.Count+want < int64(len(page.Kvs))+want {
			return nil, 0, fmt.Errorf("count %d below %d", page.Count, len(page.Kvs))
		}
		for _, kv := range page.Kvs {
			if _, twice := keys[string(kv.Key)]; twice {
				return nil, 0, fmt.Errorf("%s twice", kv.Key)
			}
			keys[string(kv.Key)] = kv.ModRevision
		}
		if !page.More {
			return keys, rev, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func TestKubernetesShaped(t *testing.T) {
	c := client(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	total := objects()

	// An informer: it lists, then watches from there, and must end with the same state.
	cache := &informer{state: map[string]int64{}}
	_, start, err := list(ctx, c, "/registry/", 500)
	if err != nil {
		t.Fatal(err)
	}
	watch := c.Watch(clientv3.WithRequireLeader(ctx), "/registry/", clientv3.WithPrefix(), clientv3.WithRev(start+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
	done := make(chan error, 1)
	go func() { done <- cache.follow(watch) }()

	revisions := make([]int64, total)
	inParallel(t, 16, total, func(rng *rand.Rand, i int) error {
		key := objectKey(i)
		rev, err := create(ctx, c, key, manifest(rng, strings.Split(key, "/")[2], i))
		revisions[i] = rev
		return err
	})
	if _, err := create(ctx, c, objectKey(3), "again"); err == nil {
		t.Fatal("an object was created twice")
	}
	// Stale updates conflict once and then succeed; a third of the objects change, some go.
	var conflicts atomic.Int64
	inParallel(t, 16, total/3, func(rng *rand.Rand, i int) error {
		key, known := objectKey(i), revisions[i]
		if i%7 == 0 {
			known-- // as from a stale cache
		}
		rev, n, err := update(ctx, c, key, manifest(rng, strings.Split(key, "/")[2], i), known)
		conflicts.Add(int64(n))
		revisions[i] = rev
		return err
	})
	if want := int64((total/3 + 6) / 7); conflicts.Load() != want {
		t.Fatalf("%d conflicts, %d stale updates", conflicts.Load(), want)
	}
	inParallel(t, 8, total/20, func(_ *rand.Rand, i int) error {
		key := objectKey(i)
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revisions[i])).
			Then(clientv3.OpDelete(key)).Else(clientv3.OpGet(key)).Commit()
		if err == nil && !r.Succeeded {
			err = fmt.Errorf("%s changed behind its owner", key)
		}
		revisions[i] = 0
		return err
	})

	listed, rev, err := list(ctx, c, "/registry/", 500)
	if err != nil {
		t.Fatal(err)
	}
	if want := total - total/20; len(listed) != want {
		t.Fatalf("%d listed, %d exist", len(listed), want)
	}
	for i := range revisions {
		if listed[objectKey(i)] != revisions[i] {
			t.Fatalf("%s at %d, written at %d", objectKey(i), listed[objectKey(i)], revisions[i])
		}
	}
	count, err := c.Get(ctx, "/registry/pods/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || count.Count == 0 {
		t.Fatalf("count %v %v", count, err)
	}

	// The marker tells the informer that it has seen everything.
	last, err := c.Put(ctx, "/registry/zz-marker", "end")
	if err != nil {
		t.Fatal(err)
	}
	cache.until.Store(last.Header.Revision)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatal("the informer did not see the marker")
	}
	delete(cache.state, "/registry/zz-marker")
	if len(cache.state) != len(listed) {
		t.Fatalf("the informer holds %d, the list %d", len(cache.state), len(listed))
	}
	for key, at := range listed {
		if cache.state[key] != at {
			t.Fatalf("informer: %s at %d, listed %d", key, cache.state[key], at)
		}
	}
	t.Logf("%d objects, %d conflicts, %d events, list at %d", total, conflicts.Load(), cache.events, rev)
	compactionProtocol(t, ctx, c, last.Header.Revision)
}

type informer struct {
	state  map[string]int64
	events int
	until  atomic.Int64
}

func (n *informer) follow(watch clientv3.WatchChan) error {
	var last int64
	for r := range watch {
		if err := r.Err(); err != nil {
			return err
		}
		for _, e := range r.Events {
			n.events++
			if e.Kv.ModRevision < last {
				return fmt.Errorf("went back from %d to %d", last, e.Kv.ModRevision)
			}
			last = e.Kv.ModRevision
			key := string(e.Kv.Key)
			known, have := n.state[key]
			if have != (e.PrevKv != nil) || have && e.PrevKv.ModRevision != known {
				return fmt.Errorf("%s: previous value %v, known %d", key, e.PrevKv, known)
			}
			if e.Type == clientv3.EventTypeDelete {
				delete(n.state, key)
			} else {
				n.state[key] = e.Kv.ModRevision
			}
			if key == "/registry/zz-marker" {
				return nil
			}
		}
	}
	return fmt.Errorf("the watch ended")
}

// compactionProtocol is the apiservers' agreement on who compacts: a key whose version is time.
func compactionProtocol(t *testing.T, ctx context.Context, c *clientv3.Client, rev int64) {
	const key = "compact_rev_key"
	attempt := func(version int64) (bool, int64, int64) {
		r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", version)).
			Then(clientv3.OpPut(key, strconv.FormatInt(rev, 10))).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if r.Succeeded {
			return true, version + 1, r.Header.Revision
		}
		return false, r.Responses[0].GetResponseRange().Kvs[0].Version, r.Header.Revision
	}
	if won, _, _ := attempt(0); !won {
		t.Fatal("the first apiserver must win")
	}
	won, version, _ := attempt(0)
	if won || version != 1 {
		t.Fatalf("the second apiserver must lose and learn version 1: %v %d", won, version)
	}
	if won, _, _ := attempt(version); !won {
		t.Fatal("with the right version it must win")
	}
	if _, err := c.Compact(ctx, rev); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithRev(rev-1)); err == nil {
		t.Fatal("a continue token from before the compaction must fail")
	}
	if _, _, err := list(ctx, c, "/registry/", 500); err != nil {
		t.Fatal(err)
	}
}

func inParallel(t *testing.T, workers, n int, work func(*rand.Rand, int) error) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	var once sync.Once
	var failed error
	for w := 0; w < workers; w++ {
		all.Add(1)
		go func() {
			defer all.Done()
			rng := rand.New(rand.NewSource(int64(w)))
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := work(rng, i); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		}()
	}
	all.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
}
