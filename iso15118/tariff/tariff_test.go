package tariff_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/iso15118/exi"
	"bollard/iso15118/message"
	"bollard/iso15118/tariff"
)

// vector is a fragment that EXIficient and OpenEXI wrote alike.
type vector struct {
	Name, EXI string
	Root      struct{ Name string }
	Content   map[string]map[string]any
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	for _, file := range []string{"iso15118-2-fragments", "iso15118-20-fragments"} {
		raw, err := os.ReadFile("../exi/testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var in struct{ Vectors []vector }
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&in); err != nil {
			t.Fatal(err)
		}
		for _, v := range in.Vectors {
			if slices.Contains([]string{"SalesTariff", "AbsolutePriceSchedule", "PriceLevelSchedule"}, v.Root.Name) {
				out = append(out, v)
			}
		}
	}
	return out
}

// inOCPP writes EXI's tree as OCPP's JSON has it: the other way round than the
// package, and by rules of spelling instead of tables.
func inOCPP(element string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if element == "startValue" { // a number in OCPP
			return v["Value"]
		}
		out := map[string]any{}
		for local, inner := range v {
			name := strings.ToLower(local[:1]) + local[1:]
			switch local {
			case "@Id":
				continue
			case "PriceScheduleID":
				if element == "PriceLevelSchedule" {
					name = "priceScheduleId"
				}
			case "AppliesMinimumMaximumCost":
				name = "appliesToMinimumMaximumCost"
			case "SalesTariffID":
				name = "id"
			case "OverstayRules":
				name = "overstayRuleList"
			case "TaxRules", "PriceRuleStacks", "AdditionalSelectedServices", "PriceLevelScheduleEntries":
				for _, list := range inner.(map[string]any) { // its one member
					inner = list
				}
			case "TimeAnchor":
				n, _ := inner.(json.Number).Int64()
				out[name] = time.Unix(n, 0).UTC().Format(time.RFC3339)
				continue
			}
			out[name] = inOCPP(local, inner)
		}
		return out
	case []any:
		out := []any{}
		for _, one := range v {
			out = append(out, inOCPP(element, one))
		}
		return out
	case string:
		return strings.Replace(v, "relativePricePercentage", "RelativePricePercentage", 1)
	}
	return v
}

// sayable is a vector's EXI. What JSON has no form for is changed in both: an Id that
// isn't letters and a number, a time after the year 9999, a startValue that isn't watt
// times one.
func sayable(t *testing.T, v *vector) []byte {
	t.Helper()
	data, err := hex.DecodeString(v.EXI)
	if err != nil {
		t.Fatal(err)
	}
	set := exi.ISO20Common()
	if v.Root.Name == "SalesTariff" {
		set = exi.ISO2()
	}
	el, err := set.Decode(exi.Fragment, data)
	if err != nil {
		t.Fatal(err)
	}
	content := v.Content[v.Root.Name]
	if id, _ := content["@Id"].(string); !numbered.MatchString(id) {
		content["@Id"], el.Attributes = "id7", []exi.Attribute{{Name: "Id", Value: "id7"}}
	}
	if at, ok := content["TimeAnchor"].(json.Number); ok && len(at) > 11 {
		content["TimeAnchor"], el.Child("TimeAnchor").Value = json.Number("1795694400"), int64(1795694400)
	}
	inWatt(content)
	elementInWatt(&el)
	if data, err = set.Encode(exi.Fragment, el); err != nil {
		t.Fatal(err)
	}
	return data
}

func inWatt(v any) {
	switch v := v.(type) {
	case map[string]any:
		for local, inner := range v {
			if start, ok := inner.(map[string]any); ok && local == "startValue" {
				start["Unit"], start["Multiplier"] = "W", json.Number("0")
			}
			inWatt(inner)
		}
	case []any:
		for _, inner := range v {
			inWatt(inner)
		}
	}
}

func elementInWatt(el *exi.Element) {
	if el.Local == "startValue" {
		el.Child("Unit").Value, el.Child("Multiplier").Value = "W", int64(0)
	}
	for i := range el.Children {
		elementInWatt(&el.Children[i])
	}
}

