package catalog

import "testing"

// A look-up that came in before its process ended and is served after it must not begin work that nobody waits for: the
// wait group of an instance that has ended may not be used again.
func TestNoResolverAfterTheEnd(t *testing.T) {
	t.Parallel()
	in := &instance{ended: true, resolvers: map[resolverKey]*resolver{}}
	r := in.resolver(&conn{spec: Connection{Name: "alerts"}}, "alerts")
	<-r.dead
	e := r.enlist(&waiter{}, nil)
	if e == nil || e.Reason != reasonStreamEnded {
		t.Errorf("got %v, want an error that lets the caller go to the next process", e)
	}
	if len(in.resolvers) != 0 {
		t.Error("a dead resolver is kept")
	}
	in.work.Wait()
}
