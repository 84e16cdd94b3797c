package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// canaries are personal data and secrets that are looked for in every sink.
type canaries map[string]string

// forms are the spellings a canary could hide in.
func forms(canary string) map[string]string {
	list := map[string]string{
		"plain": canary, "lower case": strings.ToLower(canary), "upper case": strings.ToUpper(canary),
		"hex": hex.EncodeToString([]byte(canary)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(canary))),
		"url": url.QueryEscape(canary), "quoted": strings.Trim(fmt.Sprintf("%+q", canary), `"`), "bytes": strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
	}
	var escaped strings.Builder
	for _, r := range canary {
		fmt.Fprintf(&escaped, `\u%04x`, r)
	}
	list["JSON escapes"] = escaped.String()
	// In base64 the neighbours decide about the first and last characters.
	for shift := range 3 {
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + canary))
			list[fmt.Sprintf("%s+%d", name, shift)] = text[[...]int{0, 2, 3}[shift] : (shift+len(canary))*8/6]
		}
	}
	return list
}

// in says which canaries a sink holds.
func (c canaries) in(sink []byte) []string {
	var found []string
	for name, canary := range c {
		for form, text := range forms(canary) {
			if len(text) >= 8 && bytes.Contains(sink, []byte(text)) {
				found = append(found, name+" ("+form+")")
			}
		}
	}
	return found
}

// The search itself must find.
func TestCanariesAreFound(t *testing.T) {
	t.Parallel()
	const canary = "CANARYidtag0123456789"
	c := canaries{"idTag": canary}
	for name, sink := range map[string]string{
		"plain": "x" + canary + "y", "hex": fmt.Sprintf("%x", "ab"+canary), "url": "?q=" + url.QueryEscape(canary),
		"base64":   base64.StdEncoding.EncodeToString([]byte(canary)),
		"base64+1": base64.StdEncoding.EncodeToString([]byte("a" + canary + "b")), "base64+2": base64.URLEncoding.EncodeToString([]byte("ab" + canary)),
		"json": `\u0043\u0041\u004e\u0041\u0052\u0059\u0069\u0064\u0074\u0061\u0067\u0030\u0031\u0032\u0033\u0034\u0035\u0036\u0037\u0038\u0039`,
		"list": fmt.Sprint([]byte(canary)),
	} {
		if len(c.in([]byte(sink))) == 0 {
			t.Errorf("%s: not found in %q", name, sink)
		}
	}
	if found := c.in([]byte("nothing of it: CANARYother")); len(found) > 0 {
		t.Errorf("found %v where there is nothing", found)
	}
}

// Threat F2, promise 14: idTags, eMAIDs, VINs, passwords and meter identifiers,
// where they belong and where they don't, in good messages and broken ones, of
// stations and back ends, are in no log at level debug, no metric, no ledger, no
// finding or alert, no command's output and no file but those that are made to
// hold them.
func TestCanariesReachNoSink(t *testing.T) {
	t.Parallel()
	c := canaries{
		"idTag": "CANARYidTagA1B2C3D4", "eMAID": "CANARYNLTNMC122045672", "VIN": "CANARYWVWZZZ1JZ3W386752", "meter": "CANARYmeter99887766",
		"wrong password": "CANARYwrongpassword31", "new password": "CANARYnewpassword4711", "back end's password": "CANARYbackend0815abc",
		"shared secret": "CANARYsharedsecret0xyz", "webhook secret": "CANARYwebhooksecret1234",
	}
	for _, security := range []string{"bollard", "backend", "observe"} {
		t.Run(security, func(t *testing.T) {
			t.Parallel()
			versions := []string{"2.0.1"}
			if security == "bollard" {
				versions = []string{"1.6", "2.0.1", "2.1"}
			}
			c.look(t, security, versions)
		})
	}
}

// techInfo is kept with its event and shown to who asks for it, and is nowhere else.
const techInfo = "CANARYtechinfo556677"

