// Command bollard stands between charging stations and their back end: it
// terminates TLS, proves who every station is, issues and renews their
// certificates and hands all other OCPP traffic on untouched.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
