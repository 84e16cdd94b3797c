package fleet_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/ca/hashdata"
	"bollard/e2e/rawws"
	"bollard/fleet"
	"bollard/gateway"
	"bollard/internal/ws"
	"bollard/ocpp"
)

var sharedDir = filepath.Join("..", "..", "shared")

// schemaObject is as much of a JSON schema as a payload can be made of.
type schemaObject struct {
	Ref         string                   `json:"$ref"`
	Type        string                   `json:"type"`
	Enum        []string                 `json:"enum"`
	Properties  map[string]*schemaObject `json:"properties"`
	Required    []string                 `json:"required"`
	Items       *schemaObject            `json:"items"`
	Definitions map[string]*schemaObject `json:"definitions"`
}

func (o *schemaObject) resolve(root *schemaObject) *schemaObject {
	if name, ok := strings.CutPrefix(o.Ref, "#/definitions/"); ok {
		return root.Definitions[name]
	}
	return o
}

// properties are the names of all properties, however deep.
func (o *schemaObject) properties(root *schemaObject, into map[string]bool, depth int) {
	if o = o.resolve(root); depth > 8 || o == nil {
		return
	}
	for name, p := range o.Properties {
		into[name] = true
		p.properties(root, into, depth+1)
	}
	if o.Items != nil {
		o.Items.properties(root, into, depth+1)
	}
}

// minimal makes the smallest payload the schema allows.
func (o *schemaObject) minimal(root *schemaObject) any {
	o = o.resolve(root)
	switch {
	case len(o.Enum) > 0:
		return o.Enum[0]
	case o.Type == "object":
		out := map[string]any{}
		for _, name := range o.Required {
			out[name] = o.Properties[name].minimal(root)
		}
		return out
	case o.Type == "array":
		return []any{o.Items.minimal(root)}
	case o.Type == "integer", o.Type == "number":
		return 1
	case o.Type == "boolean":
		return true
	}
	return "x"
}

// schemas are the requests of a version by action.
func schemas(t *testing.T, v ocpp.Version) map[string]*schemaObject {
	t.Helper()
	folders, suffix := []string{v.String()}, "Request.json"
	if v == ocpp.V16 {
		folders, suffix = []string{"1.6", "1.6-security"}, ".json"
	}
	out := map[string]*schemaObject{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(sharedDir, "ocpp-schemas", folder, "*"+suffix))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			action := strings.TrimSuffix(filepath.Base(file), suffix)
			if v == ocpp.V16 && strings.HasSuffix(action, "Response") {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := &schemaObject{}
			if err := json.Unmarshal(data, o); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			out[action] = o
		}
	}
	if len(out) < 28 {
		t.Fatalf("only %d schemas of OCPP %s were read", len(out), v)
	}
	return out
}

// variables are the component.variable names of the fact sheet's table of the
// device model, or the keys of its table for 1.6.
func variables(t *testing.T, heading string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedDir, "spec", "ocpp-security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(data), heading)
	section, _, _ = strings.Cut(section, "\n#")
	if !found {
		t.Fatalf("%q is gone from the fact sheet", heading)
	}
	instance := regexp.MustCompile(`\[[^\]]*\]`)
	var names []string
	for line := range strings.SplitSeq(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(cells[1], "---") || strings.Contains(cells[2], "access") {
			continue
		}
		component := ""
		for name := range strings.SplitSeq(instance.ReplaceAllString(cells[1], ""), ",") {
			name = strings.TrimSpace(name)
			if c, variable, ok := strings.Cut(name, "."); ok {
				component, name = c, variable
			}
			if component != "" {
				name = component + "." + name
			}
			names = append(names, name)
		}
	}
	if len(names) < 8 {
		t.Fatalf("only %v were read", names)
	}
	return names
}

// harmless are the settings of the tables that don't lower a station's security
// and don't strand it. Everything else in them does.
var harmless = []string{
	"CertificateSignedMaxChainSize", "CertificateStoreMaxLength", "SupportedFileTransferProtocols", "WebSocketPingInterval",
	"SecurityCtrlr.CertSigningWaitMinimum", "SecurityCtrlr.CertSigningRepeatTimes",
}