func (c canaries) look(t *testing.T, security string, versions []string) {
	backend, h := startBackend(t), startHook(t)
	h.secret = c["webhook secret"]
	srv := newServer(t)
	shared := filepath.Join(srv.dir, "shared.secret")
	srv.write(shared, c["shared secret"]+"\n")
	conf := backend.conf()
	conf["security"], conf["auth"], conf["password_file"] = security, "basic-shared", shared
	srv.conf["backends"] = []any{conf}
	srv.conf["log"] = map[string]any{"level": "debug", "format": "text"}
	srv.conf["listen"].(map[string]any)["admin"] = "127.0.0.1:0"
	srv.alertsTo(h)
	srv.filesOn()
	srv.start()

	outputs := &bytes.Buffer{}
	for _, version := range versions {
		e := srv.enlist("canary"+strings.ReplaceAll(version, ".", ""), 2)
		c.attack(t, srv, e, version)
		c.talk(t, srv, backend, e, version)
		c.fetch(t, srv, e)
		for _, args := range [][]string{{"station", "show", e.identity}, {"station", "show", e.identity, "--json"}, {"station", "events", e.identity}, {"station", "log", e.identity}} {
			outputs.WriteString(srv.cli(args...))
		}
	}
	_, _, _ = srv.try(c["new password"]+"\n", "backend", "password", "canary201")
	_, _, _ = srv.try(c["new password"]+"\n", "station", "password", "canary201", "--password-stdin")
	for _, args := range [][]string{{"station", "list", "--json"}, {"alert", "list", "--json"}, {"ledger", "export"}, {"cert", "list", "--json"}, {"doctor", "--json"},
		{"firmware", "list", "--json"}, {"firmware", "updates", "--json"}, {"policy", "held", "--json"}, {"fleet", "plan", "--json"}} {
		out, errs, _ := srv.try("", args...)
		outputs.WriteString(out + errs)
	}
	admin := srv.listens(t, "monitoring")
	for _, path := range []string{"/metrics", "/readyz", "/healthz"} {
		answer, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		outputs.Write(body)
	}
	srv.stop() // what waits in memory is written

	for sink, text := range map[string][]byte{"the log": []byte(srv.proc.log.String()), "commands and metrics": outputs.Bytes(), "alerts": []byte(h.bodies)} {
		if len(text) == 0 && sink != "alerts" {
			t.Errorf("%s: nothing to look at", sink)
		}
		for _, found := range c.in(text) {
			t.Errorf("%s: %s%s", sink, found, around(text, c))
		}
	}
	for _, found := range (canaries{"techInfo": techInfo}).in([]byte(srv.proc.log.String() + h.bodies + srv.cli("ledger", "export"))) {
		t.Errorf("log, alerts or ledger: %s", found)
	}
	err := filepath.WalkDir(srv.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range c.in(data) {
			t.Errorf("file %s: %s%s", filepath.Base(path), found, around(data, c))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// around shows where a canary was found.
func around(text []byte, c canaries) string {
	for _, canary := range c {
		if i := bytes.Index(text, []byte(canary)); i >= 0 {
			return fmt.Sprintf(": …%q…", text[max(0, i-150):min(len(text), i+len(canary)+50)])
		}
	}
	return ""
}

// listens is where the server listens for something.
func (s *server) listens(t *testing.T, what string) string {
	t.Helper()
	found := regexp.MustCompile(`msg="listening for ` + what + `"\s+address=(\S+)`).FindStringSubmatch(s.proc.log.String())
	if found == nil {
		t.Fatalf("bollard doesn't say where it listens for %s", what)
	}
	return found[1]
}

// fetch is what is asked of the door for downloads and uploads.
func (c canaries) fetch(t *testing.T, srv *server, e enlisted) {
	t.Helper()
	pool := x509.NewCertPool()
	root, err := os.ReadFile(srv.root)
	if err != nil || !pool.AppendCertsFromPEM(root) {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}, Timeout: patience}
	defer client.CloseIdleConnections()
	base := "https://" + srv.listens(t, "files")
	for _, canary := range c {
		for _, path := range []string{"/d/" + canary, "/d/" + canary + "/" + canary + ".bin", "/uploads/" + canary, "/uploads/" + canary + "/" + e.identity, "/" + canary + "?x=" + canary} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(canary))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth(e.identity, canary)
				req.Header.Set("Range", "bytes="+canary)
				req.Header.Set("User-Agent", canary)
				req.Header.Set("Content-Disposition", `attachment; filename="`+canary+`"`)
				answer, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
			}
		}
	}
}

