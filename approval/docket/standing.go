package docket

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is where a matter stands.
type State string

// The states.
const (
	Waiting   State = "waiting" // for signatures
	Granted   State = "granted" // and can be used
	Used      State = "used"
	Withdrawn State = "withdrawn"
	Void      State = "void" // expired, or something was changed
)

// Standing is a matter with its state.
type Standing struct {
	Matter
	State State    `json:"state"`
	By    []string `json:"by"`             // whose signatures count
	Note  string   `json:"note,omitempty"` // what is missing, or why it is void
}

// List returns all matters, newest first.
func (d *Docket) List(ctx context.Context) ([]Standing, error) {
	list, err := d.cfg.Store.Matters(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Standing, len(list))
	for i := range list {
		out[i] = d.Standing(ctx, list[i])
	}
	return out, nil
}

// Standing says where a matter stands now.
func (d *Docket) Standing(ctx context.Context, m Matter) Standing {
	out := Standing{Matter: m, State: Void, By: []string{}}
	for _, s := range m.Signatures {
		out.By = append(out.By, s.By)
	}
	switch {
	case !m.UsedAt.IsZero():
		out.State = Used
		return out
	case !m.WithdrawnAt.IsZero():
		out.State = Withdrawn
		return out
	}
	if out.Note = d.closed(ctx, &m); out.Note != "" {
		out.By = []string{}
		return out
	}
	names, err := d.judge(&m, m.Subject)
	out.By = append([]string{}, names...)
	if out.State = Granted; err != nil {
		out.State, out.Note = Waiting, err.Error()
	}
	return out
}

// closed says why a matter can't come to anything any more, or "".
func (d *Docket) closed(ctx context.Context, m *Matter) string {
	switch now := d.cfg.Clock(); {
	case !m.UsedAt.IsZero():
		return "it was used"
	case !m.WithdrawnAt.IsZero():
		return "it was withdrawn"
	case !now.Before(m.Expires):
		return "it expired at " + m.Expires.UTC().Format(time.RFC3339)
	}
	subject, ok := d.cfg.Actions[m.Action]
	if !ok {
		return "there is no such action any more"
	}
	_, name, _ := strings.Cut(m.Scope, ":")
	scope, text, err := subject(ctx, name)
	switch {
	case err != nil:
		return err.Error()
	case scope != m.Scope || text != m.Subject:
		return "what it is about was changed"
	}
	if q, people, err := d.rules.Load().of(m.Action); err != nil || encoded(q) != encoded(m.Quorum) || encoded(people) != encoded(m.People) {
		return "who approves it was changed"
	}
	return ""
}

// Find looks a matter up by its nonce or the beginning of it.
func (d *Docket) Find(ctx context.Context, id string) (Matter, error) {
	list, err := d.cfg.Store.Matters(ctx)
	if err != nil {
		return Matter{}, err
	}
	list = slices.DeleteFunc(list, func(m Matter) bool { return id == "" || !strings.HasPrefix(m.Nonce, strings.ToLower(id)) })
	switch len(list) {
	case 0:
		return Matter{}, fmt.Errorf("approval %.40q: %w", id, ErrUnknown)
	case 1:
		return list[0], nil
	}
	return Matter{}, fmt.Errorf("approval %.40q: %d begin so, give more of it", id, len(list))
}
