package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// told is an alert as a receiver reads it.
type told struct {
	ID      string `json:"id"`
	Test    bool   `json:"test"`
	Finding struct {
		Name        string `json:"name"`
		Criticality string `json:"criticality"`
		Station     string `json:"station"`
		Source      string `json:"source"`
		Count       int    `json:"count"`
	} `json:"finding"`
}

// hook is an operator's receiver of alerts, which believes only what is signed.
type hook struct {
	*httptest.Server
	t      *testing.T
	secret string

	mu     sync.Mutex
	status int // 0: 204
	alerts []told
	bodies string // everything it was sent
}

const hookSecret = "e2e-webhook-secret-0123456789abcdef"

func startHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{t: t, secret: hookSecret}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(h.take))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	stamp, sum, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Bollard-Signature"), "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte(h.secret))
	mac.Write([]byte(stamp + "." + string(body)))
	var a told
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies += string(body)
	switch {
	case h.status != 0:
		w.WriteHeader(h.status)
	case err != nil || hex.EncodeToString(mac.Sum(nil)) != sum || json.Unmarshal(body, &a) != nil:
		h.t.Errorf("not signed or not readable: %s, %v", body, err)
		w.WriteHeader(http.StatusForbidden)
	default:
		h.alerts = append(h.alerts, a)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (h *hook) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// of returns the alerts of one name about one station.
func (h *hook) of(name, station string) []told {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []told
	for _, a := range h.alerts {
		if a.Finding.Name == name && a.Finding.Station == station {
			list = append(list, a)
		}
	}
	return list
}

// alertsTo puts the receiver into a server's configuration.
func (s *server) alertsTo(h *hook) {
	s.t.Helper()
	secret, trust := filepath.Join(s.dir, "hook.secret"), filepath.Join(s.dir, "hook.pem")
	s.write(secret, h.secret+"\n")
	s.write(trust, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})))
	s.conf["alerts"] = map[string]any{"webhooks": []any{map[string]any{
		"name": "noc", "url": h.URL + "/alerts", "secret_file": secret, "trust": trust, "networks": []string{"127.0.0.0/8"},
	}}}
	s.configure()
}

const tamperEvent = `[2,"1","SecurityEventNotification",{"type":"TamperDetectionActivated","timestamp":"2026-01-01T00:00:00Z"}]`

// An alert that was recorded arrives though the process is killed before or
// after sending, or before the station had its answer, and is known by its id
// where it arrives twice.
func TestKilledWhileAlerting(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fleet.event-stored", "alert.before-send", "alert.after-send"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend, h := startBackend(t), startHook(t)
			srv := newServer(t, backend.conf())
			srv.alertsTo(h)
			srv.start("BOLLARD_FAILPOINT=" + name)
			e := srv.enlist("tampered", 2)
			s := mustDial(t, srv, e, rawOptions{})
			s.send(tamperEvent)
			srv.proc.wait(t)
			state := srv.proc.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !state.Signaled() || state.Signal() != syscall.SIGKILL {
				t.Fatalf("the server ended with %v, not at the failpoint", srv.proc.err)
			}
			answered := false
			for {
				select {
				case f := <-s.frames:
					answered = answered || strings.HasPrefix(f, `[3,"1",`)
					continue
				case <-s.ended:
				}
				break
			}
			srv.start()
			if !answered { // the station has it still (A04.FR.02)
				again := mustDial(t, srv, e, rawOptions{})
				again.send(tamperEvent)
				again.next()
			}
			eventually(t, "the alert has come", func() bool { return len(h.of("tampering", "tampered")) > 0 })
			ids := map[string]bool{}
			for _, a := range h.of("tampering", "tampered") {
				ids[a.ID] = true
			}
			if len(ids) != 1 && name == "alert.after-send" {
				t.Errorf("one alert came with %d ids", len(ids))
			}
		})
	}
}

// A receiver that is away gets its alerts when it is back; meanwhile the
// operator sees who waits for what.
func TestAlertReceiverAway(t *testing.T) {
	t.Parallel()
	backend, h := startBackend(t), startHook(t)
	srv := newServer(t, backend.conf())
	srv.alertsTo(h)
	h.answer(http.StatusServiceUnavailable)
	srv.start()
	e := srv.enlist("alerted", 2)
	s := mustDial(t, srv, e, rawOptions{})
	s.send(tamperEvent)
	s.next()
	var list struct {
		Findings []struct {
			Name    string `json:"name"`
			Station string `json:"station"`
		} `json:"findings"`
		Receivers []struct {
			Name    string `json:"name"`
			Waiting int    `json:"waiting"`
		} `json:"receivers"`
	}
	srv.cliJSON(&list, "alert", "list", "--station", "alerted")
	if len(list.Findings) != 1 || list.Findings[0].Name != "tampering" || len(list.Receivers) != 1 || list.Receivers[0].Waiting != 1 {
		t.Errorf("alert list: %+v", list)
	}
	if out := srv.cli("station", "show", "alerted"); !strings.Contains(out, "tampering, critical, 1 times since") {
		t.Errorf("station show has no finding:\n%s", out)
	}
	if out, errs, code := srv.try("", "alert", "test"); code != 1 || !strings.Contains(out, "noc: ") || !strings.Contains(errs, "1 of 1 receivers") {
		t.Errorf("alert test: %d %s%s", code, out, errs)
	}
	h.answer(0)
	eventually(t, "the alert has come", func() bool { return len(h.of("tampering", "alerted")) == 1 })
	srv.cli("alert", "test", "noc")
	if got := h.of("test", ""); len(got) != 1 || !got[0].Test {
		t.Errorf("test alerts %+v", got)
	}
}
