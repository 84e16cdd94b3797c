package ocpp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bollard/ocpp"
)

// accepted are frames that real stations and back ends send (fact sheet 9.1).
func accepted() map[string]struct {
	frame string
	want  ocpp.Head
} {
	head := func(t ocpp.MessageType, id, raw, action, payload string) ocpp.Head {
		h := ocpp.Head{Type: t, ID: []byte(id), RawID: []byte(raw), Action: action}
		if payload != "" {
			h.Payload = []byte(payload)
		}
		return h
	}
	return map[string]struct {
		frame string
		want  ocpp.Head
	}{
		"call":                {`[2,"1","Heartbeat",{}]`, head(2, "1", `"1"`, "Heartbeat", "{}")},
		"white space":         {"\t\n\r [ 2 ,\n\"1\"\t, \"A\" ,\r\n{ \"a\" : [ 1 , { } ] } ] \n", head(2, "1", `"1"`, "A", `{ "a" : [ 1 , { } ] }`)},
		"escaped action":      {`[2,"1","\u0046irmware\u0053tatusNotification",{}]`, head(2, "1", `"1"`, "FirmwareStatusNotification", "{}")},
		"escaped id":          {`[2,"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","A",{}]`, head(2, "\"\\/\b\f\n\r\té😀", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`, "A", "{}")},
		"UTF-8":               {`[2,"é","Ä",{}]`, head(2, "é", `"é"`, "Ä", "{}")},
		"number id":           {`[2,17,"A",{}]`, head(2, "17", `17`, "A", "{}")},
		"negative id":         {`[3,-1,{}]`, head(3, "-1", `-1`, "", "{}")},
		"empty id":            {`[3,"",{}]`, head(3, "", `""`, "", "{}")},
		"null payload":        {`[2,"1","Heartbeat",null]`, head(2, "1", `"1"`, "Heartbeat", "null")},
		"result":              {`[3,"1",{"a":"}]"}]`, head(3, "1", `"1"`, "", `{"a":"}]"}`)},
		"null result":         {`[3,"1",null]`, head(3, "1", `"1"`, "", "null")},
		"error":               {`[4,"1","GenericError","",{}]`, head(4, "1", `"1"`, "", "")},
		"error, no details":   {`[4,"1","GenericError","x"]`, head(4, "1", `"1"`, "", "")},
		"error, code only":    {`[4,"1","GenericError"]`, head(4, "1", `"1"`, "", "")},
		"error, null parts":   {`[4,"1","GenericError",null,null]`, head(4, "1", `"1"`, "", "")},
		"result error":        {`[5,"1","FormatViolation","",{}]`, head(5, "1", `"1"`, "", "")},
		"send":                {`[6,"1","NotifyPeriodicEventStream",{"x":-0.5e+7}]`, head(6, "1", `"1"`, "NotifyPeriodicEventStream", `{"x":-0.5e+7}`)},
		"duplicate keys":      {`[2,"1","A",{"a":1,"a":2}]`, head(2, "1", `"1"`, "A", `{"a":1,"a":2}`)},
		"lone surrogate deep": {`[2,"1","A",{"a":"\ud800"}]`, head(2, "1", `"1"`, "A", `{"a":"\ud800"}`)},
		"deepest":             {`[2,"1","A",` + nest(ocpp.MaxDepth-1) + `]`, head(2, "1", `"1"`, "A", nest(ocpp.MaxDepth-1))},
		"longest id":          {`[3,"` + strings.Repeat("x", ocpp.MaxIDLength) + `",{}]`, head(3, strings.Repeat("x", ocpp.MaxIDLength), `"`+strings.Repeat("x", ocpp.MaxIDLength)+`"`, "", "{}")},
	}
}

// nest is an object of n levels.
func nest(n int) string {
	return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1)
}

func TestParseHeadAccepts(t *testing.T) {
	t.Parallel()
	for name, tc := range accepted() {
		h, err := ocpp.ParseHead([]byte(tc.frame))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, h); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A frame cut anywhere is refused, never half understood.
func TestParseHeadRefusesEveryPrefix(t *testing.T) {
	t.Parallel()
	for name, tc := range accepted() {
		frame := strings.TrimRight(tc.frame, " \n\t\r")
		for i := range len(frame) {
			if h, err := ocpp.ParseHead([]byte(frame[:i])); err == nil {
				t.Errorf("%s: cut at %d read as %+v", name, i, h)
			}
		}
		for _, more := range []string{"x", "]", ",", "[]", "\x00", "\ufeff"} {
			if _, err := ocpp.ParseHead([]byte(frame + more)); err == nil {
				t.Errorf("%s: %q behind the frame was accepted", name, more)
			}
		}
	}
}

func TestParseHeadRefuses(t *testing.T) {
	t.Parallel()
	const (
		rpc      = ocpp.RPCFrameworkError
		protocol = ocpp.ProtocolError
		format   = ocpp.FormatViolation
	)
	for name, tc := range map[string]struct {
		frame string
		code  ocpp.ErrorCode
		rawID string
		typ   int
	}{
		"nothing":               {``, rpc, "", 0},
		"object":                {`{}`, rpc, "", 0},
		"byte order mark":       {"\ufeff" + `[2,"1","A",{}]`, rpc, "", 0},
		"form feed":             {"[\f2,\"1\",\"A\",{}]", rpc, "", 0},
		"empty array":           {`[]`, rpc, "", 0},
		"type 2.0":              {`[2.0,"1","A",{}]`, rpc, "", 0},
		"type 2e0":              {`[2e0,"1","A",{}]`, rpc, "", 0},
		"type 20e-1":            {`[20e-1,"1","A",{}]`, rpc, "", 0},
		"type 02":               {`[02,"1","A",{}]`, rpc, "", 0},
		"type +2":               {`[+2,"1","A",{}]`, rpc, "", 0},
		"type text":             {`["2","1","A",{}]`, rpc, "", 0},
		"type -0":               {`[-0,"1","A",{}]`, rpc, "", 0},
		"type huge":             {`[18446744073709551618,"1","A",{}]`, rpc, "", 0},
		"type 258":              {`[258,"1","A",{}]`, ocpp.MessageTypeNotSupported, `"1"`, 258},
		"type 1":                {`[1,"1","A",{}]`, ocpp.MessageTypeNotSupported, `"1"`, 1},
		"type 7":                {`[7,"1"`, ocpp.MessageTypeNotSupported, `"1"`, 7},
		"type -2":               {`[-2,"1","A",{}]`, ocpp.MessageTypeNotSupported, `"1"`, -2},
		"no id":                 {`[2]`, rpc, "", 2},
		"id null":               {`[2,null,"A",{}]`, rpc, "", 2},
		"id object":             {`[2,{},"A",{}]`, rpc, "", 2},
		"id 1.0":                {`[2,1.0,"A",{}]`, rpc, "", 2},
		"id 1e3":                {`[2,1e3,"A",{}]`, rpc, "", 2},
		"id of 16 digits":       {`[2,1234567890123456,"A",{}]`, rpc, "", 2},
		"id lone surrogate":     {`[2,"\ud800","A",{}]`, rpc, "", 2},
		"id low surrogate":      {`[2,"\udc00","A",{}]`, rpc, "", 2},
		"id two high":           {`[2,"\ud800\ud800","A",{}]`, rpc, "", 2},
		"id surrogate and text": {`[2,"\ud800dc00x","A",{}]`, rpc, "", 2},
		"id invalid UTF-8":      {"[2,\"\xff\",\"A\",{}]", rpc, "", 2},
		"id control":            {"[2,\"\n\",\"A\",{}]", rpc, "", 2},
		"id with U+0000":        {`[2,"1\u0000x","A",{}]`, rpc, "", 2},
		"action with U+0000":    {`[2,"1","ChangeConfiguration\u0000",{}]`, protocol, `"1"`, 2},
		"id bad escape":         {`[2,"\x","A",{}]`, rpc, "", 2},
		"id too long":           {`[2,"` + strings.Repeat("x", ocpp.MaxIDLength+1) + `","A",{}]`, rpc, "", 2},
		"no action":             {`[2,"1"]`, protocol, `"1"`, 2},
		"action number":         {`[2,"1",3,{}]`, protocol, `"1"`, 2},
		"action object":         {`[2,"1",{},{}]`, protocol, `"1"`, 2},
		"action empty":          {`[2,"1","",{}]`, protocol, `"1"`, 2},
		"action surrogate":      {`[2,"1","\ud800",{}]`, protocol, `"1"`, 2},
		"action invalid UTF-8":  {"[2,\"1\",\"\xc3\",{}]", protocol, `"1"`, 2},
		"action too long":       {`[2,"1","` + strings.Repeat("x", ocpp.MaxAction+1) + `",{}]`, protocol, `"1"`, 2},
		"no payload":            {`[2,"1","A"]`, protocol, `"1"`, 2},
		"five elements":         {`[2,"1","A",{},{}]`, protocol, `"1"`, 2},
		"result of four":        {`[3,"1",{},{}]`, protocol, `"1"`, 3},
		"result of two":         {`[3,"1"]`, protocol, `"1"`, 3},
		"error of two":          {`[4,"1"]`, protocol, `"1"`, 4},
		"error of six":          {`[4,"1","A","",{},{}]`, protocol, `"1"`, 4},
		"error code number":     {`[4,"1",5,"",{}]`, protocol, `"1"`, 4},
		"payload array":         {`[2,"1","A",[]]`, format, `"1"`, 2},
		"payload text":          {`[2,"1","A","{}"]`, format, `"1"`, 2},
		"payload true":          {`[3,"1",true]`, format, `"1"`, 3},
		"payload cut":           {`[2,"1","A",{"a"`, format, `"1"`, 2},
		"brackets crossed":      {`[2,"1","A",{"a":[}]]`, format, `"1"`, 2},
		"missing colon":         {`[2,"1","A",{"a" 1}]`, format, `"1"`, 2},
		"missing comma":         {`[2,"1","A",{"a":1 "b":2}]`, format, `"1"`, 2},
		"comma at the end":      {`[2,"1","A",{"a":1,}]`, format, `"1"`, 2},
		"array comma":           {`[2,"1","A",{"a":[1,]}]`, format, `"1"`, 2},
		"comma first":           {`[2,"1","A",{"a":[,1]}]`, format, `"1"`, 2},
		"bare key":              {`[2,"1","A",{a:1}]`, format, `"1"`, 2},
		"single quotes":         {`[2,"1","A",{'a':1}]`, format, `"1"`, 2},
		"NaN":                   {`[2,"1","A",{"a":NaN}]`, format, `"1"`, 2},
		"literal in capitals":   {`[2,"1","A",{"a":True}]`, format, `"1"`, 2},
		"literal cut":           {`[2,"1","A",{"a":tru}]`, format, `"1"`, 2},
		"number 01":             {`[2,"1","A",{"a":01}]`, format, `"1"`, 2},
		"number 1.":             {`[2,"1","A",{"a":1.}]`, format, `"1"`, 2},
		"number .1":             {`[2,"1","A",{"a":.1}]`, format, `"1"`, 2},
		"number 1e":             {`[2,"1","A",{"a":1e}]`, format, `"1"`, 2},
		"number -":              {`[2,"1","A",{"a":-}]`, format, `"1"`, 2},
		"hex escape":            {`[2,"1","A",{"a":"\u00g0"}]`, format, `"1"`, 2},
		"control in text":       {"[2,\"1\",\"A\",{\"a\":\"\x1f\"}]", format, `"1"`, 2},
		"comment":               {`[2,"1","A",{/**/}]`, format, `"1"`, 2},
		"too deep":              {`[2,"1","A",` + nest(ocpp.MaxDepth) + `]`, format, `"1"`, 2},
		"9,999 arrays":          {`[2,"1","A",{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}]`, format, `"1"`, 2},
		"two frames":            {`[2,"1","A",{}][2,"2","B",{}]`, format, `"1"`, 2},
	} {
		_, err := ocpp.ParseHead([]byte(tc.frame))
		var e *ocpp.FrameError
		if !errors.As(err, &e) {
			t.Errorf("%s: error is %v", name, err)
			continue
		}
		if e.Code != tc.code || string(e.RawID) != tc.rawID || e.Type != tc.typ {
			t.Errorf("%s: got %s, id %s, type %d (%s)", name, e.Code, e.RawID, e.Type, e.Reason)
		}
	}
}

func TestBaseAction(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]string{"A-Signed": "A", "A": "", "-Signed": "", "A-signed": ""} {
		base, signed := ocpp.Head{Action: action}.BaseAction()
		if wantSigned := action == "A-Signed" || action == "-Signed"; signed != wantSigned || signed && base != want {
			t.Errorf("%s is %q, %v", action, base, signed)
		}
	}
}

// agree compares ParseHead with encoding/json: what we accept, it must accept
// and read alike (promise 13).
func agree(frame []byte) error {
	h, err := ocpp.ParseHead(frame)
	if err != nil {
		return nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(frame, &elements); err != nil {
		return fmt.Errorf("encoding/json refuses it: %w", err)
	}
	var typ int
	if err := json.Unmarshal(elements[0], &typ); err != nil || typ != int(h.Type) {
		return fmt.Errorf("type is %d to encoding/json: %w", typ, err)
	}
	var id any
	if err := json.Unmarshal(elements[1], &id); err != nil {
		return err
	}
	if n, ok := id.(float64); ok {
		id = strconv.FormatFloat(n, 'f', -1, 64)
	}
	if id != string(h.ID) {
		return fmt.Errorf("id is %q, not %q", id, h.ID)
	}
	if string(elements[1]) != string(h.RawID) {
		return fmt.Errorf("raw id is %s, not %s", elements[1], h.RawID)
	}
	payload := 2
	if h.Type == ocpp.Call || h.Type == ocpp.Send {
		payload = 3
		var action string
		if err := json.Unmarshal(elements[2], &action); err != nil || action != h.Action {
			return fmt.Errorf("action is %q, not %q: %w", action, h.Action, err)
		}
	}
	if h.Type != ocpp.CallError && h.Type != ocpp.CallResultError && (len(elements) != payload+1 || string(elements[payload]) != string(h.Payload)) {
		return fmt.Errorf("payload differs")
	}
	return nil
}

func TestParseHeadAgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	space := rapid.SampledFrom([]string{"", "", "", " ", "\t", "\r\n"})
	token := rapid.SampledFrom([]string{
		"2", "3", "4", "5", "6", "7", "2.0", "02", `"a"`, `"\u0041"`, `"\ud83d\ude00"`, `"\ud83d"`, `"é"`, "\"\xff\"", "12", "-1", "1e3",
		"{}", "[]", "null", "true", `{"a":1}`, `{"a":[1,{"b":"\\\""}]}`, `{"a":}`, "[", "]", "{", "}", ",", ":", `"`, "x", "\x00",
	})
	rapid.Check(t, func(t *rapid.T) {
		elements := rapid.SliceOfN(token, 0, 6).Draw(t, "elements")
		frame := "["
		for i, e := range elements {
			if i > 0 {
				frame += ","
			}
			frame += space.Draw(t, "space") + e + space.Draw(t, "space")
		}
		frame += "]"
		if err := agree([]byte(frame)); err != nil {
			t.Fatalf("%q: %v", frame, err)
		}
		if h, err := ocpp.ParseHead([]byte(frame)); err == nil && !json.Valid([]byte(frame)) {
			t.Fatalf("%q was read as %+v", frame, h)
		}
	})
}

// Strings are walked eight bytes at a time: each byte that means something must be
// seen wherever it stands, and nothing else.
func TestParseHeadSeesEveryByteOfAString(t *testing.T) {
	for _, c := range []string{"x", `"`, `\`, `\"`, `\u00e9`, `\u00`, "\x00", "\x1f", " ", "!", "#", "[", "\x7f", "\u00a2", "\u2022"} {
		for before := range 18 {
			for after := range 10 {
				in := strings.Repeat("a", before) + c + strings.Repeat("b", after)
				for _, payload := range []string{`{"` + in + `":1}`, `{"k":["` + in + `"]}`, `{"k":"` + in} {
					frame := []byte(`[3,"i",` + payload + `]`)
					_, err := ocpp.ParseHead(frame)
					if (err == nil) != json.Valid(frame) {
						t.Fatalf("%q: got %v, encoding/json says valid: %t", frame, err, json.Valid(frame))
					}
				}
			}
		}
	}
}

func FuzzParseHead(f *testing.F) {
	for _, tc := range accepted() {
		f.Add([]byte(tc.frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if err := agree(frame); err != nil {
			t.Fatalf("%q: %v", frame, err)
		}
	})
}

func BenchmarkParseHead(b *testing.B) {
	for name, frame := range map[string]string{
		"Heartbeat":   `[2,"6f1b8e0e-4a3c-4a44-9d1f-0a4b7f8a9e11","Heartbeat",{}]`,
		"MeterValues": `[2,"6f1b8e0e-4a3c-4a44-9d1f-0a4b7f8a9e11","MeterValues",{"connectorId":1,"transactionId":7,"meterValue":[{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[` + strings.Repeat(`{"value":"230.1","measurand":"Voltage","unit":"V","context":"Sample.Periodic"},`, 20) + `{"value":"1"}]}]}]`,
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(frame)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ocpp.ParseHead(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
