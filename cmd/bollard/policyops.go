package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/ledger"
	"bollard/ocpp"
	"bollard/policy"
	"bollard/warden"
)

// policyState is what the rules in force are.
type policyState struct {
	Rules    []policy.Rule   `json:"rules"`
	Findings []*policy.Error `json:"findings"`
	Live     bool            `json:"live"` // a server has them in force
}

type ruleRef struct {
	Rule string `json:"rule"`
}

// promotion is what became of a rule.
type promotion struct {
	Rule       policy.Rule  `json:"rule"`
	Replayed   *policy.Hits `json:"replayed,omitempty"` // none: no traffic was recorded
	Messages   int          `json:"messages,omitempty"` // of the recording
	ShadowHits int          `json:"shadow_hits"`        // since the server started
}

type heldMessages struct {
	Held []warden.Held `json:"held"`
}

type heldRef struct {
	ID string `json:"id"`
}

type explainEntries struct {
	Station string `json:"station,omitempty"`
	Entry   uint64 `json:"entry,omitempty"`
	Limit   int    `json:"limit,omitempty"`
}

// policyEntry is a decision as the ledger has it, with the rule as it stands now.
type policyEntry struct {
	Seq       uint64       `json:"seq"`
	At        time.Time    `json:"at"`
	Station   string       `json:"station"`
	Decision  string       `json:"decision"` // refused, held, rewritten
	Action    string       `json:"action"`
	Direction string       `json:"direction"`
	RuleName  string       `json:"rule_name"`
	Reason    string       `json:"reason"`
	Count     string       `json:"count"`
	Rule      *policy.Rule `json:"rule,omitempty"` // none: there is no such rule any more
}

type policyEntries struct {
	Entries []policyEntry `json:"entries"`
}

// policing are the operations about rules. warden and reconsider are nil without
// a server.
type policing struct {
	app        *app
	warden     *warden.Warden
	reconsider func()
}

func (p *policing) register(r *admin.Registry) *admin.Registry {
	admin.Register(r, "policy.show", p.show)
	admin.Register(r, "policy.reload", p.reload)
	admin.Register(r, "policy.promote", p.promote)
	admin.Register(r, "policy.demote", p.demote)
	admin.Register(r, "policy.held", p.held)
	admin.Register(r, "policy.release", p.release)
	admin.Register(r, "policy.entries", p.entries)
	admin.Register(r, "policy.anchors", p.trusted)
	return r
}

// rules in force, or those a server would take.
func (p *policing) rules() (*policy.Set, error) {
	if p.warden != nil {
		return p.warden.Rules(), nil
	}
	return loadPolicy(p.app.dir)
}

func (p *policing) state(set *policy.Set) policyState {
	return policyState{Rules: set.Rules(), Findings: append([]*policy.Error{}, set.Findings()...), Live: p.warden != nil}
}

func (p *policing) show(context.Context, admin.None) (policyState, error) {
	set, err := p.rules()
	if err != nil {
		return policyState{}, err
	}
	return p.state(set), nil
}

// use records a decision about the rules, then writes it down, then puts the set
// in force: what a restart would find is never without its record.
func (p *policing) use(ctx context.Context, set *policy.Set, e ledger.Event, write func() error) error {
	if err := p.app.store.Record(ctx, e); err != nil {
		return err
	}
	if write != nil {
		if err := write(); err != nil {
			return admin.Failedf("give the command again once the cause is mended", "%s is in the ledger, and isn't in force: %w", e.Kind, err)
		}
	}
	if p.warden != nil {
		p.warden.Use(set)
		p.reconsider()
	}
	return nil
}

func (p *policing) reload(ctx context.Context, _ admin.None) (policyState, error) {
	if p.warden == nil {
		return policyState{}, admin.Refusedf("`bollard serve` takes the rules as it starts; `bollard policy check` looks at them", "no server runs")
	}
	set, digest, err := readPolicy(p.app.dir)
	if err != nil {
		return policyState{}, err
	}
	err = p.use(ctx, set, ledger.Event{Kind: "policy.reloaded", Subject: "policy", Actor: admin.Actor(ctx),
		Data: map[string]string{"rules": strconv.Itoa(len(set.Rules())), "sha256": digest}}, nil)
	return p.state(set), err
}