func isHarmless(name string) bool {
	outside := strings.HasPrefix(name, "OCPPCommCtrlr.") && name != "OCPPCommCtrlr.NetworkConfigurationPriority"
	for _, c := range []string{"ChargingStation.", "ClockCtrlr.", "ISO15118Ctrlr."} {
		outside = outside || strings.HasPrefix(name, c)
	}
	return outside || slices.Contains(harmless, name)
}

// spellings are the ways a name can be written that a station may take for it.
func spellings(name string) []string {
	swapped := strings.ToUpper(name[:1]) + strings.ToLower(name[1:])
	// Letters beyond ASCII whose lower or upper case is within.
	folded := strings.NewReplacer("s", "\u017f", "S", "\u017f", "k", "\u212a", "K", "\u212a").Replace(name)
	return []string{name, strings.ToLower(name), strings.ToUpper(name), swapped, " " + name + "\t", name + "\u00a0", folded}
}

// escaped writes every second character of the text as an escape.
func escaped(frame, text string) string {
	out := ""
	for i, r := range text {
		if i%2 == 0 {
			out += fmt.Sprintf(`\u%04x`, r)
		} else {
			out += string(r)
		}
	}
	return strings.ReplaceAll(frame, text, out)
}

// probe is one message of the back end. reaches is the payload that the station
// is to see; "": it must see nothing.
type probe struct {
	name, action, payload, reaches string
	escaped                        bool // the action is written with escapes
}

