package plugin

import "testing"

func TestRest(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var r rest
	for i, step := range []struct {
		allocs uint64
		begins bool
	}{
		{1 * mib, false},   // nothing was done yet
		{2 * mib, false},   // nor now
		{50 * mib, false},  // work
		{90 * mib, false},  // more of it
		{91 * mib, true},   // the rest begins
		{92 * mib, false},  // and goes on
		{100 * mib, false}, // work
		{100 * mib, true},
	} {
		if got := r.begins(step.allocs); got != step.begins {
			t.Errorf("step %d, after %d MiB: begins = %v", i, step.allocs/mib, got)
		}
	}
}

func TestAllocatedGrows(t *testing.T) {
	t.Parallel()
	before := allocated()
	if before == 0 {
		t.Fatal("the runtime says that nothing was ever allocated: has the metric another name?")
	}
	var keep [][]byte
	for range 64 {
		keep = append(keep, make([]byte, 128<<10))
	}
	if after := allocated(); after < before+uint64(len(keep))*128<<10 {
		t.Errorf("8 MiB were allocated, and the count went from %d to %d", before, after)
	}
}
