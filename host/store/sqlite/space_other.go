//go:build !linux && !darwin && !freebsd

package sqlite

import "math"

// freeSpace knows nothing here; SQLite's own "disk is full" still becomes ErrFull.
func freeSpace(string) (int64, error) { return math.MaxInt64, nil }