// matrix makes the probes of a version of the schemas and the tables.
func matrix(t *testing.T, v ocpp.Version, rootHash any) []probe {
	t.Helper()
	var list []probe
	// as it is and signed, which is the same message to a station
	plain := func(name, action, payload, reaches string) {
		list = append(list, probe{name, action, payload, reaches, false})
		jws := func(p string) string {
			return marshal(t, map[string]string{"payload": base64.RawURLEncoding.EncodeToString([]byte(p)), "protected": "e30", "signature": "e30"})
		}
		signedReaches := ""
		if reaches == payload { // part of it can't go on
			signedReaches = jws(payload)
		}
		list = append(list, probe{name + "/signed", action + "-Signed", jws(payload), signedReaches, false})
	}
	// and in every other way it can come
	add := func(name, action, payload string) {
		plain(name, action, payload, "")
		for _, spelt := range []string{strings.ToLower(action), strings.ToUpper(action), " " + action, action + "-signed", action + "-Signed-Signed"} {
			list = append(list, probe{name + "/" + spelt, spelt, payload, "", false})
		}
		for _, spelt := range []string{action, action + "-Signed", strings.ToLower(action)} {
			list = append(list, probe{name + "/escaped " + spelt, spelt, payload, "", true})
		}
		for _, vendor := range []string{"org.openchargealliance.iso15118pnc", "com.example", ""} {
			for _, id := range []string{action, strings.ToLower(action), " " + action, action + "-Signed", "set"} {
				if id == "set" && !strings.Contains(strings.ToLower(payload), "password") && !strings.Contains(payload, "://") {
					continue // nothing in it tells what it is
				}
				for how, data := range map[string]any{"text": payload, "object": json.RawMessage(payload), "text in text": marshal(t, payload)} {
					list = append(list, probe{name + "/in DataTransfer of " + vendor + " " + id + " as " + how, "DataTransfer",
						marshal(t, map[string]any{"vendorId": vendor, "messageId": id, "data": data}), "", false})
				}
			}
		}
	}
	known := schemas(t, v)
	with := func(action string, change func(map[string]any)) string {
		payload := known[action].minimal(known[action]).(map[string]any)
		change(payload)
		return marshal(t, payload)
	}
	// Which requests write what a station connects with is the schemas' to say.
	writing := map[string]bool{}
	for action, o := range known {
		names := map[string]bool{}
		o.properties(o, names, 0)
		for _, tell := range []string{"securityProfile", "basicAuthPassword", "ocppCsmsUrl", "attributeValue", "certificateHashData", "certificateChain"} {
			writing[action] = writing[action] || names[tell]
		}
		writing[action] = writing[action] || names["key"] && names["value"] || names["certificate"] && names["certificateType"]
		if !writing[action] {
			delete(writing, action)
		}
	}
	want := []string{"CertificateSigned", "DeleteCertificate", "InstallCertificate", "SetNetworkProfile", "SetVariables"}
	switch v {
	case ocpp.V16:
		want = []string{"CertificateSigned", "ChangeConfiguration", "DeleteCertificate", "InstallCertificate"}
	case ocpp.V21: // asks the CSMS for the status of a vehicle's certificates
		delete(writing, "GetCertificateChainStatus")
	}
	if got := slices.Sorted(maps.Keys(writing)); !slices.Equal(got, want) {
		t.Errorf("requests of OCPP %s that write what a station connects with: %v", v, got)
	}
	for _, use := range known["InstallCertificate"].Properties["certificateType"].resolve(known["InstallCertificate"]).Enum {
		if !strings.Contains(use, "CSMS") && !strings.Contains(use, "CentralSystem") {
			continue
		}
		for _, spelt := range spellings(use) {
			add("install "+spelt, "InstallCertificate", with("InstallCertificate", func(p map[string]any) { p["certificateType"] = spelt }))
		}
	}
	add("delete the root in use", "DeleteCertificate", with("DeleteCertificate", func(p map[string]any) { p["certificateHashData"] = rootHash }))
	add("foreign certificate", "CertificateSigned", with("CertificateSigned", func(map[string]any) {}))
	if v == ocpp.V16 {
		for _, key := range variables(t, "### 5.1 1.6 keys") {
			for _, spelt := range spellings(key) {
				payload := with("ChangeConfiguration", func(p map[string]any) { p["key"], p["value"] = spelt, "1" })
				if isHarmless(key) {
					list = append(list, probe{key + " as " + spelt, "ChangeConfiguration", payload, payload, false})
					continue
				}
				add(key+" as "+spelt, "ChangeConfiguration", payload)
				list = append(list, probe{key + " escaped", "ChangeConfiguration", escaped(payload, key), "", false},
					probe{key + " twice", "ChangeConfiguration", strings.Replace(payload, `{`, `{"key":"HeartbeatInterval",`, 1), "", false},
					probe{key + " in another case", "ChangeConfiguration", strings.Replace(payload, `"key"`, `"key":"HeartbeatInterval","Key"`, 1), "", false})
			}
		}
		for _, key := range []string{"CentralSystemURI", "Cst_BackendUrl", "vendor.ServerURL", "AnyKey"} {
			add("URL in "+key, "ChangeConfiguration", with("ChangeConfiguration", func(p map[string]any) { p["key"], p["value"] = key, "wss://evil.example/ocpp" }))
		}
		return list
	}
	add("network profile", "SetNetworkProfile", with("SetNetworkProfile", func(p map[string]any) {
		p["configurationSlot"] = 7
		p["connectionData"].(map[string]any)["ocppCsmsUrl"] = "wss://evil.example"
	}))
	entry := func(component, variable, value string) map[string]any {
		set := known["SetVariables"]
		e := set.Properties["setVariableData"].resolve(set).Items.minimal(set).(map[string]any)
		e["attributeValue"], e["component"], e["variable"] = value, map[string]any{"name": component, "instance": "7"}, map[string]any{"name": variable}
		return e
	}
	lists := func(entries ...map[string]any) string {
		return with("SetVariables", func(p map[string]any) { p["setVariableData"] = entries })
	}
	var good []map[string]any
	var bad []string
	for _, name := range variables(t, "### 5.2 2.x variables") {
		component, variable, _ := strings.Cut(name, ".")
		switch {
		case isHarmless(name):
			good = append(good, entry(component, variable, "60"))
		case variable == "*": // what the component holds is what the message that it replaces holds
			profile := schemas(t, ocpp.V21)["SetNetworkProfile"]
			for property := range profile.Definitions["NetworkConnectionProfileType"].Properties {
				if property != "customData" {
					bad = append(bad, component+"."+strings.ToUpper(property[:1])+property[1:])
				}
			}
		default:
			bad = append(bad, name)
		}
	}
	for _, g := range good {
		list = append(list, probe{fmt.Sprint(g), "SetVariables", lists(g), lists(g), false})
	}
	for i, name := range bad {
		component, variable, _ := strings.Cut(name, ".")
		for j, spelt := range spellings(variable) {
			b := entry(spellings(component)[j], spelt, "evil")
			g1, g2 := good[(i+j)%len(good)], good[(i+j+1)%len(good)]
			if j == 0 {
				add(name, "SetVariables", lists(b))
			}
			plain(name+" as "+spelt, "SetVariables", lists(b), "")
			list = append(list, probe{name + " escaped", "SetVariables", escaped(lists(b), variable), "", false},
				probe{name + " twice", "SetVariables", strings.Replace(lists(b), `{`, `{"setVariableData":[],`, 1), "", false},
				probe{name + " wrapped as " + spelt, "DataTransfer", marshal(t, map[string]any{"vendorId": "x", "messageId": "SetVariables", "data": lists(g1, b)}), "", false},
				probe{name + " wrapped with escapes", "DataTransfer", escaped(escaped(marshal(t, map[string]any{"vendorId": "x", "messageId": "SetVariables", "data": lists(b)}), "SetVariables"), spelt), "", false})
			plain(name+" first", "SetVariables", lists(b, g1, g2), lists(g1, g2))
			plain(name+" last", "SetVariables", lists(g1, g2, b), lists(g1, g2))
			plain(name+" between", "SetVariables", lists(g1, b, g2, b), lists(g1, g2))
			for _, kind := range []string{"Target", "MinSet", "MaxSet"} {
				b := maps.Clone(b)
				b["attributeType"] = kind
				plain(name+" "+kind, "SetVariables", lists(b), "")
			}
		}
	}
	return list
}

