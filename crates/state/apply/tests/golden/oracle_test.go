// Runs requests through the appliers of etcd 3.7.1 itself and writes down what they
// answer and which rows they leave. To run it: see ../oracle_371.rs.
package apply

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3alarm"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	betesting "go.etcd.io/etcd/server/v3/storage/backend/testing"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

// The response without its header, as a short hash.
func outcome(r *Result) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	if r.Resp == nil {
		return "done"
	}
	m := proto.Clone(r.Resp).ProtoReflect()
	if header := m.Descriptor().Fields().ByName("header"); header != nil {
		m.Clear(header)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))[:12]
}

func rows(tx backend.ReadTx, bucket backend.Bucket) string {
	sum, count := sha256.New(), 0
	err := tx.UnsafeForEach(bucket, func(k, v []byte) error {
		count++
		for _, part := range [][]byte{k, v} {
			_ = binary.Write(sum, binary.BigEndian, uint64(len(part)))
			sum.Write(part)
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s %d %x", bucket, count, sum.Sum(nil)[:8])
}

func TestOracle(t *testing.T) {
	data, err := os.ReadFile(os.Getenv("ORACLE_REQUESTS"))
	require.NoError(t, err)
	lg := zap.NewNop()
	be, _ := betesting.NewDefaultTmpBackend(t)
	defer betesting.Close(t, be)
	cluster := membership.NewCluster(lg)
	cluster.SetBackend(schema.NewMembershipBackend(lg, be))
	cluster.AddMember(&membership.Member{ID: memberID}, true)
	lessor := lease.NewLessor(lg, be, cluster, lease.LessorConfig{MinLeaseTTL: 2})
	kv := mvcc.NewStore(lg, be, lessor, mvcc.StoreConfig{})
	alarmStore, err := v3alarm.NewAlarmStore(lg, schema.NewAlarmBackend(lg, be))
	require.NoError(t, err)
	tp, err := auth.NewTokenProvider(lg, "simple", dummyIndexWaiter, 300*time.Second)
	require.NoError(t, err)
	index := cindex.NewConsistentIndex(be)
	index.SetConsistentIndex(1, 1)
	applier := NewUberApplier(ApplierOptions{
		Logger:               lg,
		KV:                   kv,
		AlarmStore:           alarmStore,
		AuthStore:            auth.NewAuthStore(lg, schema.NewAuthBackend(lg, be), tp, 4),
		Lessor:               lessor,
		Cluster:              cluster,
		RaftStatus:           &fakeRaftStatusGetter{},
		SnapshotServer:       &fakeSnapshotServer{},
		ConsistentIndex:      index,
		Backend:              be,
		QuotaBackendBytesCfg: -1,
		WarningApplyDuration: time.Hour,
	})
	var out strings.Builder
	for at := uint64(2); len(data) > 0; at++ {
		size := binary.BigEndian.Uint32(data)
		var request pb.InternalRaftRequest
		require.NoError(t, proto.Unmarshal(data[4:4+size], &request))
		data = data[4+size:]
		wrapper := &InternalRaftRequestWrapper{InternalRaftRequest: &request}
		result := applier.Apply(wrapper, membership.ApplyBoth)
		if result.Physc != nil {
			<-result.Physc
		}
		index.SetConsistentIndex(at, 1)
		fmt.Fprintf(&out, "%d %s\n", kv.Rev(), outcome(result))
	}
	be.ForceCommit()
	tx := be.ReadTx()
	tx.RLock()
	for _, bucket := range []backend.Bucket{
		schema.Alarm, schema.Auth, schema.AuthRoles, schema.AuthUsers,
		schema.Cluster, schema.Key, schema.Lease, schema.Members,
	} {
		fmt.Fprintln(&out, rows(tx, bucket))
	}
	tx.RUnlock()
	require.NoError(t, os.WriteFile(os.Getenv("ORACLE_ANSWERS"), []byte(out.String()), 0o644))
}
