package e2e_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scale is how much of an attack a test makes: a part of the fact sheet's in
// the suite, all of it where TORTURE is set (`make torture`).
func scale(suite, torture int) int {
	if os.Getenv("TORTURE") != "" {
		return torture
	}
	return suite
}

// watched is a server whose cost a test reads from outside.
type watched struct {
	*server
	admin string
}

func startWatched(t *testing.T, backend *rawBackend, limits map[string]any) *watched {
	t.Helper()
	srv := newServer(t, backend.conf())
	srv.conf["listen"].(map[string]any)["admin"] = "127.0.0.1:0"
	for k, v := range limits {
		srv.conf["limits"].(map[string]any)[k] = v
	}
	srv.configure()
	srv.start()
	found := regexp.MustCompile(`msg="listening for monitoring"\s+address=(\S+)`).FindStringSubmatch(srv.proc.log.String())
	if found == nil {
		t.Fatal("bollard doesn't say where its monitoring listens")
	}
	return &watched{srv, found[1]}
}

// metric sums a metric over its labels.
func (w *watched) metric(name string) float64 {
	w.t.Helper()
	answer, err := http.Get("http://" + w.admin + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{") {
			n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				w.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// memory is what the process holds, in MiB.
func (w *watched) memory() float64 { return w.metric("process_resident_memory_bytes") / (1 << 20) }

// findings are the names told about a station, or about sources where it is "".
func (w *watched) findings(station string) []string {
	w.t.Helper()
	var list struct {
		Findings []struct {
			Name    string `json:"name"`
			Station string `json:"station"`
		} `json:"findings"`
	}
	w.cliJSON(&list, "alert", "list")
	var names []string
	for _, f := range list.Findings {
		if f.Station == station {
			names = append(names, f.Name)
		}
	}
	return names
}

// honest keeps a station talking, and others connecting, each less than sixty times
// (who comes and goes more often in a minute has to wait), while an attack goes on, and returns how long each connection and round trip took.
func honest(t *testing.T, w *watched, backend *rawBackend, until <-chan struct{}) (connects, trips []time.Duration) {
	t.Helper()
	e := w.enlist("honest", 2)
	s, _ := backend.session(t, w.server, e, rawOptions{})
	var others [4]enlisted
	for i := range others {
		others[i] = w.enlist(fmt.Sprint("again", i), 2)
	}
	for n := 0; ; n++ {
		again := others[n%len(others)]
		select {
		case <-until:
			if !s.alive() {
				t.Errorf("the honest station lost its session: %v", s.reason())
			}
			return connects, trips
		default:
		}
		start := time.Now()
		s.heartbeat(fmt.Sprint("h", n))
		trips = append(trips, time.Since(start))
		time.Sleep(20 * time.Millisecond) // so that they do for the whole attack
		if n >= 50*len(others) {
			continue
		}
		start = time.Now()
		fresh, err := dialRaw(t, w.server, again, rawOptions{})
		for err != nil && time.Since(start) < patient() { // it comes again, as stations do
			fresh, err = dialRaw(t, w.server, again, rawOptions{})
		}
		if err != nil {
			t.Errorf("an honest station couldn't connect: %v", err)
			return connects, trips
		}
		connects = append(connects, time.Since(start))
		_ = fresh.conn.Net.Close()
	}
}

// quantile of a list.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(q*float64(len(list))))]
}

// patient is how long an honest station may take to connect: the fact sheet's
// second where the machine is the test's alone, thirty where it is shared.
func patient() time.Duration { return time.Duration(scale(30, 1)) * time.Second }

// Threat A3: thousands of wrong passwords. None is let in, each costs bounded
// CPU and no memory, honest stations connect meanwhile, the station under attack
// too, and a few findings say what went on.
func TestBruteForce(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	w := startWatched(t, backend, nil)
	victim := w.enlist("victim", 2)
	tries, workers := scale(400, 10_000), 8
	before, cpu := w.memory(), w.metric("process_cpu_seconds_total")
	done := make(chan struct{})
	work := make(chan int)
	var let, refused sync.Map
	var attackers sync.WaitGroup
	for range workers {
		attackers.Go(func() {
			for i := range work {
				s, err := dialRaw(t, w.server, victim, rawOptions{password: fmt.Sprintf("wrong-%016d", i)})
				if err == nil {
					let.Store(i, true)
					_ = s.conn.Net.Close()
				} else {
					refused.Store(err.Error(), true)
				}
			}
		})
	}
	go func() {
		for i := range tries {
			work <- i
		}
		close(work)
		attackers.Wait()
		close(done)
	}()
	connects, trips := honest(t, w, backend, done)
	if s, err := dialRaw(t, w.server, victim, rawOptions{}); err != nil {
		t.Errorf("the station under attack was locked out: %v", err)
	} else {
		s.heartbeat("victim")
	}
	let.Range(func(i, _ any) bool { t.Errorf("wrong password %v was let in", i); return true })
	answers := 0
	refused.Range(func(err, _ any) bool { answers++; t.Logf("answer: %v", err); return true })
	if answers != 1 {
		t.Errorf("%d different answers: one tells more than another", answers)
	}
	each := (w.metric("process_cpu_seconds_total") - cpu) / float64(tries+len(connects)) * 1000
	t.Logf("%d tries; honest: %d connections, p99 %s; round trips p99 %s; %.1f ms CPU for each connection, TLS included; memory %.0f → %.0f MiB",
		tries, len(connects), quantile(connects, 0.99), quantile(trips, 0.99), each, before, w.memory())
	if worst := quantile(connects, 0.99); worst > patient() {
		t.Errorf("an honest station took %s to connect", worst)
	}
	if grown := w.memory() - before; grown > 64*memoryFactor() {
		t.Errorf("memory grew by %.0f MiB", grown)
	}
	if got := w.findings("victim"); !slices.Contains(got, "brute-force") || len(got) > 4 {
		t.Errorf("findings %v", got)
	}
	if got := w.findings(""); !slices.Contains(got, "brute-force-source") {
		t.Errorf("findings about sources %v", got)
	}
	if n := w.metric("bollard_findings_total"); n > 40 {
		t.Errorf("%v findings were told", n)
	}
}

// Threat A2: somebody with another station's certificate, or with wrong
// passwords, at the door of a connected station. Its session goes on; the
// operator is told.
func TestShadowing(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	w := startWatched(t, backend, nil)
	victim, thief := w.enlist("shadowed", 3), w.enlist("thief", 3)
	live, up := backend.session(t, w.server, victim, rawOptions{})
	connections := backend.acceptedConnections()
	for i := range scale(20, 500) {
		for _, o := range []rawOptions{{cert: thief.cert, key: thief.key}, {password: fmt.Sprint("wrong-", i)}} {
			if _, err := dialRaw(t, w.server, victim, o); err == nil {
				t.Fatal("a stranger was let in")
			}
		}
		live.heartbeat(fmt.Sprint("h", i))
	}
	if got := backend.acceptedConnections(); got != connections {
		t.Errorf("the back end got %d connections more", got-connections)
	}
	if n := len(up.received()); n != scale(20, 500) {
		t.Errorf("the back end got %d messages", n)
	}
	eventually(t, "the operator is told", func() bool { return slices.Contains(w.findings("shadowed"), "shadowing") })
	if got := w.findings("thief"); len(got) > 0 {
		t.Errorf("findings about the thief's own station, which did nothing: %v", got)
	}
}

// Threats B5 and C5: what was heard once is said again. Answers nobody waits
// for reach nobody, the session and others go on, and the operator is told.
func TestReplay(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	w := startWatched(t, backend, nil)
	e, other := w.enlist("replayed", 2), w.enlist("bystander", 2)
	s, up := backend.session(t, w.server, e, rawOptions{})
	o, oUp := backend.session(t, w.server, other, rawOptions{})
	const ask, answer = `[2,"c1","GetBaseReport",{"requestId":1,"reportBase":"FullInventory"}]`, `[3,"c1",{"status":"Accepted"}]`
	if err := up.conn.WriteText([]byte(ask)); err != nil {
		t.Fatal(err)
	}
	if got := s.next(); got != ask {
		t.Fatalf("the station got %s", got)
	}
	replays := scale(50, 5000)
	s.send(answer)
	for range replays {
		s.send(answer)                                     // once more
		s.send(`[3,"bollard:AAAA",{"status":"Accepted"}]`) // as if Bollard had asked
	}
	s.send(`[2,"bollard:BBBB","Heartbeat",{}]`)
	if got := s.next(); !strings.HasPrefix(got, `[4,"bollard:BBBB",`) {
		t.Errorf("a reserved id was answered with %s", got)
	}
	s.heartbeat("after")
	o.heartbeat("beside")
	if got := up.received(); len(got) != 2 || got[0] != answer || !strings.Contains(got[1], "Heartbeat") {
		t.Errorf("the back end got %d messages: %.300s", len(got), got)
	}
	if got := oUp.received(); len(got) != 1 {
		t.Errorf("the other's back end got %s", got)
	}
	// In a new session the old answers are as worthless, and another station's too.
	_ = s.conn.Net.Close()
	s, up = backend.session(t, w.server, e, rawOptions{})
	s.send(answer)
	o.send(answer)
	s.heartbeat("again")
	o.heartbeat("still")
	if got := up.received(); len(got) != 1 {
		t.Errorf("the back end got %s", got)
	}
	eventually(t, "the operator is told", func() bool { return slices.Contains(w.findings("replayed"), "replay") })
	if got := w.findings("bystander"); len(got) > 0 {
		t.Errorf("findings about the bystander: %v", got)
	}
}

// Threat A8: connections that only open, hellos and heads that drip. They end by
// themselves, cost bounded memory, and honest stations connect meanwhile.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	w := startWatched(t, backend, map[string]any{"handshake": "3s", "header": "2s", "per_source": 5000})
	crowd := scale(150, 2000)
	before, routines := w.memory(), w.metric("go_goroutines")
	roots := x509.NewCertPool()
	root, err := os.ReadFile(w.root)
	if err != nil || !roots.AppendCertsFromPEM(root) {
		t.Fatal(err)
	}
	var drips sync.WaitGroup
	for i := range crowd {
		conn, err := net.Dial("tcp", w.ocpp)
		if err != nil {
			t.Fatal(err)
		}
		drips.Go(func() {
			defer conn.Close()
			drip(conn, i%3, roots)
		})
	}
	done := make(chan struct{})
	go func() { drips.Wait(); close(done) }()
	connects, trips := honest(t, w, backend, done)
	peak := w.memory()
	t.Logf("%d drips; honest: %d connections, p50 %s, p99 %s; round trips p99 %s; memory %.0f → %.0f MiB",
		crowd, len(connects), quantile(connects, 0.5), quantile(connects, 0.99), quantile(trips, 0.99), before, peak)
	if len(connects) == 0 {
		t.Error("no honest station connected meanwhile")
	}
	if worst := quantile(connects, 0.99); worst > patient() {
		t.Errorf("an honest station took %s to connect", worst)
	}
	// A connection that waits for its peer's hello or head may hold 64 KiB.
	if grown := peak - before; grown > (64+float64(crowd)/16)*memoryFactor() {
		t.Errorf("memory grew by %.0f MiB", grown)
	}
	eventually(t, "everything of them is gone", func() bool { return w.metric("go_goroutines") <= routines+12 })
}

// drip holds a connection open until the server ends it: saying nothing, its
// TLS hello byte by byte, or an HTTP head byte by byte.
func drip(conn net.Conn, kind int, roots *x509.CertPool) {
	slowly := func(to io.Writer, text []byte) {
		for i := range text {
			if _, err := to.Write(text[i : i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond) // this is the attack
		}
	}
	switch kind {
	case 1:
		slowly(conn, append([]byte{22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3}, make([]byte, 245)...))
	case 2:
		secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if secure.Handshake() == nil {
			slowly(secure, []byte("GET /ocpp/honest HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 1000)))
		}
	}
	_, _ = io.Copy(io.Discard, conn)
}

// memoryFactor: the race detector keeps shadows of memory.
func memoryFactor() float64 {
	if raceEnabled {
		return 8
	}
	return 1
}
