package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/ocpp"
	"bollard/station"
)

// shownLog is what `station log` tells.
type shownLog struct {
	Request int    `json:"request"`
	State   string `json:"state"`
	Note    string `json:"note"`
	File    string `json:"file"`
	Size    int64  `json:"size"`
}

func (s *server) logsOf(identity string) []shownLog {
	s.t.Helper()
	var out struct {
		Logs []shownLog `json:"logs"`
	}
	s.cliJSON(&out, "station", "log", identity)
	return out.Logs
}

// filesOn opens listen.firmware; stations find it under a port of its own.
func (s *server) filesOn() {
	s.t.Helper()
	s.conf["listen"].(map[string]any)["firmware"] = "127.0.0.1:0"
	s.configure()
}

// N01 through the real binary, with a station of each version that uploads over
// HTTPS with its own trust store: the file is here, whole, for its owner alone,
// and the back end saw nothing of it.
func TestSecurityLog(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.filesOn()
	srv.start()
	pemRoot, err := os.ReadFile(srv.root)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := station.ParseCertificates(pemRoot)
	if err != nil {
		t.Fatal(err)
	}
	for identity, version := range map[string]ocpp.Version{"log16": ocpp.V16, "log201": ocpp.V201, "log21": ocpp.V21} {
		e := srv.enlist(identity, 2)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		st, err := station.New(ctx, station.Config{Identity: identity, Serial: e.serial, Version: version, URL: "wss://" + srv.ocpp + "/ocpp",
			ServerName: "localhost", Password: []byte(e.password), Organisation: "E2E", Roots: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if err := st.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Boot(ctx); err != nil {
			t.Fatal(err)
		}
		srv.cli("station", "log", identity, "--fetch")
		eventually(t, identity+"'s log is here", func() bool { l := srv.logsOf(identity); return len(l) == 1 && l[0].State == "kept" })
		l := srv.logsOf(identity)[0]
		path := filepath.Join(srv.data, "uploads", l.File)
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "security log of "+e.serial) || int64(len(text)) != l.Size {
			t.Errorf("%s: %q, %v", path, text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
		for _, c := range backend.of(identity) {
			for _, frame := range c.received() {
				if strings.Contains(frame, "LogStatus") || strings.Contains(frame, "GetLog") {
					t.Errorf("the back end saw %s", frame)
				}
			}
		}
	}
	if out, _, code := srv.try("", "doctor"); strings.Contains(out, "fail") && code != 0 && strings.Contains(out, "uploads") {
		t.Errorf("doctor:\n%s", out)
	}
}

// Whoever learns the URL of another station's upload gains nothing after its
// time, for another request, or by a changed letter.
func TestUploadNeedsItsTicket(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.filesOn()
	srv.start()
	e := srv.enlist("uploader", 2)
	s := mustDial(t, srv, e, rawOptions{})
	s.send(`[2,"b","BootNotification",{"reason":"PowerUp","chargingStation":{"vendorName":"E2E","model":"Raw","serialNumber":"` + e.serial + `"}}]`)
	s.next()
	done := make(chan string, 1)
	go func() { _, errs, _ := srv.try("", "station", "log", "uploader", "--fetch"); done <- errs }()
	m := decode(t, s.next())
	var call struct {
		Log struct {
			RemoteLocation string `json:"remoteLocation"`
		} `json:"log"`
	}
	if err := json.Unmarshal(m.payload, &call); err != nil || m.action != "GetLog" || len(call.Log.RemoteLocation) > 512 || !strings.HasPrefix(call.Log.RemoteLocation, "https://localhost:") {
		t.Fatalf("%s %s, %v", m.action, m.payload, err)
	}
	s.send(`[3,"` + m.id + `",{"status":"Accepted"}]`)
	if errs := <-done; errs != "" {
		t.Fatal(errs)
	}
	pool := x509.NewCertPool()
	root, err := os.ReadFile(srv.root)
	if err != nil || !pool.AppendCertsFromPEM(root) {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: patience}
	put := func(url, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	good := call.Log.RemoteLocation
	flipped := "A"
	if strings.HasSuffix(good, "A") {
		flipped = "B"
	}
	for name, url := range map[string]string{
		"changed": good[:len(good)-1] + flipped, "cut": good[:len(good)-8], "none": good[:strings.LastIndex(good, "/")+1],
		"root": good[:strings.Index(good, "/uploads/")+1], "metrics": good[:strings.Index(good, "/uploads/")] + "/metrics",
	} {
		if got := put(url, "x"); got != http.StatusNotFound {
			t.Errorf("%s: status %d", name, got)
		}
	}
	if got := put(good+"/security.log", "the log"); got != http.StatusCreated {
		t.Errorf("the station's own: status %d", got)
	}
	if got := put(good, "another"); got != http.StatusConflict {
		t.Errorf("a second time: status %d", got)
	}
	if l := srv.logsOf("uploader"); len(l) != 1 || l[0].State != "kept" || l[0].Size != 7 {
		t.Errorf("logs %+v", l)
	}
	if log := srv.proc.log.String(); strings.Contains(log, good[strings.LastIndex(good, "/")+1:][:40]) {
		t.Error("the log holds the ticket")
	}
	s.send(`[2,"u","LogStatusNotification",{"status":"Uploaded","requestId":` + string(mustRequest(t, m.payload)) + `}]`)
	if got := s.next(); got != `[3,"u",{}]` {
		t.Errorf("answered %s", got)
	}
}

func mustRequest(t *testing.T, payload []byte) json.RawMessage {
	t.Helper()
	var q struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if err := json.Unmarshal(payload, &q); err != nil {
		t.Fatal(err)
	}
	return q.RequestID
}
