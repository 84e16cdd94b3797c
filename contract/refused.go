package contract

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"bollard/internal/tally"
	"bollard/ledger"
)

// poolActor marks a client of the own pool, which asks for the cars of many stations and
// may ask far more often than a station.
const poolActor = "pool:"

// flushEvery is how often counts of refusals are looked at.
const flushEvery = 10 * time.Second

// refusedKey is one kind of refusal of a client's cars.
type refusedKey struct{ actor, code, protocol string }

// recordRefusal records that a car got nothing. What a client of the pool asks in vain on
// and on is counted: the first of each kind is on record at once, the others come as a
// count ever less often, with the newest request's hash.
func (s *Service) recordRefusal(ctx context.Context, in Request, code, pools string) error {
	subject := hexOf(in.EXI)[:16]
	if strings.HasPrefix(in.Actor, poolActor) {
		s.refused.Tell(refusedKey{in.Actor, code, in.Protocol.String()}, subject, s.clock(), s.writeRefusals(ctx))
		return nil
	}
	event := ledger.Event{Kind: "contract.refused", Subject: subject, Actor: in.Actor, Data: map[string]string{"code": code, "protocol": in.Protocol.String()}}
	if pools != "" {
		event.Data["pools"] = pools
	}
	return s.store.Record(ctx, event)
}

func (s *Service) writeRefusals(ctx context.Context) func(refusedKey, tally.Count) error {
	return func(key refusedKey, n tally.Count) error {
		err := s.store.Record(ctx, ledger.Event{Kind: "contract.refused", Subject: n.Text, Actor: key.actor, Data: map[string]string{
			"code": key.code, "protocol": key.protocol, "count": strconv.Itoa(n.Count),
		}})
		if err != nil {
			s.log.Error("couldn't record that cars were refused; it is tried again", slog.String("actor", key.actor), slog.Int("count", n.Count), slog.Any("err", err))
		}
		return err
	}
}

// Run writes down refusals that repeated themselves until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tally.Run(ctx, flushEvery, s.Flush)
}

// Flush writes down the counts whose time has come, or all.
func (s *Service) Flush(ctx context.Context, all bool) {
	s.refused.Flush(s.clock(), all, s.writeRefusals(ctx))
}
