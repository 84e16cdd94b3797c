package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ledger"
)

// abandonTimeout bounds the writes by which a certificate without an answer is revoked.
const abandonTimeout = 30 * time.Second

// recover abandons what earlier runs have begun. What fails of it keeps nobody from
// starting: makeBundle tries again before it makes another certificate.
func (s *Service) recover(ctx context.Context) error {
	list, err := s.store.Begun(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		if err := s.abandon(ctx, "bollard", list[i].ID); err != nil {
			s.log.Error("couldn't end what an earlier run began for a contract", "contract", list[i].ID, "err", err)
		}
	}
	return nil
}

// abandon revokes what was begun for a contract at which nobody is at work: its key
// was forgotten, and the car's next request gets another one. What can't be revoked
// stays begun, and no other certificate is made.
func (s *Service) abandon(ctx context.Context, actor, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout) // making may have taken all the time there was
	defer cancel()
	list, err := s.store.Begun(ctx)
	i := slices.IndexFunc(list, func(c Contract) bool { return c.ID == id })
	if err != nil || i < 0 {
		return err
	}
	var ended []string
	var failed []error
	for _, serial := range list[i].Begun {
		if err := s.end(ctx, actor, serial); err != nil {
			failed = append(failed, fmt.Errorf("contract certificate %s, which nobody has the key of, isn't revoked yet; the next request or start tries again: %w", serial, err))
			continue
		}
		s.log.Warn("a contract certificate whose answer was lost is revoked; the car's next request gets another", "contract", id, "serial", serial)
		ended = append(ended, serial)
	}
	_, err = s.store.UpdateContract(ctx, id, func(c *Contract) ([]ledger.Event, error) {
		c.Begun = slices.DeleteFunc(c.Begun, func(serial string) bool { return slices.Contains(ended, serial) })
		return nil, nil
	})
	return errors.Join(append(failed, err)...)
}
