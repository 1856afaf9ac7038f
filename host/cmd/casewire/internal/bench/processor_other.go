//go:build !unix

package bench

import "time"

var began = time.Now()

// processorTime stands in for what this process has used.
func processorTime() (time.Duration, error) { return time.Since(began), nil }
