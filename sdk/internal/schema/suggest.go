package schema

import (
	"iter"
	"strings"
)

// nearest returns the candidate that s is most likely a slip of, or nothing.
func nearest(s string, candidates iter.Seq[string]) string {
	if len(s) > 64 {
		return ""
	}
	best, most := "", min(2, (len(s)+1)/3)+1
	plain := fold(s)
	for c := range candidates {
		if fold(c) == plain {
			return c
		}
		if a, b := fold(c), plain; len(b) >= 4 && strings.HasPrefix(a, b) || len(a) >= 4 && strings.HasPrefix(b, a) {
			best, most = c, min(most, 2)
			continue
		}
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < most {
			best, most = c, d
		}
	}
	return best
}

// fold makes camelCase, snake_case and kebab-case the same.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// distance counts insertions, deletions, replacements and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	if abs(len(a)-len(b)) > 2 {
		return 3
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

func abs(n int) int { return max(n, -n) }
