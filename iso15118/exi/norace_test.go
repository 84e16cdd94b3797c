//go:build !race

package exi_test

const raceFactor = 1
