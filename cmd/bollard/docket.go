package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/firmware/catalogue"
	"bollard/fleet"
	"bollard/internal/config"
)

// openDocket knows who approves what.
func (a *app) openDocket() (*docket.Docket, error) {
	rules, err := a.approvalRules(a.cfg)
	if err != nil {
		return nil, err
	}
	return docket.New(docket.Config{Store: a.store, Rules: rules, Actions: a.approvable(), Clock: a.clock})
}

// approvalRules are those of a configuration: a server may read it anew.
func (a *app) approvalRules(cfg *config.File) (docket.Rules, error) {
	people, err := approvers(a.dir, cfg)
	if err != nil {
		return docket.Rules{}, err
	}
	rules, actions := docket.Rules{People: people, Quorums: map[string]approval.Quorum{}}, a.approvable()
	for _, action := range catalogue.Actions() {
		if action.Needed() > 0 {
			rules.Quorums[string(action)] = approval.Quorum{Needed: action.Needed()}
		}
	}
	for i, q := range cfg.Approvals {
		if actions[q.Action] == nil {
			return docket.Rules{}, configFault(a.dir, fmt.Sprintf("approvals[%d].action", i), fmt.Errorf("there is no such action; there are %v", actionNames(actions)))
		}
		if catalogue.Action(q.Action).Exception() && q.Needed < catalogue.LeastForException {
			return docket.Rules{}, configFault(a.dir, fmt.Sprintf("approvals[%d].needed", i), fmt.Errorf("an exception takes %d people at least", catalogue.LeastForException))
		}
		rules.Quorums[q.Action] = approval.Quorum{Needed: q.Needed, Of: q.Of, With: q.With}
	}
	return rules, nil
}

// approvable says what can be approved, and how it is put to people.
func (a *app) approvable() map[string]docket.Subject {
	subjects := map[string]docket.Subject{
		fleet.ActionDowngrade: func(ctx context.Context, identity string) (string, string, error) {
			return a.fleet.Downgrade(ctx, identity)
		},
	}
	for _, action := range catalogue.Actions() {
		subjects[string(action)] = func(ctx context.Context, name string) (string, string, error) {
			return a.releases.Asking(ctx, action, name)
		}
	}
	return subjects
}

// exceptedStation is what people read of a station before they make an exception for
// it: what runs on it, too, so that none outlasts what it was made for.
func (a *app) exceptedStation(ctx context.Context, key string) (string, error) {
	st, err := a.store.Station(ctx, key)
	if err != nil {
		return "", err
	}
	plan, err := a.store.Plan(ctx, key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("station: %q\nserial: %q\nmodel: %q %q %q\nruns: %q\n", st.Identity, st.Serial, st.Vendor, st.Model, st.Hardware, plan.Firmware), nil
}

func actionNames(actions map[string]docket.Subject) []string {
	names := []string{}
	for name := range actions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// approvers reads the people of a configuration; certificate files stand beside it.
func approvers(dir string, cfg *config.File) ([]approval.Approver, error) {
	var people []approval.Approver
	for i, a := range cfg.Approvers {
		key := fmt.Sprintf("approvers[%d]", i)
		p := approval.Approver{Name: a.Name}
		add := func(key string, k approval.Key, err error) error {
			if err != nil {
				return configFault(dir, key, err)
			}
			p.Keys = append(p.Keys, k)
			return nil
		}
		for j, line := range a.SSH {
			k, err := approval.ParseSSH([]byte(line))
			if err := add(fmt.Sprintf("%s.ssh[%d]", key, j), k, err); err != nil {
				return nil, err
			}
		}
		for j, name := range a.Certificates {
			var k approval.Key
			text, err := os.ReadFile(within(dir, name))
			if err == nil {
				k, err = approval.ParseX509(text)
			}
			if err := add(fmt.Sprintf("%s.certificates[%d]", key, j), k, err); err != nil {
				return nil, err
			}
		}
		if people = append(people, p); approval.Distinct(people) != nil {
			return nil, configFault(dir, key, approval.Distinct(people))
		}
	}
	return people, nil
}
