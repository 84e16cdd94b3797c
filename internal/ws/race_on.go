//go:build race

package ws

// seen: the race detector knows what one goroutine sends another over a socket
// only from system calls of package syscall that aren't raw.
const seen = true
