// Package yamldoc reads the YAML that people write into a tree that knows where everything stands. It refuses what bites
// later (duplicate keys, numbers with a leading zero, alias bombs, several documents) and explains syntax errors. It
// gives YAML no meaning beyond that; flows and the config file do.
package yamldoc

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/diag"
)

// Kind of a node.
type Kind int

// The kinds.
const (
	Scalar Kind = iota + 1
	List
	Map
)

// Style of a scalar.
type Style int

// The styles.
const (
	Plain Style = iota
	Single
	Double
	Literal
	Folded
)

// Node is a value in a document. It must not be changed, nor be used by several goroutines at once. A node that is reached through an alias has the place of its
// anchor.
type Node struct {
	Kind    Kind
	Pos     diag.Pos
	Value   any    // of a scalar: nil, bool, int, uint64, float64 or string
	Text    string // of a scalar: as written, unquoted
	Style   Style
	Items   []*Node // of a list
	Entries []Entry // of a map, in the order written

	size   int
	doc    *document
	traced bool     // At was asked
	trace  [][2]int // line and column of each character of Text, if they could be found
}

// Entry is one key of a map.
type Entry struct {
	Key   string
	Pos   diag.Pos
	Value *Node
}

// document is what nodes share.
type document struct {
	file  string
	lines []string // without line feeds
}

// Get returns the value of a key, or nil.
func (n *Node) Get(key string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	for _, e := range n.Entries {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// Keys lists the keys of a map in the order written.
func (n *Node) Keys() []string {
	keys := make([]string, len(n.Entries))
	for i, e := range n.Entries {
		keys[i] = e.Key
	}
	return keys
}

// IsString says whether n is a scalar string.
func (n *Node) IsString() bool {
	if n == nil || n.Kind != Scalar {
		return false
	}
	_, ok := n.Value.(string)
	return ok
}

// IsNull says whether n is null or was left empty.
func (n *Node) IsNull() bool { return n != nil && n.Kind == Scalar && n.Value == nil }

// Describe names the value for a message: `the string "x"`, "a list", "nothing".
func (n *Node) Describe() string {
	switch {
	case n == nil:
		return "nothing"
	case n.Kind == List:
		return "a list"
	case n.Kind == Map:
		return "a map"
	}
	switch v := n.Value.(type) {
	case nil:
		return "nothing"
	case string:
		return "the string " + Quote(v)
	case bool:
		return fmt.Sprintf("the boolean %v", v)
	default:
		return "the number " + n.Text
	}
}

// Plain returns the tree as encoding/json would read it: map[string]any, []any and scalars.
func (n *Node) Plain() any {
	switch {
	case n == nil:
		return nil
	case n.Kind == List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = item.Plain()
		}
		return list
	case n.Kind == Map:
		m := make(map[string]any, len(n.Entries))
		for _, e := range n.Entries {
			m[e.Key] = e.Value.Plain()
		}
		return m
	}
	return n.Value
}

// All walks n and everything below it. Paths look like steps[0].with.title.
func (n *Node) All(path string) iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) { n.all(path, yield) }
}

func (n *Node) all(path string, yield func(string, *Node) bool) bool {
	if !yield(path, n) {
		return false
	}
	for i, item := range n.Items {
		if !item.all(Index(path, i), yield) {
			return false
		}
	}
	for _, e := range n.Entries {
		if !e.Value.all(Join(path, e.Key), yield) {
			return false
		}
	}
	return true
}

// Join adds a key to a path.
func Join(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[] \"") {
		return path + "[" + Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index adds an index to a path.
func Index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Quote quotes s for a message and cuts what is long.
func Quote(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// Closest returns the candidate that is most like word, or "" if none is near. Case does not count.
func Closest(word string, candidates []string) string {
	best, bestDist := "", max(1, len([]rune(word))*2/5)+1
	lower := strings.ToLower(word)
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(lower, strings.ToLower(c), bestDist); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// DidYouMean returns a hint: the nearest candidate, or what there is.
func DidYouMean(word string, candidates []string) string {
	if c := Closest(word, candidates); c != "" {
		return fmt.Sprintf("did you mean %q?", c)
	}
	if len(candidates) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(candidates))
	if len(sorted) > 12 {
		return "known: " + strings.Join(sorted[:12], ", ") + ", …"
	}
	return "known: " + strings.Join(sorted, ", ")
}

// distance is the optimal-string-alignment distance, cut off at limit.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d >= limit || -d >= limit {
		return limit
	}
	before, prev, cur := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		cur[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(y)], limit)
}
