package policy

import (
	"encoding/json"
	"strings"
	"time"

	"bollard/ocpp"
)

// Record is an input as one line of a recording, without personal data: texts
// stay only in fields whose values OCPP lists, and what names people or secrets
// is masked whatever its type. mask turns a text into another that says nothing,
// always the same for the same text, so that rules that compare still can.
func (in *Input) Record(mask func(string) string) ([]byte, error) {
	m := Message{
		At: in.Now.UTC().Format(time.RFC3339Nano), Station: in.Station.Identity, Vendor: in.Station.Vendor, Model: in.Station.Model,
		Profile: in.Station.Profile, Backend: in.Backend, Security: in.BackendSecurity, Boot: string(in.Boot),
		Version: in.Version.String(), Direction: in.Direction.String(), Action: mask(in.Action), Signed: in.Signed,
	}
	if in.Group != nil {
		m.Group = in.Group()
	}
	if plainWord(in.Action) {
		m.Action = in.Action
	}
	tree, err := decode(in.Payload, nil)
	if err != nil {
		tree = map[string]any{} // what can't be read is refused anyway
	}
	redacted := redactTree(tree, mask)
	// A root is nobody's: rules about trust anchors can't do without it.
	if root, ok := tree["certificate"].(string); ok && in.Action == ocpp.ActionInstallCertificate {
		if cert := oneCertificate(root); cert != nil && cert.IsCA {
			redacted["certificate"] = root
		}
	}
	raw, err := encode(redacted)
	if err != nil {
		return nil, err
	}
	m.Payload = Text(raw)
	line, err := json.Marshal(&m)
	return append(line, '\n'), err
}

// personal are fields masked whatever they hold, in folded spelling.
var personal = words(`idtag parentidtag idtoken groupidtoken additionalidtoken additionalinfo emaid vin evccid password
	basicauthpassword authorizationkey iso15118certificatehashdata certificate15118ev customeridentifier customercertificate
	customdata techinfo data attributevalue exirequest exiresponse signeddata signedmetervalue publickey email phone vatnumber
	name1 address address1 address2 city postalcode company simserialnumber iccid imsi user value`)

// open are fields whose texts OCPP lists, or that name hardware or software.
var open = words(`action status type certificatetype attributetype attributestatus key name instance location remotelocation
	url vendorid messageid reason errorcode requestedmessage triggerreason eventtype messagetrigger ocppversion ocpptransport
	ocppinterface ocppcsmsurl securityprofile hashalgorithm logtype reporttype reportbase monitoringbase component variable
	availabilitystatus operationalstatus connectorstatus chargingprofilepurpose chargingprofilekind recurrencykind
	chargingrateunit measurand unit phase context format state updatetype resettype kind chargepointvendor chargepointmodel
	firmwareversion vendorname model retrievedatetime installdatetime timestamp starttime endtime validfrom validto
	serialnumber issuernamehash issuerkeyhash`)

func words(text string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(text) {
		set[w] = true
	}
	return set
}

// redactTree is the payload with masked texts.
func redactTree(tree map[string]any, mask func(string) string) map[string]any {
	out := make(map[string]any, len(tree))
	for key, value := range tree {
		folded := fold(key)
		if !plainWord(key) {
			key = mask(key)
		}
		out[key] = redactValue(folded, value, mask)
	}
	return out
}

func redactValue(field string, value any, mask func(string) string) any {
	switch v := value.(type) {
	case map[string]any:
		if personal[field] && field != "value" && field != "idtoken" {
			return map[string]any{}
		}
		return redactTree(v, mask)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = redactValue(field, v[i], mask)
		}
		return out
	case string:
		switch {
		case personal[field] || !open[field] || len(v) > 2000:
			return mask(v)
		case strings.Contains(v, "://") || strings.Contains(v, "@"):
			return bareURL(v)
		}
		return v
	case int64, float64:
		if personal[field] {
			return 0
		}
	}
	return value
}

// bareURL is a URL without user, password and query.
func bareURL(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	host, path, _ := strings.Cut(rest, "/")
	host = host[strings.LastIndexByte(host, '@')+1:]
	return scheme + "://" + host + "/" + strings.ReplaceAll(path, "@", "")
}

// plainWord is how the standards spell actions and fields.
func plainWord(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9' || i == 0) {
			return false
		}
	}
	return s != "" && len(s) <= 50
}

// Replay runs a recording against a set.
type Replay struct {
	set      *Set
	fill     func(*Input)
	counters *Counters
	report   Report
	hits     map[string]*Hits
}

// Hits of one rule in a recording.
type Hits struct {
	Rule   string  `json:"rule"`
	Mode   string  `json:"mode"`
	Then   string  `json:"then"`
	Hits   int     `json:"hits"`
	Share  float64 `json:"share"` // of all messages, 0 to 1
	Failed int     `json:"failed,omitempty"`
}

// Report of a replay.
type Report struct {
	Messages  int            `json:"messages"`
	From      string         `json:"from,omitempty"`
	To        string         `json:"to,omitempty"`
	Decisions map[string]int `json:"decisions"` // pass, refuse, hold, rewrite
	Rules     []Hits         `json:"rules"`
}

// NewReplay begins one. fill completes each input with what a recording doesn't
// hold; it may be nil.
func NewReplay(s *Set, fill func(*Input)) *Replay {
	return &Replay{set: s, fill: fill, counters: NewCounters(), hits: map[string]*Hits{}, report: Report{Decisions: map[string]int{}}}
}

// Add judges one line of a recording.
func (r *Replay) Add(line []byte) error {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	in, err := m.Input()
	if err != nil {
		return err
	}
	in.Counters = r.counters
	if r.fill != nil {
		r.fill(&in)
	}
	d := r.set.Decide(in)
	if r.report.Messages == 0 {
		r.report.From = m.At
	}
	r.report.Messages++
	r.report.To = m.At
	r.report.Decisions[d.Outcome()]++
	for _, rule := range append(append([]string{}, d.Rewrites...), d.Rule) {
		if rule != "" {
			r.hit(rule).Hits++
		}
	}
	for _, hit := range d.Shadow {
		h := r.hit(hit.Rule)
		h.Hits++
		if hit.Failed {
			h.Failed++
		}
	}
	return nil
}

func (r *Replay) hit(rule string) *Hits {
	if r.hits[rule] == nil {
		r.hits[rule] = &Hits{}
	}
	return r.hits[rule]
}

// Report counts so far, of every rule, in the order in which they judge.
func (r *Replay) Report() Report {
	out := r.report
	out.Rules = []Hits{}
	for _, rule := range r.set.Rules() {
		h := Hits{}
		if have := r.hits[rule.Name]; have != nil {
			h = *have
		}
		h.Rule, h.Mode, h.Then = rule.Name, rule.Mode, rule.Then
		if out.Messages > 0 {
			h.Share = float64(h.Hits) / float64(out.Messages)
		}
		out.Rules = append(out.Rules, h)
	}
	return out
}
