// Package catalog finds, starts, watches, restarts and describes connector processes, and is the one way to call them.
// Whether a process is alive is its business; what a call means is not.
package catalog