func profile(schedules ...map[string]any) []byte {
	b, err := json.Marshal(map[string]any{"id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Absolute", "chargingSchedule": schedules})
	if err != nil {
		panic(err)
	}
	return b
}

func schedule(member string, content any) map[string]any {
	return map[string]any{"id": 7, "chargingRateUnit": "W", "chargingSchedulePeriod": []any{map[string]any{"startPeriod": 0, "limit": json.Number("11000.50")}}, member: content}
}

var numbered = regexp.MustCompile(`^(.*[^0-9])([0-9]+)$`)

// Digests are of the bytes that two independent encoders write.
func TestDigestsOfVectors(t *testing.T) {
	t.Parallel()
	found, exact := map[string]int{}, 0
	for _, v := range vectors(t) {
		want := sayable(t, &v)
		content := v.Content[v.Root.Name]
		id, _ := content["@Id"].(string)
		parts := numbered.FindStringSubmatch(id)
		s := schedule(strings.ToLower(v.Root.Name[:1])+v.Root.Name[1:], inOCPP(v.Root.Name, content))
		s["signatureId"] = json.Number(parts[2])
		p, err := tariff.Read(profile(s), parts[1])
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		sum := sha512.Sum512(want)
		digest := sum[:]
		if v.Root.Name == "SalesTariff" {
			sum := sha256.Sum256(want)
			digest = sum[:]
		}
		if !bytes.Equal(p.Schedules[0].EXI, want) || !bytes.Equal(p.Schedules[0].Digest, digest) {
			t.Errorf("%s: %x", v.Name, p.Schedules[0].EXI)
		}
		found[v.Root.Name]++
		if hex.EncodeToString(want) == v.EXI {
			exact++
		}
	}
	if exact == 0 {
		t.Error("no vector was taken as it is")
	}
	for _, name := range []string{"SalesTariff", "AbsolutePriceSchedule", "PriceLevelSchedule"} {
		if found[name] == 0 {
			t.Errorf("no vector of %s", name)
		}
	}
}

const absolute = `{"timeAnchor":"2026-11-26T12:00:00.000Z","priceScheduleID":3,"currency":"EUR","language":"nl","priceAlgorithm":"urn:iso:std:iso:15118:-20:PriceAlgorithm:1-Power",` +
	`"priceRuleStacks":[{"duration":3600,"priceRule":[{"energyFee":{"exponent":-3,"value":250},"powerRangeStart":{"exponent":0,"value":0}}]}],"customData":{"vendorId":"x"}}`

const levels = `{"timeAnchor":"2026-11-26T13:00:00+01:00","priceScheduleId":4,"numberOfPriceLevels":2,"priceLevelScheduleEntries":[{"duration":900,"priceLevel":1}]}`

const sales = `{"id":1,"salesTariffEntry":[{"relativeTimeInterval":{"start":0},"ePriceLevel":1,"consumptionCost":[{"startValue":50000,"cost":[{"costKind":"RelativePricePercentage","amount":80}]}]}]}`

func raw(member, content string) map[string]any { return schedule(member, json.RawMessage(content)) }

