//go:build race

package main

// feedSize is smaller where every process has the race detector in it.
const feedSize = 10_000
