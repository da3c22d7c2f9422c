//go:build !race

package agent

// raced tells that the race detector runs, under which all takes many times as long.
const raced = false
