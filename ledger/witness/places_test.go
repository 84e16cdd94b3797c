package witness_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bollard/internal/syslog"
	"bollard/ledger"
	"bollard/ledger/witness"
)

func TestFileKeepsTheNewestCheckpoint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kept")
	f := witness.NewFile(path)
	if _, found, err := f.Newest(); found || err != nil {
		t.Fatalf("%v, %v", found, err)
	}
	b := newBook(t).grow("x", 3)
	three := b.checkpoint(t)
	five := b.grow("x", 2).checkpoint(t)
	for _, n := range []ledger.Note{three, five, five} {
		_, err := f.Keep(t.Context(), n)
		must(t, err)
		if got, found, err := f.Newest(); err != nil || !found || got != n {
			t.Errorf("%+v, %v, %v", got, found, err)
		}
	}
	// A state set back, and another history of the same size.
	for name, n := range map[string]ledger.Note{"older": three, "forked": newBook(t).grow("y", 5).checkpoint(t)} {
		if _, err := f.Keep(t.Context(), n); !errors.Is(err, witness.ErrSetBack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	next := three
	next.Origin += "/epoch-2"
	next.Signed = strings.ReplaceAll(three.Signed, origin, next.Origin)
	_, err := f.Keep(t.Context(), next)
	must(t, err)
	if old, found, err := witness.NewFile(path + ".before-epoch-2").Newest(); err != nil || !found || old != five {
		t.Errorf("the checkpoint of the epoch before: %+v, %v, %v", old, found, err)
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 2 {
		t.Errorf("left over: %v, %v", list, err)
	}
	must(t, os.WriteFile(path, []byte("my letters"), 0o600))
	if _, err := f.Keep(t.Context(), next); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("over another file: %v", err)
	}
	if _, err := witness.NewFile(filepath.Join(t.TempDir(), "unmounted", "kept")).Keep(t.Context(), next); err == nil {
		t.Error("a directory that isn't there was made")
	}
}

func TestSyslogCarriesTheWholeNote(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer socket.Close()
	sender, err := syslog.New(syslog.Config{URL: "udp://" + socket.LocalAddr().String()})
	must(t, err)
	defer sender.Close()
	n := newBook(t).grow("x", 12).checkpoint(t)
	_, err = witness.NewSyslog("log", sender).Keep(t.Context(), n)
	must(t, err)
	b := make([]byte, 4096)
	must(t, socket.SetReadDeadline(time.Now().Add(time.Minute)))
	length, _, err := socket.ReadFrom(b)
	must(t, err)
	line := string(b[:length])
	found := regexp.MustCompile(`note="([^"]*)"`).FindStringSubmatch(line)
	if found == nil || !strings.Contains(line, ` ledger.checkpoint [`) || !strings.Contains(line, ` size="12" `) {
		t.Fatalf("%q", line)
	}
	text, err := base64.StdEncoding.DecodeString(found[1])
	must(t, err)
	if got, err := ledger.ParseNote(string(text)); err != nil || got != n {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWebhookGetsTheNote(t *testing.T) {
	t.Parallel()
	got, status := make(chan string, 2), http.StatusNoContent
	cfg := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("Content-Type") + "|" + string(body)
		w.WriteHeader(status)
	}), "/in?x")
	w, err := witness.NewWebhook(cfg)
	must(t, err)
	n := newBook(t).grow("x", 2).checkpoint(t)
	_, err = w.Keep(t.Context(), n)
	must(t, err)
	if text := <-got; text != "text/plain; charset=utf-8|"+n.Signed {
		t.Errorf("%q", text)
	}
	status = http.StatusInternalServerError
	if _, err := w.Keep(t.Context(), n); err == nil {
		t.Error("a failure was taken for a receipt")
	}
	for _, url := range []string{"http://logs.example/", "ftp://logs.example/", "https://a:b@logs.example/", "nonsense"} {
		if _, err := witness.NewWebhook(witness.HTTPConfig{URL: url}); err == nil {
			t.Errorf("%s: accepted", url)
		}
	}
	if _, err := witness.NewWebhook(witness.HTTPConfig{URL: cfg.URL}); err == nil {
		t.Error("a private address was reached without the operator's word")
	}
}

func TestCosigner(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow("x", 3)
	p := newPeer(b.key)
	cfg := serve(t, p, "/w")
	open := func() *witness.Cosigner {
		c, err := witness.NewCosigner(cfg, p.vkey(), b.hashes)
		must(t, err)
		return c
	}
	v, err := ledger.NewVerifier(p.vkey())
	must(t, err)
	c := open()
	for round := range 4 {
		n := b.checkpoint(t)
		signed, err := c.Keep(t.Context(), n)
		must(t, err)
		if !signed.SignedBy(v) || !signed.SignedBy(b.key) || signed.Checkpoint != n.Checkpoint {
			t.Fatalf("%q", signed.Signed)
		}
		if round == 2 {
			c = open() // as after a start: it learns from the witness where that is
		}
		b.grow("x", 5)
	}
	if p.asked != 5 {
		t.Errorf("the witness was asked %d times, want 5", p.asked)
	}
	// The data directory set back, or another history: found by the witness.
	older := newBook(t).grow("x", 4)
	forked := newBook(t).grow("y", 40)
	same := newBook(t).grow("y", int(p.size))
	for name, other := range map[string]*book{"older": older, "forked": forked, "forked at its size": same} {
		c, err := witness.NewCosigner(cfg, p.vkey(), other.hashes)
		must(t, err)
		for range 2 {
			if _, err := c.Keep(t.Context(), other.checkpoint(t)); !errors.Is(err, witness.ErrSetBack) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestCosignerRefusesOtherSignatures(t *testing.T) {
	t.Parallel()
	b := newBook(t).grow("x", 3)
	p := newPeer(b.key)
	stranger := newPeer(b.key)
	stranger.key[0] ^= 1 // another seed, and with it another key than the one expected
	for name, h := range map[string]http.HandlerFunc{
		"nothing":        func(http.ResponseWriter, *http.Request) {},
		"text":           func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks\n") },
		"another's":      stranger.ServeHTTP,
		"unknown origin": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"wrong key":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"broken":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		c, err := witness.NewCosigner(serve(t, h, "/w"), p.vkey(), b.hashes)
		must(t, err)
		if n, err := c.Keep(t.Context(), b.checkpoint(t)); err == nil || errors.Is(err, witness.ErrSetBack) {
			t.Errorf("%s: %q, %v", name, n.Signed, err)
		}
	}
}
