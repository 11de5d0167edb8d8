// Command gobolt is the other party: Go's own bbolt opens what the Rust tests
// made, checks it, prints it, and changes it.
//
//	gobolt check FILE            open for writing as etcd does, check, print every row
//	gobolt change FILE SEED N    N random transactions as etcd would make them
//	gobolt freelist FILE         one transaction that stores the free list
//	gobolt nest FILE             a bucket "outer" with rows and nested buckets
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gobolt:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: gobolt check|change|freelist|nest FILE [SEED N]")
	}
	options := &bolt.Options{NoFreelistSync: args[0] != "freelist", FreelistType: bolt.FreelistMapType}
	db, err := bolt.Open(args[1], 0o600, options)
	if err != nil {
		return err
	}
	defer db.Close()
	switch args[0] {
	case "check":
		return check(db)
	case "change":
		seed, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return change(db, rand.New(rand.NewSource(seed)), n)
	case "freelist":
		return db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte("meta"))
			return err
		})
	}
	if args[0] == "nest" {
		return db.Update(nest)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// check runs bbolt's own check and prints one line for each row: bucket, key and FNV-1a of the value.
func check(db *bolt.DB) error {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	return db.View(func(tx *bolt.Tx) error {
		for fault := range tx.Check() {
			return fault
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			fmt.Fprintf(out, "%x\n", name)
			return b.ForEach(func(k, v []byte) error {
				hash := fnv.New64a()
				_, _ = hash.Write(v)
				fmt.Fprintf(out, "%x %x %016x\n", name, k, hash.Sum64())
				return nil
			})
		})
	})
}

// nest makes "outer" with 100 rows, "inner" (inline) and "deep" (several pages, a bucket in it).
func nest(tx *bolt.Tx) error {
	outer, err := tx.CreateBucket([]byte("outer"))
	if err != nil {
		return err
	}
	inner, err := outer.CreateBucket([]byte("inner"))
	if err != nil {
		return err
	}
	deep, err := outer.CreateBucket([]byte("deep"))
	if err != nil {
		return err
	}
	deeper, err := deep.CreateBucket([]byte("deeper"))
	if err != nil {
		return err
	}
	if err := inner.SetSequence(42); err != nil {
		return err
	}
	for i := range 100 {
		key := fmt.Appendf(nil, "row-%03d", i)
		for _, b := range []*bolt.Bucket{outer, deep, deeper} {
			if err := b.Put(key, make([]byte, 100)); err != nil {
				return err
			}
		}
	}
	return inner.Put([]byte("k"), []byte("v"))
}

// change puts and deletes rows at random, at the right edge and in the middle.
func change(db *bolt.DB, dice *rand.Rand, n int) error {
	names := []string{"a", "key", "lease", "meta"}
	revision := uint64(1 << 40)
	for range n {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(names[dice.Intn(len(names))]))
			if err != nil {
				return err
			}
			b.FillPercent = 0.5 + 0.4*float64(dice.Intn(2))
			for range dice.Intn(300) {
				revision++
				key := binary.BigEndian.AppendUint64([]byte("z"), revision)
				if dice.Intn(2) == 0 {
					key = fmt.Appendf(nil, "key-%d", dice.Intn(3000))
				}
				if err := b.Put(key, make([]byte, dice.Intn(1+dice.Intn(3000)))); err != nil {
					return err
				}
			}
			return thin(b, dice)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// thin deletes a stretch of rows.
func thin(b *bolt.Bucket, dice *rand.Rand) error {
	var doomed [][]byte
	c := b.Cursor()
	k, _ := c.Seek(fmt.Appendf(nil, "key-%d", dice.Intn(3000)))
	for left := dice.Intn(400); k != nil && left > 0; left-- {
		doomed = append(doomed, append([]byte(nil), k...))
		k, _ = c.Next()
	}
	for _, key := range doomed {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