// A car verifies what a station makes of a signed profile: digests and signature as
// they stand in it. The verifier shares nothing with the signer but the codec.
func TestSigned(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		curve     elliptic.Curve
		schedules []map[string]any
		ids       []string
	}{
		{"-2", elliptic.P256(), []map[string]any{raw("salesTariff", sales)}, []string{"id1"}},
		{"-20", elliptic.P521(), []map[string]any{raw("absolutePriceSchedule", absolute), schedule("id", 7), raw("priceLevelSchedule", levels)}, []string{"id1", "id2"}},
	} {
		key, err := ecdsa.GenerateKey(test.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		// A signature that is there already is of other digests.
		in := strings.Replace(string(profile(test.schedules...)), `"stackLevel":0`, `"stackLevel":0,"priceScheduleSignature":"AAAA"`, 1)
		p, err := tariff.Read([]byte(in), "")
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		out, err := p.Sign(rand.Reader, key)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if err := verify(t, out, test.ids, &key.PublicKey); !err {
			t.Errorf("%s doesn't verify: %s", test.name, out)
		}
		if again, err := tariff.Read(out, ""); err != nil || !slices.EqualFunc(again.Schedules, p.Schedules, func(a, b tariff.Schedule) bool {
			return a.SignatureID == b.SignatureID && bytes.Equal(a.EXI, b.EXI)
		}) {
			t.Errorf("%s: what was signed reads differently: %v", test.name, err)
		}
		// All else is as it came.
		if diff := cmp.Diff(without(t, profile(test.schedules...)), without(t, out)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if !strings.Contains(string(out), `"limit":11000.50`) {
			t.Errorf("%s: a number was rewritten: %s", test.name, out)
		}
	}
}

// verify is the car's side.
func verify(t *testing.T, profile []byte, ids []string, key *ecdsa.PublicKey) bool {
	t.Helper()
	var in struct {
		PriceScheduleSignature []byte
		ChargingSchedule       []struct {
			DigestValue []byte
			SignatureID *int
		}
	}
	if err := json.Unmarshal(profile, &in); err != nil {
		t.Fatal(err)
	}
	name, sum := "sha512", func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
	if key.Curve == elliptic.P256() {
		name, sum = "sha256", func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	}
	el := func(local, algorithm string, children ...exi.Element) exi.Element {
		e := exi.New(exi.NamespaceSignature, local)
		e.Children = children
		if algorithm != "" {
			e.Attributes = []exi.Attribute{{Name: "Algorithm", Value: algorithm}}
		}
		return e
	}
	info := el("SignedInfo", "", el("CanonicalizationMethod", "http://www.w3.org/TR/canonical-exi/"),
		el("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-"+name))
	for _, s := range in.ChargingSchedule {
		if s.DigestValue == nil {
			continue
		}
		value := el("DigestValue", "")
		value.Value = s.DigestValue
		reference := el("Reference", "", el("Transforms", "", el("Transform", "http://www.w3.org/TR/canonical-exi/")), el("DigestMethod", "http://www.w3.org/2001/04/xmlenc#"+name), value)
		reference.Attributes = []exi.Attribute{{Name: "URI", Value: "#" + ids[len(info.Children)-2]}}
		info.Children = append(info.Children, reference)
	}
	signed, err := exi.Signature().Encode(exi.Fragment, info)
	if err != nil {
		t.Fatal(err)
	}
	half := len(in.PriceScheduleSignature) / 2
	return len(info.Children) == 2+len(ids) && half == (key.Params().BitSize+7)/8 &&
		ecdsa.Verify(key, sum(signed), new(big.Int).SetBytes(in.PriceScheduleSignature[:half]), new(big.Int).SetBytes(in.PriceScheduleSignature[half:]))
}

// without takes what signing adds out of a profile.
func without(t *testing.T, profile []byte) any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(profile))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	delete(v, "priceScheduleSignature")
	for _, s := range v["chargingSchedule"].([]any) {
		delete(s.(map[string]any), "digestValue")
		delete(s.(map[string]any), "signatureId")
	}
	return v
}

