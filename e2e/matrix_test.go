package e2e_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every library as station and as back end, wherever both know the version, on
// security profiles 2 and 3: a whole charging session and the back end's
// commands go through, and each side received exactly the text the other sent.
// The back ends share one server and are told apart by identity patterns.
func TestLibraryPeersChargeByteForByte(t *testing.T) {
	t.Parallel()
	kinds := []struct{ kind, version string }{
		{"go", "1.6"}, {"go", "2.0.1"}, {"js", "1.6"}, {"js", "2.0.1"}, {"js", "2.1"},
	}
	backends := map[string]*peer{}
	var conf []map[string]any
	for _, k := range kinds {
		name := k.kind + k.version
		backends[name] = startPeer(t, k.kind, peerConfig{Role: "backend", Version: k.version})
		listening, _ := backends[name].await("listening", "", 0)
		conf = append(conf, map[string]any{"name": name, "url": "ws://" + listening.Address + "/ocpp", "match": map[string]any{"identity": "*-to-" + name}})
	}
	srv := newServer(t, conf...)
	srv.start()
	for _, station := range kinds {
		for _, backend := range kinds {
			if station.version != backend.version {
				continue
			}
			for _, profile := range []int{2, 3} {
				name := fmt.Sprintf("p%d-%s-to-%s%s", profile, station.kind, backend.kind, backend.version)
				t.Run(name, func(t *testing.T) {
					// Not parallel: the machine's cores are what limits this test.
					srv := *srv
					srv.t = t
					e := srv.enlist(name, profile)
					charge(t, &srv, e, station.kind, station.version, backends[backend.kind+backend.version])
				})
			}
		}
	}
}

func charge(t *testing.T, srv *server, e enlisted, kind, version string, backend *peer) {
	t.Helper()
	s := startPeer(t, kind, peerConfig{
		Role: "station", Version: version, Endpoint: "wss://" + srv.ocpp + "/ocpp", Identity: e.identity, Serial: e.serial,
		Password: e.password, CA: srv.root, Cert: e.cert, Key: e.key, ServerName: "localhost",
	})
	s.await("open", "", 0)
	s.order("session", "")
	backend.await("open", e.identity, 0)
	backend.order("commands", e.identity)
	s.order("triggered", "")
	// The last answers may still be on their way.
	eventually(t, "all messages have arrived", func() bool {
		return len(s.frames("out", "")) == len(backend.frames("in", e.identity)) && len(backend.frames("out", e.identity)) == len(s.frames("in", ""))
	})
	sent, received := s.frames("out", ""), s.frames("in", "")
	if len(sent) < 12 || len(received) < 12 {
		t.Errorf("%d messages sent and %d received: no whole charging session", len(sent), len(received))
	}
	if diff := cmp.Diff(sent, backend.frames("in", e.identity)); diff != "" {
		t.Errorf("from station to back end (-sent +received):\n%s", diff)
	}
	if diff := cmp.Diff(backend.frames("out", e.identity), received); diff != "" {
		t.Errorf("from back end to station (-sent +received):\n%s", diff)
	}
	var detail struct {
		Session *struct {
			Profile int    `json:"profile"`
			Version string `json:"ocpp_version"`
		} `json:"session"`
	}
	srv.cliJSON(&detail, "station", "show", e.identity)
	want := 2
	if e.cert != "" {
		want = 3
	}
	if detail.Session == nil || detail.Session.Profile != want || detail.Session.Version != version {
		t.Errorf("station show: session %+v, want profile %d and version %s", detail.Session, want, version)
	}
}
