//go:build race

package e2e_test

// raceEnabled: the binaries under test are built like the test itself.
const raceEnabled = true