// What EXI doesn't say exactly as the profile does isn't digested.
func TestRefused(t *testing.T) {
	t.Parallel()
	swap := func(old, by string) string {
		if !strings.Contains(absolute, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(absolute, old, by, 1)
	}
	start := func(number string) string { return strings.Replace(sales, "50000", number, 1) }
	same := raw("absolutePriceSchedule", absolute)
	same["signatureId"] = 1
	both := raw("absolutePriceSchedule", absolute)
	both["priceLevelSchedule"] = json.RawMessage(levels)
	for name, test := range map[string]struct {
		schedules []map[string]any
		want      string
	}{
		"no tariff":               {[]map[string]any{schedule("id", 7)}, "no tariff"},
		"none at all":             {nil, "array of 1 to 3"},
		"two tariffs":             {[]map[string]any{both}, "beside"},
		"two editions":            {[]map[string]any{raw("absolutePriceSchedule", absolute), raw("salesTariff", sales)}, "mixes"},
		"one id twice":            {[]map[string]any{same, same}, "of its own"},
		"four":                    {[]map[string]any{same, same, same, same}, "array of 1 to 3"},
		"a member EXI hasn't":     {[]map[string]any{raw("absolutePriceSchedule", swap(`"currency"`, `"discount":1,"currency"`))}, `"discount" isn't carried`},
		"a member in two cases":   {[]map[string]any{raw("absolutePriceSchedule", swap(`"currency"`, `"Currency":"USD","currency"`))}, "there twice"},
		"between two seconds":     {[]map[string]any{raw("absolutePriceSchedule", swap(".000Z", ".500Z"))}, "whole seconds"},
		"before 1970":             {[]map[string]any{raw("absolutePriceSchedule", swap("2026-", "1926-"))}, "since 1970"},
		"too long for EXI":        {[]map[string]any{raw("absolutePriceSchedule", swap(`"nl"`, `"nl-BE"`))}, "Language"},
		"a fraction":              {[]map[string]any{raw("absolutePriceSchedule", swap(`"value":250`, `"value":250.5`))}, "whole number"},
		"too large for EXI":       {[]map[string]any{raw("absolutePriceSchedule", swap(`"value":250`, `"value":40000`))}, "Value"},
		"half a surrogate":        {[]map[string]any{raw("absolutePriceSchedule", swap(`"EUR"`, `"\ud800"`))}, "Unicode"},
		"null":                    {[]map[string]any{raw("absolutePriceSchedule", swap(`"EUR"`, `null`))}, "text is wanted"},
		"a mandatory one missing": {[]map[string]any{raw("priceLevelSchedule", strings.Replace(levels, `"numberOfPriceLevels":2,`, "", 1))}, "NumberOfPriceLevels"},
		"no power of ten":         {[]map[string]any{raw("salesTariff", start("50001"))}, "power of ten"},
		"an exponent":             {[]map[string]any{raw("salesTariff", start("5e4"))}, "without exponent"},
		"an unknown kind of cost": {[]map[string]any{raw("salesTariff", strings.Replace(sales, "RelativePricePercentage", "Price", 1))}, "costKind"},
	} {
		if _, err := tariff.Read(profile(test.schedules...), ""); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := tariff.Read(profile(raw("salesTariff", sales)), "")
	if err != nil || p.Protocol != message.ISO2 {
		t.Fatalf("%+v, %v", p, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Sign(rand.Reader, key); err == nil {
		t.Error("a tariff of ISO 15118-2 was signed with a key of -20")
	}
}

// startValue: the multiplier closest to none.
func TestStartValue(t *testing.T) {
	t.Parallel()
	for number, want := range map[string][2]int64{"0": {0, 0}, "11000": {0, 11000}, "50000": {1, 5000}, "32768000": {3, 32768}, "-5": {0, -5}, "0.5": {-1, 5}, "1.250": {-2, 125}} {
		p, err := tariff.Read(profile(raw("salesTariff", strings.Replace(sales, "50000", number, 1))), "")
		if want[1] > 32767 {
			if err == nil {
				t.Errorf("%s was taken", number)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", number, err)
			continue
		}
		v := p.Schedules[0].Element.Find("SalesTariffEntry", "ConsumptionCost", "startValue")
		if got := [2]int64{v.Child("Multiplier").Value.(int64), v.Child("Value").Value.(int64)}; got != want || v.Child("Unit").Value != "W" {
			t.Errorf("%s became %v %v", number, got, v.Child("Unit").Value)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{`{"chargingSchedule":[{"absolutePriceSchedule":` + absolute + `}]}`, `{"chargingSchedule":[{"signatureId":0,"priceLevelSchedule":` + levels + `}]}`, `{"chargingSchedule":[{"salesTariff":` + sales + `}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := tariff.Read(data, "")
		if err != nil {
			return
		}
		out, err := p.Write("AAAA")
		if err != nil {
			t.Fatal(err)
		}
		again, err := tariff.Read(out, "")
		if err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
		for i, s := range p.Schedules {
			if !bytes.Equal(s.EXI, again.Schedules[i].EXI) {
				t.Fatal("what was written reads differently")
			}
		}
	})
}
