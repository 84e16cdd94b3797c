// Command bench compares Bollard with other programs, all on this machine, in
// one run, under the same load.
//
//	go run ./bench quick            front ends: nginx and HAProxy; under ten minutes
//	go run ./bench ca               certificates: step-ca, nginx, and SQLite up to 10,000; two minutes
//	go run ./bench ca-full          the same, OCSP with 12,000 certificates on record, too, SQLite up to a million
//	go run ./bench depot            firmware from the depot and as a file from nginx; a minute
//	go run ./bench policy           what rules cost a message; seconds
//	go run ./bench provisioning     contract certificates for cars beside ECDSA alone; a minute
//	go run ./bench keys             signatures by files, SoftHSM2, swtpm and Vault beside their plainest clients, by the same login; a minute
//	go run ./bench firmware         what signing 1 GiB costs beside openssl's digest and sha256sum; a minute
//	go run ./bench full             front ends in every respect; about two hours, or less with -parts
//	go run ./bench -tls 1.3 -parts record full  one part, with one version of TLS
//	go run ./bench report           docs/performance.md out of the reports in -out
//	go run ./bench -rounds 5 quick  more paired rounds than three
//	go run ./bench -long 30m soak   Bollard alone, with lines that break; fails on any loss
//
// quick starts a plain back end and a load generator in processes of their own,
// gives every station a certificate of its own (issued by Bollard over the
// wire, which is measured too), and lets each proxy in turn carry the same
// stations and messages.
//
// ca asks Bollard over EST, and step-ca with bbolt and without a database over
// its own API, for the same certificates with the same number of clients, each
// proven by something good once; beside them stands what crypto/x509 takes to
// check a CSR and to sign. OCSP answers Bollard signed ahead are fetched from it
// and, as files, from nginx, while 256 certificates are on record and, of ca-full, when 12,000 are.
// Then databases of rising size are filled and read.
// step-ca is built from the module proxy into .tools, once.
//
// Every server has one worker (GOMAXPROCS=1, nbthread 1, worker_processes 1),
// pinned to one processor, generator and back end to the others, and listens on loopback only. Rates are per second of the server's own CPU
// (user and system, its child processes included), because the generator shares
// the machine. A round in which one byte is lost or wrong, a certificate doesn't
// verify or an OCSP answer isn't good is reported and doesn't count.
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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case "generate":
			exit(generate(os.Stdin, os.Stdout))
		case "backend":
			exit(serveBackend(os.Stdin, os.Stdout))
		case "unsteady":
			exit(serveUnsteady(os.Stdin, os.Stdout))
		case "size":
			exit(serveSize(os.Stdin, os.Stdout))
		}
	}
	if len(os.Args) == 5 && os.Args[1] == "depot-server" {
		exit(serveDepot(os.Args[2], os.Args[3], os.Args[4]))
	}
	if len(os.Args) == 5 && os.Args[1] == "direct" {
		exit(serveDirect(os.Args[2], os.Args[3], os.Args[4]))
	}
	proxies := flag.String("proxies", "bollard,nginx,haproxy", "what quick and full measure, in order")
	out := flag.String("out", "bench/results", "directory of the JSON report")
	rounds := flag.Int("rounds", leastRounds, "paired rounds; medians need at least three")
	binary := flag.String("bollard", "", "a bollard binary; built from ./cmd/bollard if empty")
	tools := flag.String("tools", ".tools", "directory step-ca is built into")
	parts := flag.String("parts", "", "what ca ("+strings.Join(caParts, ", ")+") and full ("+strings.Join(fullParts, ", ")+") measure; all if empty")
	most := flag.Int("stations", slices.Max(newFullPlan().Idle), "full leaves out larger fleets")
	versions := flag.String("tls", strings.Join(newFullPlan().Versions, ","), "versions full makes handshakes, idles and sends large records with")
	page := flag.String("page", "docs/performance.md", "what report writes, its charts to -out")
	long := flag.Duration("long", time.Minute, "how long a soak lasts")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] quick|policy|firmware|keys|provisioning|depot|full|ca|ca-full|report|soak")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The whole run is bounded, whatever hangs.
	ctx, cancel := context.WithTimeout(ctx, *long+time.Duration(*rounds)*40*time.Minute)
	defer cancel()
	switch set := flag.Arg(0); {
	case flag.NArg() == 1 && set == "quick":
		plan := quickPlan()
		plan.Rounds, plan.Bollard, plan.Proxies = *rounds, *binary, strings.Split(*proxies, ",")
		exit(measure(ctx, plan, *out, os.Stdout))
	case flag.NArg() == 1 && set == "full":
		plan := plan{Rounds: *rounds, Bollard: *binary, Proxies: strings.Split(*proxies, ",")}
		exit(measureFull(ctx, plan, newFullPlan().with(strings.Split(*versions, ",")).bounded(*most), chosen(*parts, fullParts), *out, os.Stdout))
	case flag.NArg() == 1 && set == "policy":
		exit(measurePolicy(*rounds, *out, os.Stdout))
	case flag.NArg() == 1 && set == "provisioning":
		exit(measureProvisioning(ctx, *rounds, *out, os.Stdout))
	case flag.NArg() == 1 && set == "depot":
		exit(measureDepot(ctx, *rounds, *out, os.Stdout))
	case flag.NArg() == 1 && set == "firmware":
		exit(measureFirmware(ctx, *rounds, *binary, *out, os.Stdout))
	case flag.NArg() == 1 && set == "keys":
		exit(measureKeys(ctx, *rounds, *out, os.Stdout))
	case flag.NArg() == 1 && set == "report":
		exit(performance(*out, *page))
	case flag.NArg() == 1 && set == "soak":
		exit(soak(ctx, soakPlan{Bollard: *binary, Stations: 300, Rate: 3000, Long: *long}, os.Stdout))
	case flag.NArg() == 1 && (set == "ca" || set == "ca-full"):
		plan := newCAPlan(set == "ca-full")
		plan.Rounds, plan.Bollard, plan.Tools, plan.Parts = *rounds, *binary, *tools, chosen(*parts, caParts)
		exit(measureCA(ctx, plan, *out, os.Stdout))
	}
	flag.Usage()
	os.Exit(2)
}

// chosen is a list of names, or all there are.
func chosen(names string, all []string) []string {
	if names == "" {
		return all
	}
	return strings.Split(names, ",")
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
