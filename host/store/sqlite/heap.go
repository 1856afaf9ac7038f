package sqlite

import "cmp"

// slot is an item's place in a heap; embed it.
type slot struct {
	rank int64 // order in the heap; ties go to the lower seq
	seq  int64
	pos  int // index plus one; zero: in no heap
}

func (s *slot) place() *slot { return s }

type placed interface{ place() *slot }

// heap is a min-heap by rank whose items can be taken out from the middle. An item is in one heap at most.
type heap[T placed] struct{ items []T }

func (h *heap[T]) len() int { return len(h.items) }

// first returns the lowest item; the heap must not be empty.
func (h *heap[T]) first() T { return h.items[0] }

// has says whether v is in this heap rather than another.
func (h *heap[T]) has(v placed) bool {
	s := v.place()
	return s.pos > 0 && s.pos <= len(h.items) && h.items[s.pos-1].place() == s
}

func (h *heap[T]) push(v T, rank int64) {
	s := v.place()
	s.rank = rank
	h.items = append(h.items, v)
	s.pos = len(h.items)
	h.up(len(h.items) - 1)
}

func (h *heap[T]) pop() T {
	v := h.items[0]
	h.remove(v)
	return v
}

// remove takes an item out that is in this heap.
func (h *heap[T]) remove(v T) {
	i := v.place().pos - 1
	last := len(h.items) - 1
	h.swap(i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	v.place().pos = 0
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h *heap[T]) less(i, j int) bool {
	a, b := h.items[i].place(), h.items[j].place()
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq)) < 0
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].place().pos = i + 1
	h.items[j].place().pos = j + 1
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if child+1 < len(h.items) && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return
		}
		h.swap(i, child)
		i = child
	}
}
