package sqlite

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type heapItem struct{ slot }

// TestHeap takes items out at random places and the rest in order.
func TestHeap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var h, other heap[*heapItem]
		var in []*heapItem
		for seq := range rnd.IntN(60) {
			v := &heapItem{slot{seq: int64(seq)}}
			h.push(v, int64(rnd.IntN(8)))
			in = append(in, v)
		}
		in = slices.DeleteFunc(in, func(v *heapItem) bool {
			if rnd.IntN(3) > 0 {
				return false
			}
			if !h.has(v) || other.has(v) {
				t.Fatal("an item is not where it is")
			}
			h.remove(v)
			return !h.has(v)
		})
		slices.SortFunc(in, func(a, b *heapItem) int {
			if a.rank != b.rank {
				return int(a.rank - b.rank)
			}
			return int(a.seq - b.seq)
		})
		for _, want := range in {
			if h.first() != want || h.pop() != want || h.has(want) {
				t.Fatal("out of order")
			}
		}
		if h.len() != 0 {
			t.Fatalf("%d items are left", h.len())
		}
	}
}
