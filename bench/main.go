// Command bench compares Bollard with nginx and HAProxy as TLS-terminating
// OCPP front ends, all on this machine, in one run, under the same load.
//
//	go run ./bench quick            everything, three paired rounds, under ten minutes
//	go run ./bench -rounds 5 quick  more rounds
//
// It starts a plain back end and a load generator in processes of their own,
// gives every station a certificate of its own (issued by Bollard over the
// wire, which is measured too), and lets each proxy in turn carry the same
// stations and messages. Every proxy has one worker (GOMAXPROCS=1, nbthread 1,
// worker_processes 1) and listens on loopback only. Rates are per second of the
// proxy's own CPU (user and system, its child processes included), because the
// generator shares the machine. A round in which one byte is lost or wrong is
// reported and doesn't count.
//
// A table goes to standard output, all rounds with versions and machine to
// bench/results/.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "generate" {
		exit(generate(os.Stdin, os.Stdout))
	}
	if len(os.Args) == 2 && os.Args[1] == "backend" {
		exit(serveBackend(os.Stdin, os.Stdout))
	}
	plan := quickPlan()
	proxies := flag.String("proxies", "bollard,nginx,haproxy", "what to measure, in order")
	out := flag.String("out", "bench/results", "directory of the JSON report")
	flag.IntVar(&plan.Rounds, "rounds", plan.Rounds, "paired rounds; medians need at least three")
	flag.StringVar(&plan.Bollard, "bollard", "", "a bollard binary; built from ./cmd/bollard if empty")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] quick")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || flag.Arg(0) != "quick" {
		flag.Usage()
		os.Exit(2)
	}
	plan.Proxies = strings.Split(*proxies, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The whole run is bounded, whatever hangs.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(plan.Rounds)*8*time.Minute)
	defer cancel()
	exit(measure(ctx, plan, *out, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
