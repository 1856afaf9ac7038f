//go:build !race

package main

// feedSize is how many indicators are submitted while the command is killed.
const feedSize = 50_000