// attack is what strangers and broken stations do at the door.
func (c canaries) attack(t *testing.T, srv *server, e enlisted, version string) {
	t.Helper()
	sub := []string{"ocpp" + version}
	for range 12 { // enough for a finding
		_, _ = dialRaw(t, srv, e, rawOptions{password: c["wrong password"], versions: sub})
	}
	for _, target := range []string{"?password=" + c["wrong password"], "/" + c["idTag"], "/x?y/" + c["eMAID"], "#" + c["VIN"]} {
		broken := e
		broken.identity += target
		_, _ = dialRaw(t, srv, broken, rawOptions{password: c["wrong password"], versions: sub})
	}
	_, _ = dialRaw(t, srv, e, rawOptions{versions: []string{c["wrong password"]}})
}

// talk puts the canaries into every message of a session, in both directions.
func (c canaries) talk(t *testing.T, srv *server, backend *rawBackend, e enlisted, version string) {
	t.Helper()
	s, up := backend.session(t, srv, e, rawOptions{versions: []string{"ocpp" + version}})
	boot := `[2,"boot","BootNotification",{"reason":"PowerUp","chargingStation":{"vendorName":"V","model":"M","serialNumber":%q,"modem":{"imsi":%q}}}]`
	if version == "1.6" {
		boot = `[2,"boot","BootNotification",{"chargePointVendor":"V","chargePointModel":"M","chargePointSerialNumber":%q,"meterSerialNumber":%q}]`
	}
	s.send(fmt.Sprintf(boot, e.serial, c["meter"]))
	s.next()
	s.send(`[2,"event","SecurityEventNotification",{"type":"TamperDetectionActivated","timestamp":"2026-01-01T00:00:00Z","techInfo":"` + techInfo + `"}]`)
	s.next()
	all := func(text string) []string {
		var list []string
		for _, canary := range c {
			list = append(list, strings.ReplaceAll(text, "CANARY", canary))
		}
		return list
	}
	var station, csms []string
	for i, text := range []string{
		`[2,"ID","Authorize",{"idTag":"CANARY"}]`,
		`[2,"ID","Authorize",{"idToken":{"idToken":"CANARY","type":"eMAID","additionalInfo":[{"additionalIdToken":"CANARY","type":"x"}]},"certificate":"CANARY"}]`,
		`[2,"ID","StartTransaction",{"connectorId":1,"idTag":"CANARY","meterStart":1,"timestamp":"2026-01-01T00:00:00Z"}]`,
		`[2,"ID","TransactionEvent",{"eventType":"Started","idToken":{"idToken":"CANARY","type":"ISO14443"},"transactionInfo":{"transactionId":"CANARY"},"meterValue":[{"customData":{"vendorId":"CANARY"}}]}]`,
		`[2,"ID","NotifyEVChargingNeeds",{"evseId":1,"customData":{"vendorId":"V","vin":"CANARY"}}]`,
		`[2,"ID","Get15118EVCertificate",{"iso15118SchemaVersion":"CANARY","action":"Install","exiRequest":"CANARY"}]`,
		`[2,"ID","DataTransfer",{"vendorId":"CANARY","messageId":"CANARY","data":"CANARY"}]`,
		`[2,"ID","DataTransfer",{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"SignCertificate","data":"{\"csr\":\"CANARY\"}"}]`,
		`[2,"ID","DataTransfer",{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"SignCertificate","data":{"csr":"CANARY"}}]`,
		`[2,"ID","DataTransfer",{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"GetCertificateStatus","data":"{\"ocspRequestData\":{\"hashAlgorithm\":\"CANARY\",\"issuerNameHash\":\"CANARY\",\"issuerKeyHash\":\"CANARY\",\"serialNumber\":\"CANARY\",\"responderURL\":\"https://CANARY.example/CANARY\"}}"}]`,
		`[2,"ID","GetCertificateStatus",{"ocspRequestData":{"hashAlgorithm":"SHA256","issuerNameHash":"CANARY","issuerKeyHash":"CANARY","serialNumber":"CANARY","responderURL":"https://user:CANARY@example.com/CANARY"}}]`,
		`[2,"ID","SignCertificate",{"csr":"CANARY"}]`,
		`[2,"ID","SignCertificate",{"csr":"x","certificateType":"CANARY"}]`,
		`[2,"ID","SignCertificate",{"CANARY":"x","csr":17}]`,
		`[2,"ID","FirmwareStatusNotification",{"status":"CANARY","requestId":"CANARY"}]`,
		`[2,"ID","FirmwareStatusNotification",{"status":"CANARY"}]`,
		`[2,"ID","FirmwareStatusNotification",{"status":"Installed","requestId":1,"statusInfo":{"reasonCode":"CANARY","additionalInfo":"CANARY"}}]`,
		`[2,"ID","SignedFirmwareStatusNotification",{"status":"CANARY","requestId":1}]`,
		`[2,"ID","PublishFirmwareStatusNotification",{"status":"CANARY","location":["https://CANARY.example/CANARY"]}]`,
		`[2,"ID","LogStatusNotification",{"status":"CANARY","requestId":1073741824}]`,
		`[2,"ID","BootNotification",{"reason":"CANARY","Reason":"CANARY"}]`,
		`[2,"CANARY","CANARY",{"CANARY":"CANARY"}]`,
		`[2,"bollard:CANARY","Heartbeat",{}]`,
		`[3,"CANARY",{"CANARY":"CANARY"}]`,
		`[4,"CANARY","CANARY","CANARY",{"CANARY":"CANARY"}]`,
		`[9,"CANARY","CANARY"]`, `["CANARY"]`, `{"CANARY":"CANARY"}`, `CANARY`, `[2,"ID","CANARY"`, `[2,"ID",CANARY,{}]`, `[2,{"CANARY":1},"Authorize",{}]`,
		`[2,"ID","  signcertificate ",{"csr":"CANARY"}]`,
	} {
		for n, one := range all(text) {
			station = append(station, strings.ReplaceAll(one, "ID", fmt.Sprintf("s%d-%d", i, n)))
		}
	}
	for i, text := range []string{
		`[2,"ID","ChangeConfiguration",{"key":"AuthorizationKey","value":"CANARY"}]`,
		`[2,"ID","ChangeConfiguration",{"key":"CANARY","value":"CANARY"}]`,
		`[2,"ID","SetVariables",{"setVariableData":[{"attributeValue":"CANARY","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}},{"attributeValue":"CANARY","component":{"name":"CANARY"},"variable":{"name":"CANARY"}}]}]`,
		`[2,"ID","SetNetworkProfile",{"configurationSlot":1,"connectionData":{"ocppVersion":"OCPP20","ocppTransport":"JSON","ocppCsmsUrl":"wss://CANARY:CANARY@example.com/CANARY","messageTimeout":30,"securityProfile":2,"ocppInterface":"Wired0","apn":{"apn":"x","apnPassword":"CANARY","apnAuthentication":"AUTO"}}}]`,
		`[2,"ID","RemoteStartTransaction",{"idTag":"CANARY"}]`,
		`[2,"ID","RequestStartTransaction",{"remoteStartId":1,"idToken":{"idToken":"CANARY","type":"Central"}}]`,
		`[2,"ID","SendLocalList",{"listVersion":1,"localAuthorizationList":[{"idTag":"CANARY"}],"updateType":"Full"}]`,
		`[2,"ID","CertificateSigned",{"certificateChain":"CANARY","certificateType":"CANARY"}]`,
		`[2,"ID","InstallCertificate",{"certificateType":"CSMSRootCertificate","certificate":"CANARY"}]`,
		`[2,"ID","DeleteCertificate",{"certificateHashData":{"hashAlgorithm":"SHA256","issuerNameHash":"CANARY","issuerKeyHash":"CANARY","serialNumber":"CANARY"}}]`,
		`[2,"ID","GetLog",{"logType":"DiagnosticsLog","requestId":1,"log":{"remoteLocation":"https://user:CANARY@example.com/CANARY"}}]`,
		`[2,"ID","DataTransfer",{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"InstallCertificate","data":"{\"certificateType\":\"CANARY\",\"certificate\":\"CANARY\"}"}]`,
		`[2,"ID","UpdateFirmware",{"location":"ftp://user:CANARY@example.com/fw","retrieveDate":"2026-01-01T00:00:00Z"}]`,
		`[2,"ID","UpdateFirmware",{"requestId":1,"firmware":{"location":"https://user:CANARY@example.com/CANARY","retrieveDateTime":"2026-01-01T00:00:00Z","signingCertificate":"CANARY","signature":"CANARY"}}]`,
		`[2,"ID","UpdateFirmware",{"requestId":"CANARY","firmware":{"location":"CANARY","retrieveDateTime":"CANARY"}}]`,
		`[2,"ID","SignedUpdateFirmware",{"requestId":1,"firmware":{"location":"https://user:CANARY@example.com/CANARY","retrieveDateTime":"2026-01-01T00:00:00Z","signingCertificate":"CANARY","signature":"CANARY"}}]`,
		`[2,"ID","PublishFirmware",{"requestId":1,"location":"https://user:CANARY@example.com/CANARY","checksum":"CANARY"}]`,
		`[2,"ID","GetDiagnostics",{"location":"ftp://user:CANARY@example.com/CANARY"}]`,
		`[2,"CANARY","CANARY",{"CANARY":"CANARY"}]`, `[3,"CANARY",{"status":"CANARY"}]`, `CANARY`, `[2,"bollard:CANARY","Reset",{"type":"CANARY"}]`,
	} {
		for n, one := range all(text) {
			csms = append(csms, strings.ReplaceAll(one, "ID", fmt.Sprintf("c%d-%d", i, n)))
		}
	}
	// The station answers whatever comes with errors that hold canaries.
	answering := make(chan struct{})
	go func() {
		defer close(answering)
		for {
			select {
			case frame := <-s.frames:
				var parts []json.RawMessage
				if json.Unmarshal([]byte(frame), &parts) == nil && len(parts) == 4 && string(parts[0]) == "2" {
					_ = s.conn.WriteText(fmt.Appendf(nil, `[4,%s,"GenericError",%q,{"detail":%q}]`, parts[1], c["idTag"], c["eMAID"]))
				}
			case <-s.ended:
				return
			}
		}
	}()
	for i := range max(len(station), len(csms)) {
		if i < len(station) && s.conn.WriteText([]byte(station[i])) != nil {
			break
		}
		if i < len(csms) && up.conn.WriteText([]byte(csms[i])) != nil {
			break
		}
	}
	_, _, _ = srv.try("", "station", "log", e.identity, "--fetch") // its CALL is answered with a canary too
	_, _, _ = srv.try("", "station", "renew", e.identity)
	if s.conn.WriteText([]byte(`[2,"s-last","Heartbeat",{}]`)) == nil && up.conn.WriteText([]byte(`[2,"c-last","Reset",{}]`)) == nil {
		eventually(t, "everything was judged", func() bool {
			all := strings.Join(up.received(), "\n")
			return !s.alive() || strings.Contains(all, `"s-last"`) && strings.Contains(all, `"c-last"`)
		})
	}
	if !s.alive() {
		t.Errorf("the session ended before everything was said: %v", s.reason())
	}
	_ = s.conn.Net.Close()
	<-answering
}