// promote turns a rule on. What it would have done to the recorded traffic is
// counted first and recorded with the decision.
func (p *policing) promote(ctx context.Context, in ruleRef) (promotion, error) {
	before, err := p.rules()
	if err != nil {
		return promotion{}, err
	}
	rule, known := before.Rule(in.Rule)
	switch {
	case !known:
		return promotion{}, admin.Refusedf("`bollard policy list` shows the rules", "there is no rule %q", in.Rule)
	case rule.Mode == "enforce":
		return promotion{}, admin.Refusedf("", "rule %s is in force already", rule.Name)
	}
	set, write, err := setPromoted(p.app.dir, func(names []string) []string {
		if slices.Contains(names, in.Rule) {
			return names
		}
		return append(names, in.Rule)
	})
	if err != nil {
		return promotion{}, err
	}
	out := promotion{}
	out.Rule, _ = set.Rule(in.Rule)
	data := map[string]string{"then": rule.Then, "reason": rule.Reason}
	report, err := p.replayed(ctx, before)
	if err != nil {
		return promotion{}, err
	}
	if report.Messages > 0 {
		i := slices.IndexFunc(report.Rules, func(h policy.Hits) bool { return h.Rule == in.Rule })
		out.Replayed, out.Messages = &report.Rules[i], report.Messages
		data["replayed"], data["messages"] = strconv.Itoa(out.Replayed.Hits), strconv.Itoa(out.Messages)
	}
	if p.warden != nil {
		out.ShadowHits = p.warden.ShadowHits(in.Rule)
		data["shadow_hits"] = strconv.Itoa(out.ShadowHits)
	}
	return out, p.use(ctx, set, ledger.Event{Kind: "policy.promoted", Subject: in.Rule, Actor: admin.Actor(ctx), Data: data}, write)
}