// TestWritingPathsMatrix sends every way of writing what a station connects with
// through the gateway. The station sees nothing of it, and all of the rest.
func TestWritingPathsMatrix(t *testing.T) { // promise 4, threats A6, B4, C5, C6
	t.Parallel()
	for _, v := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		for path, compress := range map[string]bool{"loop": false, "pumps": true} {
			t.Run(v.String()+"/"+path, func(t *testing.T) {
				t.Parallel()
				w := newWire(t, v, compress)
				root := w.r.auth.Roots("csms")[0]
				hash, err := hashdata.Of("SHA256", root, root)
				if err != nil {
					t.Fatal(err)
				}
				probes := matrix(t, v, hash)
				for i, p := range probes {
					w.try(i, p)
				}
				t.Logf("%d messages", len(probes))
			})
		}
	}
}

// wire is a gateway in front of the rig's fleet, with the two ends of a session.
type wire struct {
	t       *testing.T
	r       *rig
	station *rawws.Conn
	backend *rawws.Conn
}

func newWire(t *testing.T, v ocpp.Version, compress bool) *wire {
	t.Helper()
	w := &wire{t: t, r: newRig(t)}
	password := w.r.add(fleet.Enrolment{Identity: "CS-1", Profile: 1})
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	above, front := listen(), listen()
	accepted := make(chan *rawws.Conn, 1)
	go func() {
		conn, err := above.Accept()
		if err != nil {
			return
		}
		link, _, err := rawws.Server(conn, func(*http.Request) (string, int) { return v.Subprotocol(), http.StatusSwitchingProtocols })
		if err == nil {
			accepted <- link
		}
	}()
	g, err := gateway.New(t.Context(), gateway.Config{
		Listeners: []gateway.Listener{{Name: "plain", Net: front, Profiles: []int{1}}}, Door: w.r.svc, Guard: w.r.svc,
		Backends: []gateway.Backend{{Name: "main", URL: "ws://" + above.Addr().String()}},
		Limits:   gateway.Limits{WS: ws.Limits{Compression: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx) }()
	t.Cleanup(func() { above.Close(); stop(); <-served })
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if w.station, err = rawws.Client(conn, rawws.Request{Host: "localhost", Target: "/ocpp/CS-1", Subprotocols: []string{v.Subprotocol()}, User: "CS-1", Password: []byte(password), Compress: compress}); err != nil {
		t.Fatal(err)
	}
	w.backend = <-accepted
	for _, c := range []*rawws.Conn{w.station, w.backend} {
		t.Cleanup(func() { c.Net.Close() })
	}
	return w
}

func (w *wire) read(c *rawws.Conn) []json.RawMessage {
	w.t.Helper()
	_ = c.Net.SetReadDeadline(time.Now().Add(time.Minute))
	m, err := c.ReadMessage()
	if err != nil {
		w.t.Fatal(err)
	}
	var frame []json.RawMessage
	if err := json.Unmarshal(m, &frame); err != nil {
		w.t.Fatalf("%s: %v", m, err)
	}
	return frame
}

func (w *wire) write(c *rawws.Conn, frame string) {
	w.t.Helper()
	if err := c.WriteText([]byte(frame)); err != nil {
		w.t.Fatal(err)
	}
}

// try sends one message, and one behind it that passes: what the station sees
// before that one, it sees of the first.
func (w *wire) try(i int, p probe) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.t.Logf("with %s: %s %s", p.name, p.action, p.payload)
		}
	}()
	action := marshal(w.t, p.action)
	if p.escaped {
		action = escaped(action, p.action)
	}
	w.write(w.backend, fmt.Sprintf(`[2,"p%d",%s,%s]`, i, action, p.payload))
	if p.reaches != "" {
		got := w.read(w.station)
		if len(got) != 4 || !sameJSON(got[3], []byte(p.reaches)) {
			w.t.Fatalf("%s\nsent    %s\nreaches %s\nwant    %s", p.name, p.payload, got, p.reaches)
		}
		w.write(w.station, fmt.Sprintf(`[3,"p%d",%s]`, i, answerTo(p.reaches)))
	}
	answer := w.read(w.backend)
	if string(answer[1]) != fmt.Sprintf(`"p%d"`, i) {
		w.t.Fatalf("%s: answered %s", p.name, answer)
	}
	w.checkResults(p, answer)
	w.write(w.backend, fmt.Sprintf(`[2,"m%d","ClearCache",{}]`, i))
	if got := w.read(w.station); string(got[1]) != fmt.Sprintf(`"m%d"`, i) {
		w.t.Fatalf("%s: the station sees %s", p.name, got)
	}
	w.write(w.station, fmt.Sprintf(`[3,"m%d",{}]`, i))
	w.read(w.backend)
}

