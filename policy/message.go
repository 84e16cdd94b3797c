package policy

import (
	"encoding/json"
	"fmt"
	"time"

	"bollard/ocpp"
)

// Message is an Input in writing: in test tables, on the standard input of
// `policy explain`, and in recordings.
type Message struct {
	At        string `yaml:"at" json:"at,omitempty" number:"ok"` // RFC 3339
	Station   string `yaml:"station" json:"station,omitempty" number:"ok"`
	Serial    string `yaml:"serial" json:"serial,omitempty" number:"ok"`
	Vendor    string `yaml:"vendor" json:"vendor,omitempty"`
	Model     string `yaml:"model" json:"model,omitempty" number:"ok"`
	Profile   int    `yaml:"profile" json:"profile,omitempty"`
	Group     string `yaml:"group" json:"group,omitempty" number:"ok"`
	Backend   string `yaml:"backend" json:"backend,omitempty"`
	Security  string `yaml:"security" json:"security,omitempty"` // bollard if left out
	Boot      string `yaml:"boot" json:"boot,omitempty"`         // none if left out
	Owner     string `yaml:"owner" json:"owner,omitempty"`       // transaction.owner; unknown if left out
	Version   string `yaml:"version" json:"version" number:"ok"`
	Direction string `yaml:"direction" json:"direction"`
	Action    string `yaml:"action" json:"action"`
	Signed    bool   `yaml:"signed" json:"signed,omitempty"`
	Payload   Text   `yaml:"payload" json:"payload,omitempty" lines:"ok"`
}

// Text is JSON: as text in YAML, as it is or as text in JSON.
type Text string

// UnmarshalJSON takes a string's text and anything else as it stands.
func (t *Text) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*t = Text(text)
		return nil
	}
	*t = Text(raw)
	return nil
}

// MarshalJSON is the JSON itself.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("{}"), nil
	}
	return []byte(t), nil
}

// Input is the message as it would come; error says what is missing from it.
func (m *Message) Input() (Input, error) {
	v, ok := ocpp.ParseSubprotocol("ocpp" + m.Version)
	if !ok {
		return Input{}, fmt.Errorf("version %.20q isn't 1.6, 2.0.1 or 2.1", m.Version)
	}
	in := Input{
		Version: v, Action: m.Action, Signed: m.Signed, Payload: []byte(m.Payload),
		Station: Station{Identity: m.Station, Serial: m.Serial, Vendor: m.Vendor, Model: m.Model, Profile: m.Profile},
		Backend: m.Backend, BackendSecurity: m.Security, Boot: Boot(m.Boot),
		Owner: func(string) Owner { return Owner(m.Owner) },
		Group: func() string { return m.Group },
	}
	if len(in.Payload) == 0 {
		in.Payload = []byte("{}")
	}
	if in.BackendSecurity == "" {
		in.BackendSecurity = "bollard"
	}
	if in.Boot == "" {
		in.Boot = BootNone
	}
	if m.Owner == "" {
		in.Owner = nil
	}
	switch m.Direction {
	case "from-station":
		in.Direction = ocpp.FromStation
	case "from-csms":
		in.Direction = ocpp.FromCSMS
	default:
		return Input{}, fmt.Errorf("direction %.20q isn't from-station or from-csms", m.Direction)
	}
	if m.Action == "" {
		return Input{}, fmt.Errorf("action is missing")
	}
	if m.At != "" {
		at, err := time.Parse(time.RFC3339, m.At)
		if err != nil {
			return Input{}, fmt.Errorf("at %.40q isn't a time such as 2026-01-31T12:00:00Z", m.At)
		}
		in.Now = at
	}
	return in, nil
}

// Step is one rule's say in a decision.
type Step struct {
	Rule    string `json:"rule"`
	Matched bool   `json:"matched"`
	Fault   string `json:"fault,omitempty"` // why its condition couldn't be evaluated
}

// Explain is Decide with each rule that was asked, in order.
func (s *Set) Explain(in Input) (Decision, []Step) {
	var steps []Step
	j := judgement{set: s, in: &in, trace: func(r *rule, matched bool, err error) {
		step := Step{Rule: r.name, Matched: matched}
		if err != nil {
			step.Fault = err.Error()
		}
		steps = append(steps, step)
	}}
	j.run()
	return j.d, steps
}
