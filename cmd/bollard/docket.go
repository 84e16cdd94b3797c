package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/fleet"
	"bollard/internal/config"
)

// openDocket knows who approves what.
func (a *app) openDocket() (*docket.Docket, error) {
	people, err := approvers(a.dir, a.cfg)
	if err != nil {
		return nil, err
	}
	cfg := docket.Config{Store: a.store, People: people, Quorums: map[string]approval.Quorum{}, Actions: a.approvable(), Clock: time.Now}
	for i, q := range a.cfg.Approvals {
		if cfg.Actions[q.Action] == nil {
			return nil, configFault(a.dir, fmt.Sprintf("approvals[%d].action", i), fmt.Errorf("there is no such action; there are %v", actionNames(cfg.Actions)))
		}
		cfg.Quorums[q.Action] = approval.Quorum{Needed: q.Needed, Of: q.Of}
	}
	return docket.New(cfg)
}

// approvable says what can be approved, and how it is put to people.
func (a *app) approvable() map[string]docket.Subject {
	return map[string]docket.Subject{
		fleet.ActionDowngrade: func(ctx context.Context, identity string) (string, string, error) {
			return a.fleet.Downgrade(ctx, identity)
		},
	}
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
