package fleet_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bollard/ca/est"
	"bollard/fleet"
)

// BenchmarkESTDurableIssuance is a certificate over EST from request to answer:
// HTTPS on kept connections, the real store with every write synced, a one-time
// secret, the durable order, both phases, lint. certs/cpu-s divides by the CPU
// time of the whole process: the clients' TLS is in it, their keys, requests and
// secrets are made before.
//
//	go test ./fleet -run '^$' -bench ESTDurable -benchtime 2000x
func BenchmarkESTDurableIssuance(b *testing.B) {
	const clients = 16
	r := newRig(b)
	d := r.est()
	stations := make([]fleet.Enrolment, b.N)
	for i := range stations {
		id := fmt.Sprintf("BENCH-%d", i)
		stations[i] = fleet.Enrolment{Identity: id, Serial: "SN-" + id, Profile: 3}
	}
	if _, err := r.svc.Add(b.Context(), "operator", stations); err != nil {
		b.Fatal(err)
	}
	type asked struct {
		body  string
		shown credentials
	}
	requests := make([]asked, b.N)
	var making sync.WaitGroup
	for c := range clients { // in parallel, so that secrets share syncs
		making.Go(func() {
			for i := c; i < b.N; i += clients {
				requests[i] = asked{
					base64.StdEncoding.EncodeToString(csrDER(b, newKey(b), stations[i].Serial, organisation)), d.secret(stations[i].Identity),
				}
			}
		})
	}
	making.Wait()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: d.roots, ServerName: "localhost", Time: r.clock}, MaxConnsPerHost: clients, MaxIdleConnsPerHost: clients,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	enrol := func(q asked) error {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "https://"+d.address+est.Prefix+"simpleenroll", strings.NewReader(q.body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/pkcs10")
		req.SetBasicAuth(q.shown.user, q.shown.secret)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return err
	}

	before := cpuTime(b)
	b.ResetTimer()
	var next atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if err := enrol(requests[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "certs/cpu-s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certs/s")
}

// cpuTime is what the process has used so far, in user and kernel mode.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
