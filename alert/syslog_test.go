package alert_test

import (
	"bufio"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"bollard/alert"
	"bollard/detect"
	"bollard/internal/syslog"
)

func TestSyslogAlert(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sender, err := syslog.New(syslog.Config{URL: "tcp://" + ln.Addr().String(), Facility: syslog.Auth, Hostname: "gw"})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	body, err := json.Marshal(alert.Message{ID: "4711", Finding: detect.Finding{Name: "shadowing", Criticality: detect.Critical, Station: "cs-1",
		Source: "192.0.2.7", Count: 3, First: at, Last: at.Add(time.Minute), Reason: "somebody else tries"}})
	if err != nil {
		t.Fatal(err)
	}
	s := alert.NewSyslog("siem", sender)
	if err := s.Send(t.Context(), alert.Alert{Body: body}); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := `1 2026-06-01T12:01:00.000000Z gw bollard `
	line, _ := bufio.NewReader(conn).ReadString(']')
	// 34: facility 4 (auth), severity 2 (critical).
	if !strings.Contains(line, "<34>"+want) || !strings.HasSuffix(line, ` finding [bollard@32473 id="4711" finding="shadowing" count="3" first="2026-06-01T12:00:00Z" station="cs-1" source="192.0.2.7"]`) {
		t.Errorf("sent %q", line)
	}
	if err := s.Send(t.Context(), alert.Alert{Body: []byte("no JSON")}); err == nil {
		t.Error("what can't be read was sent")
	}
}
