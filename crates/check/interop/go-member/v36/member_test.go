// A member of etcd's own: the test program takes etcd's flags. Run by the tests of mixed
// clusters, see src/cluster/make.rs.
package member

import (
	"os"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func TestMain(*testing.M) { etcdmain.Main(os.Args) }
