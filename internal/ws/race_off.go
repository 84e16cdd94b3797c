//go:build !race

package ws

const seen = false
