package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"bollard/e2e/rawws"
)

// odd are messages of nobody's interest in spellings no library writes. Each
// must arrive as it is.
func odd() map[string]string {
	var report strings.Builder
	report.WriteString(`[2,"report","NotifyReport",{"requestId":1,"generatedAt":"2026-01-01T00:00:00Z","seqNo":0,"reportData":[`)
	for i := 0; report.Len() < 200_000; i++ {
		if i > 0 {
			report.WriteByte(',')
		}
		fmt.Fprintf(&report, `{"component":{"name":"Ctrlr%d"},"variable":{"name":"Größe™ %d"},"variableAttribute":[{"value":"\u00e9\\\"%d"}]}`, i, i, i)
	}
	report.WriteString(`]}]`)
	return map[string]string{
		"200 KB report":              report.String(),
		"escaped action":             `[2,"esc","\u0048eartbeat",{}]`,
		"escaped action, all of it":  `[2,"esc2","\u0046irmwareStatusNotification",{"status":"Idle"}]`,
		"spaces, tabs and new lines": " [ \t2 ,\r\n\"odd\" , \"Heartbeat\" ,\n{ } ] \n",
		"numbers and unicode":        `[2,"num","DataTransfer",{"vendorId":"E2E","data":{"a":1.0e+02,"b":-0,"c":"\ud83d\ude97 \/ 🚗","a ":null}}]`,
		"escaped id":                 `[2,"i\u0064-1","Heartbeat",{}]`,
		"unknown action":             `[2,"u","VendorMagic",{"x":[[],{},"",0]}]`,
		"key twice":                  `[2,"twice","MeterValues",{"evseId":1,"evseId":2,"meterValue":[]}]`,
	}
}

// Promise 16: traffic that is none of our business arrives byte for byte, in
// order, in both directions.
func TestMessagesOfNoInterestArriveAsTheyCame(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.conf["compression"] = true
	srv.configure()
	srv.start()
	e := srv.enlist("bytes", 3)
	for _, compress := range []bool{false, true} {
		for name, msg := range odd() {
			t.Run(fmt.Sprintf("%s, compressed %t", name, compress), func(t *testing.T) {
				s, b := backend.session(t, srv, e, rawOptions{compress: compress})
				defer s.conn.Net.Close()
				if compress != strings.Contains(s.conn.Extensions, "permessage-deflate") {
					t.Fatalf("extensions are %q", s.conn.Extensions)
				}
				frame := rawws.Frame{Fin: true, Op: rawws.Text, Payload: []byte(msg)}
				if compress {
					frame.RSV1, frame.Payload = true, rawws.Deflate([]byte(msg))
				}
				if err := s.conn.WriteFrame(frame); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the message has arrived", func() bool { return len(b.received()) == 1 })
				if got := b.received()[0]; got != msg {
					t.Errorf("station to back end: got %.300q, want %.300q", got, msg)
				}
				s.next() // its answer
				// The other way: the same spelling as a CALL of the back end.
				if err := b.conn.WriteText([]byte(msg)); err != nil {
					t.Fatal(err)
				}
				if got := s.next(); got != msg {
					t.Errorf("back end to station: got %.300q, want %.300q", got, msg)
				}
			})
		}
	}
}

// A head cut at every byte by fragmentation is judged and passed on whole, with
// control frames between the fragments, plain and compressed.
func TestFragmentedMessagesArriveWhole(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.conf["compression"] = true
	srv.configure()
	srv.start()
	e := srv.enlist("cut", 3)
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %t", compress), func(t *testing.T) {
			s, b := backend.session(t, srv, e, rawOptions{compress: compress})
			defer s.conn.Net.Close()
			var sent []string
			const text = `[2,"cut","\u0053tatusNotification",{"evseId":1,"reason":"é"}]`
			for i := range len(text) + 1 {
				msg := strings.Replace(text, `"cut"`, fmt.Sprintf(`"cut-%02d"`, i), 1)
				payload := []byte(msg)
				if compress {
					payload = rawws.Deflate(payload)
				}
				at := min(i, len(payload))
				err := s.conn.WriteFrames(
					rawws.Frame{Op: rawws.Text, RSV1: compress, Payload: payload[:at]},
					rawws.Frame{Fin: true, Op: rawws.Ping, Payload: []byte("between")},
					rawws.Frame{Fin: true, Op: rawws.Continuation, Payload: payload[at:]},
				)
				if err != nil {
					t.Fatal(err)
				}
				sent = append(sent, msg)
				if got, want := s.next(), fmt.Sprintf(`[3,"cut-%02d",`, i); !strings.HasPrefix(got, want) {
					t.Fatalf("cut at %d: answered with %.100q, want %s…", i, got, want)
				}
			}
			// One byte a frame.
			msg := `[2,"bytewise","Heartbeat",{}]`
			payload := []byte(msg)
			if compress {
				payload = rawws.Deflate(payload)
			}
			var frames []rawws.Frame
			for i := range payload {
				f := rawws.Frame{Fin: i == len(payload)-1, Payload: payload[i : i+1]}
				if i == 0 {
					f.Op, f.RSV1 = rawws.Text, compress
				}
				frames = append(frames, f)
			}
			if err := s.conn.WriteFrames(frames...); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, msg)
			s.next()
			got := b.received()
			if len(got) != len(sent) {
				t.Fatalf("%d messages arrived, want %d", len(got), len(sent))
			}
			for i := range sent {
				if got[i] != sent[i] {
					t.Errorf("message %d: got %q, want %q", i, got[i], sent[i])
				}
			}
		})
	}
}

// What breaks RFC 6455 or the limits ends that session with the code the RFC
// has for it, and nothing of it reaches the back end.
func TestBrokenFramesEndTheSession(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e := srv.enlist("broken", 3)
	for name, c := range map[string]struct {
		frame rawws.Frame
		code  int
	}{
		"invalid UTF-8": {rawws.Frame{Fin: true, Op: rawws.Text, Payload: []byte("[2,\"x\",\"Heartbeat\",{\"a\":\"\xff\"}]")}, 1007},
		"binary":        {rawws.Frame{Fin: true, Op: rawws.Binary, Payload: []byte(`[2,"x","Heartbeat",{}]`)}, 1003},
		"too long":      {rawws.Frame{Fin: true, Op: rawws.Text, Payload: []byte(`[2,"x","Heartbeat",{"a":"` + strings.Repeat("a", 1<<20) + `"}]`)}, 1009},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := backend.session(t, srv, e, rawOptions{})
			_ = s.conn.WriteFrame(c.frame) // the server may hang up before all is written
			if got := s.closed(); got != c.code {
				t.Errorf("closed with %d (%v), want %d", got, s.reason(), c.code)
			}
			if got := b.received(); len(got) != 0 {
				t.Errorf("the back end got %.200q", got)
			}
		})
	}
}