// answerTo accepts all that a station was asked.
func answerTo(payload string) string {
	var set ocpp.SetVariablesRequest
	if json.Unmarshal([]byte(payload), &set) != nil || len(set.SetVariableData) == 0 {
		return `{"status":"Accepted"}`
	}
	out := ocpp.SetVariablesResponse{}
	for _, v := range set.SetVariableData {
		out.SetVariableResult = append(out.SetVariableResult, ocpp.SetVariableResult{AttributeStatus: "Accepted", Component: v.Component, Variable: v.Variable})
	}
	text, _ := json.Marshal(out)
	return string(text)
}

// checkResults wants each variable of a list answered for itself, in order.
func (w *wire) checkResults(p probe, answer []json.RawMessage) {
	w.t.Helper()
	if p.action != "SetVariables" || string(answer[0]) != "3" {
		return
	}
	var asked, passed ocpp.SetVariablesRequest
	var got ocpp.SetVariablesResponse
	if json.Unmarshal([]byte(p.payload), &asked) != nil || json.Unmarshal(answer[2], &got) != nil || len(got.SetVariableResult) != len(asked.SetVariableData) {
		w.t.Fatalf("%s: answered %s", p.name, answer)
	}
	_ = json.Unmarshal([]byte(p.reaches), &passed) // "" is none
	for i, res := range got.SetVariableResult {
		a := asked.SetVariableData[i]
		ok := slices.ContainsFunc(passed.SetVariableData, func(x ocpp.SetVariable) bool { return reflect.DeepEqual(x, a) })
		if res.Variable != a.Variable || (res.AttributeStatus == "Accepted") != ok {
			w.t.Errorf("%s: %s answered %s", p.name, a.Variable.Name, res.AttributeStatus)
		}
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