// replayed runs the recorded traffic, if any, against a set.
func (p *policing) replayed(ctx context.Context, set *policy.Set) (policy.Report, error) {
	known, err := p.app.anchors(ctx)
	if err != nil {
		return policy.Report{}, err
	}
	r := policy.NewReplay(set, withAnchors(known))
	for _, name := range recordedNames() {
		f, err := os.Open(filepath.Join(p.app.dir, policyName, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return policy.Report{}, err
		}
		err = replayLines(r, name, f)
		f.Close()
		if err != nil {
			return policy.Report{}, err
		}
	}
	return r.Report(), nil
}

func (p *policing) demote(ctx context.Context, in ruleRef) (promotion, error) {
	names, _, err := promoted(p.app.dir)
	if err != nil {
		return promotion{}, err
	}
	if !slices.Contains(names, in.Rule) {
		return promotion{}, admin.Refusedf("only rules that were promoted can be; one of your own files has mode: to change, and a promise can't be taken back",
			"rule %q was not promoted", in.Rule)
	}
	set, write, err := setPromoted(p.app.dir, func(names []string) []string {
		return slices.DeleteFunc(names, func(n string) bool { return n == in.Rule })
	})
	if err != nil {
		return promotion{}, err
	}
	out := promotion{}
	out.Rule, _ = set.Rule(in.Rule)
	return out, p.use(ctx, set, ledger.Event{Kind: "policy.demoted", Subject: in.Rule, Actor: admin.Actor(ctx)}, write)
}

func (p *policing) held(context.Context, admin.None) (heldMessages, error) {
	if p.warden == nil {
		return heldMessages{Held: []warden.Held{}}, nil
	}
	return heldMessages{p.warden.Held()}, nil
}

// release records the decision before it takes effect.
func (p *policing) release(ctx context.Context, in heldRef) (warden.Held, error) {
	if p.warden == nil {
		return warden.Held{}, admin.Refusedf("a restart forgets what was held; its sender may try again", "no server runs")
	}
	list := p.warden.Held()
	i := slices.IndexFunc(list, func(h warden.Held) bool { return h.ID == in.ID })
	if i < 0 {
		return warden.Held{}, admin.Refusedf("`bollard policy held` shows what is; after a day or a restart it is forgotten", "%w: %.20q", warden.ErrNotHeld, in.ID)
	}
	err := p.app.store.Record(ctx, ledger.Event{Kind: "policy.released", Subject: list[i].Station, Actor: admin.Actor(ctx),
		Data: map[string]string{"rule": list[i].Rule, "id": in.ID}})
	if err != nil {
		return warden.Held{}, err
	}
	return p.warden.Release(in.ID)
}

// entries finds the decisions about a station, newest first, or one entry.
func (p *policing) entries(ctx context.Context, in explainEntries) (policyEntries, error) {
	set, err := p.rules()
	if err != nil {
		return policyEntries{}, err
	}
	if in.Station != "" {
		id, err := ocpp.ParseIdentity(in.Station)
		if err != nil {
			return policyEntries{}, admin.Usagef("", "identity %.64q: %w", in.Station, err)
		}
		in.Station = id.Key()
	}
	limit := min(max(in.Limit, 1), 1000)
	list := []policyEntry{}
	for e, err := range p.app.store.Entries(ctx, max(in.Entry, 1)) {
		if err != nil {
			return policyEntries{}, err
		}
		if in.Entry != 0 && e.Seq != in.Entry {
			break
		}
		decision, ok := decisionKinds()[e.Kind]
		if !ok || in.Station != "" && e.Subject != in.Station {
			continue
		}
		entry := policyEntry{Seq: e.Seq, At: e.Time, Station: e.Subject, Decision: decision, Action: e.Data["action"],
			Direction: e.Data["direction"], RuleName: e.Data["rule"], Reason: e.Data["reason"], Count: e.Data["count"]}
		if rule, ok := set.Rule(entry.RuleName); ok {
			entry.Rule = &rule
		}
		if list = append(list, entry); len(list) > limit {
			list = list[1:]
		}
	}
	if in.Entry != 0 && len(list) == 0 {
		return policyEntries{}, admin.Refusedf("`bollard policy explain --station ID` shows a station's", "ledger entry %d is no decision of policy", in.Entry)
	}
	slices.Reverse(list)
	return policyEntries{list}, nil
}

func decisionKinds() map[string]string {
	return map[string]string{"policy.refused": "refused", "policy.held": "held", "policy.rewritten": "rewritten"}
}

type trustedKeys struct {
	Anchors map[string][]string `json:"anchors"`
}

func (p *policing) trusted(ctx context.Context, _ admin.None) (trustedKeys, error) {
	known, err := p.app.anchors(ctx)
	return trustedKeys{known}, err
}

// anchors are the key hashes of the roots a back end may have installed, by the
// certificateType that stations are told: those of `ca trust`, and Bollard's own.
func (a *app) anchors(ctx context.Context) (map[string][]string, error) {
	known := map[string][]string{}
	for use, kind := range map[string]string{
		"v2g": "V2GRootCertificate", "mo": "MORootCertificate", "oem": "OEMRootCertificate", "manufacturer": "ManufacturerRootCertificate",
	} {
		list, err := a.authority.Anchors(ctx, use)
		if err != nil {
			return nil, err
		}
		for _, root := range list {
			cert, err := x509.ParseCertificate(root.DER)
			if err != nil {
				return nil, fmt.Errorf("couldn't read trusted root %s: %w", root.Hash, err)
			}
			known[kind] = append(known[kind], policy.KeyHash(cert))
		}
	}
	for kind, types := range map[ca.Kind][]string{
		ca.KindManufacturer: {"ManufacturerRootCertificate"}, ca.KindCSMS: {"CSMSRootCertificate", "CentralSystemRootCertificate"},
	} {
		for _, root := range a.authority.Roots(kind) {
			for _, t := range types {
				known[t] = append(known[t], policy.KeyHash(root))
			}
		}
	}
	return known, nil
}
