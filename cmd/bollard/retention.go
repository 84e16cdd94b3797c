package main

import (
	"context"
	"time"

	"bollard/internal/config"
	"bollard/store"
)

// retentionLook is how often what is too old is looked for.
const retentionLook = time.Hour

func retentionOf(cfg *config.File) *store.Retention {
	r := store.Retention(cfg.Retention)
	return &r
}

// keepRetention deletes what is too old, at the start and then each hour, until
// ctx ends. What fails is tried again the next time.
func (s *server) keepRetention(ctx context.Context) error {
	look := time.NewTicker(retentionLook)
	defer look.Stop()
	for {
		gone, err := s.store.Expire(ctx, *s.retention.Load())
		for kind, rows := range gone {
			s.log.Info("records older than retention: allows were deleted", "kind", kind, "rows", rows)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("couldn't delete all that is older than retention: allows", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}
