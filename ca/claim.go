package ca

import (
	"context"
	"fmt"
	"slices"

	"bollard/ca/quality"
)

// claim is a key on its way into a record.
type claim struct {
	owner   string
	holders int
}

// owner of an order's key while that is claimed. Who isn't a station is told apart by name.
func (o *Order) owner(profile Profile) string {
	if o.Station == "" {
		return profile.Role + "\x00\x00" + o.Requester
	}
	return profile.Role + "\x00" + o.Station
}

// claimKey refuses keys that are on a block list or belong to a CA, another
// station or another purpose, and holds the key until releaseKey: two stations that come with one
// key at the same moment can't both find it free.
func (a *Authority) claimKey(ctx context.Context, order Order, profile Profile) error {
	if err := quality.Check(order.Key.public, quality.Policy{P224: order.P224, Ed448: true, Blocked: a.cfg.Blocked}); err != nil {
		return err
	}
	return a.claimJudged(ctx, order, profile)
}

// checkKey refuses a key that a profile doesn't allow, or that claimKey does, and holds none.
func (a *Authority) checkKey(ctx context.Context, order Order) error {
	if class := order.Key.Class(); !slices.Contains(a.KeyClasses(order.Profile), class) {
		return fmt.Errorf("profile %s doesn't allow %s keys: %w", order.Profile, class, ErrKeyClass)
	}
	if err := a.claimKey(ctx, order, profiles[order.Profile]); err != nil {
		return err
	}
	a.releaseKey(order.Key.Hash())
	return nil
}

// claimJudged holds a key that is judged by what is on record for it.
func (a *Authority) claimJudged(ctx context.Context, order Order, profile Profile) error {
	hash := order.Key.Hash()
	if err := a.hold(hash, order.owner(profile)); err != nil {
		return err
	}
	records, err := a.cfg.Store.CertificatesByKey(ctx, hash)
	if err != nil {
		a.releaseKey(hash)
		return fmt.Errorf("couldn't check whether the key is in use: %w", err)
	}
	if err := judge(records, order, profile); err != nil {
		a.releaseKey(hash)
		return err
	}
	return nil
}

func judge(records []Record, order Order, profile Profile) error {
	if order.Judge != nil {
		if err := order.Judge(records); err != nil {
			return err
		}
	}
	for _, r := range records {
		if err := clash(r, order, profile); err != nil {
			return err
		}
	}
	return nil
}

func (a *Authority) hold(hash, owner string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, taken := a.claimed[hash]
	switch {
	case !taken:
		a.claimed[hash] = &claim{owner: owner, holders: 1}
	case c.owner != owner:
		return fmt.Errorf("%w: another request with it is under way", ErrKeyInUse)
	default:
		c.holders++
	}
	return nil
}

func (a *Authority) releaseKey(hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.claimed[hash]; c.holders > 1 {
		c.holders--
	} else {
		delete(a.claimed, hash)
	}
}

func clash(r Record, order Order, profile Profile) error {
	switch {
	case !r.External && profiles[r.Profile].Role != profile.Role:
		return fmt.Errorf("%w: it is a %s key", ErrKeyInUse, profiles[r.Profile].Role)
	case r.Station != order.Station:
		return fmt.Errorf("%w: it belongs to station %q", ErrKeyInUse, r.Station)
	case r.State == StateRevoked && r.Reason == "keyCompromise":
		return fmt.Errorf("%w: certificate %s with it was revoked for keyCompromise", ErrKeyInUse, r.Serial)
	}
	return nil
}
