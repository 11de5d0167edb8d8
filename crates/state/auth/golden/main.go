// Makes the two .txt files beside it with the packages that etcd uses, so that our
// ports of them can be compared without Go. To run it: an etcd source tree's `pkg`
// module as go.etcd.io/etcd/pkg/v3 (3.7.1), then `go run main.go`.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"

	"go.etcd.io/etcd/pkg/v3/adt"
)

type byLetter struct {
	letters []byte
	places  []int
}

func (s byLetter) Len() int           { return len(s.letters) }
func (s byLetter) Less(i, j int) bool { return s.letters[i] < s.letters[j] }
func (s byLetter) Swap(i, j int) {
	s.letters[i], s.letters[j] = s.letters[j], s.letters[i]
	s.places[i], s.places[j] = s.places[j], s.places[i]
}

// Each line: letters to sort, and where each place of the result came from.
func sorts(dice *rand.Rand) string {
	var out strings.Builder
	for n := 0; n < 160; n++ {
		letters := make([]byte, 2+dice.Intn(110))
		kinds := 1 + dice.Intn(26)
		for i := range letters {
			letters[i] = byte('a' + dice.Intn(kinds))
		}
		switch n % 4 {
		case 0: // one more behind a sorted list, as a grant does it
			before := letters[:len(letters)-1]
			sort.Slice(before, func(i, j int) bool { return before[i] < before[j] })
		case 1: // falling
			sort.Slice(letters, func(i, j int) bool { return letters[i] > letters[j] })
		case 2: // nearly sorted
			sort.Slice(letters, func(i, j int) bool { return letters[i] < letters[j] })
			for i := 0; i < 3; i++ {
				a, b := dice.Intn(len(letters)), dice.Intn(len(letters))
				letters[a], letters[b] = letters[b], letters[a]
			}
		}
		fmt.Fprintf(&out, "%s", letters)
		places := make([]int, len(letters))
		for i := range places {
			places[i] = i
		}
		sort.Sort(byLetter{letters, places})
		for _, place := range places {
			fmt.Fprintf(&out, " %d", place)
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

func word(dice *rand.Rand) string {
	letters := make([]byte, dice.Intn(4))
	for i := range letters {
		letters[i] = byte('a' + dice.Intn(3))
	}
	return string(letters)
}

func span(key, end string) adt.Interval {
	switch end {
	case "":
		return adt.NewBytesAffinePoint([]byte(key))
	case "0":
		return adt.NewBytesAffineInterval([]byte(key), nil)
	}
	return adt.NewBytesAffineInterval([]byte(key), []byte(end))
}

// Each line: ranges that are granted, then questions with their answers. "0" as an end
// stands for the zero byte. Most ranges hold keys, some do not.
func covers(dice *rand.Rand) string {
	var out strings.Builder
	for n := 0; n < 120; n++ {
		tree := adt.NewIntervalTree()
		for i := 1 + dice.Intn(24); i > 0; i-- {
			key, end := word(dice), ""
			switch kind := dice.Intn(10); {
			case kind == 0:
				end = "0"
			case kind < 8:
				end = word(dice)
			}
			if end != "" && end != "0" && end <= key && dice.Intn(20) != 0 {
				key, end = end, key
			}
			if key == "" && dice.Intn(10) != 0 {
				key = "a"
			}
			tree.Insert(span(key, end), struct{}{})
			fmt.Fprintf(&out, "+%s,%s ", key, end)
		}
		for i := 0; i < 40; i++ {
			key, end := word(dice), ""
			switch kind := dice.Intn(10); {
			case kind == 0:
				end = "0"
			case kind < 9:
				end = word(dice)
			}
			answer := false
			if end == "" {
				answer = tree.Intersects(span(key, end))
			} else {
				answer = tree.Contains(span(key, end))
			}
			fmt.Fprintf(&out, "?%s,%s=%v ", key, end, answer)
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

func main() {
	dice := rand.New(rand.NewSource(3))
	for name, text := range map[string]string{"sorts.txt": sorts(dice), "covers.txt": covers(dice)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			panic(err)
		}
	}
}
