package docket

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/approval"
)

// Verify judges a kept matter by itself: who agreed to it, each at the time they
// signed. people, if not nil, are the ones whose keys are known elsewhere; with
// nil those that stand in the matter are believed.
func Verify(m *Matter, people []approval.Approver) ([]string, error) {
	if digest(m.Subject) != m.Digest {
		return nil, errors.New("the digest isn't that of the subject: it was changed")
	}
	if people == nil {
		people = m.People
	}
	if err := approval.Distinct(people); err != nil {
		return nil, err
	}
	if !m.UsedAt.IsZero() && !m.UsedAt.Before(m.Expires) {
		return nil, errors.New("it was used after it expired")
	}
	var names []string
	for _, s := range m.Signatures {
		if s.At.Before(m.AskedAt) || !m.UsedAt.IsZero() && s.At.Truncate(time.Millisecond).After(m.UsedAt) {
			return names, fmt.Errorf("%.80s signed before it was asked for or after it was used", s.By)
		}
		one := approval.Quorum{Needed: 1, Of: m.Quorum.Of}
		signed, err := one.Check(&m.Request, [][]byte{s.Text}, people, func(string) bool { return false }, s.At)
		if err != nil {
			return names, err
		}
		if !slices.Contains(names, signed[0]) {
			names = append(names, signed[0])
		}
	}
	if m.Quorum.Needed < 1 || len(names) < m.Quorum.Needed {
		return names, fmt.Errorf("%s of %s has %d of %d approvals", m.Action, m.Scope, len(names), m.Quorum.Needed)
	}
	return names, nil
}
