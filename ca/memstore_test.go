package ca

import (
	"context"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	"bollard/ledger"
)

// MemStore is a Store in memory whose every write can be made to fail.
type MemStore struct {
	mu        sync.Mutex
	records   []Record // oldest first
	anchors   []TrustAnchor
	numbers   map[string]int64
	rollovers map[Kind]Rollover
	requests  map[Kind][]Request // oldest first
	chains    []OutsideChain     // oldest first
	lists     map[string]RootList
	newest    time.Time
	Events    []ledger.Event
	Fail      map[string]error // by method name, before anything is written
	Before    func(method string)
}

func NewMemStore() *MemStore {
	return &MemStore{numbers: map[string]int64{}, rollovers: map[Kind]Rollover{}, requests: map[Kind][]Request{}, lists: map[string]RootList{}, Fail: map[string]error{}}
}

// Copy is what a backup of it would be.
func (m *MemStore) Copy() *MemStore {
	c := NewMemStore()
	c.records, c.newest = slices.Clone(m.records), m.newest
	maps.Copy(c.numbers, m.numbers)
	maps.Copy(c.requests, m.requests)
	return c
}

func (m *MemStore) begin(method string) (func(), error) {
	if m.Before != nil {
		m.Before(method)
	}
	m.mu.Lock()
	if err := m.Fail[method]; err != nil {
		m.mu.Unlock()
		return nil, err
	}
	return m.mu.Unlock, nil
}

func (m *MemStore) find(serial string) int {
	return slices.IndexFunc(m.records, func(r Record) bool { return r.Serial == serial })
}

func (m *MemStore) wrote(at time.Time, events []ledger.Event) {
	if at.After(m.newest) {
		m.newest = at
	}
	m.Events = append(m.Events, events...)
}

// FailWith makes a method fail from now on, nil lets it work again; for tests
// in which somebody else writes at the same time.
func (m *MemStore) FailWith(method string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Fail[method] = err
}

// SetNewest is what a clock that ran ahead leaves behind.
func (m *MemStore) SetNewest(at time.Time) { m.newest = at }

func (m *MemStore) PutIntent(_ context.Context, intent Intent, events ...ledger.Event) error {
	done, err := m.begin("PutIntent")
	if err != nil {
		return err
	}
	defer done()
	if m.find(intent.Serial) >= 0 {
		return ErrDuplicateSerial
	}
	m.records = append(m.records, Record{Intent: intent, State: StateIntended})
	m.wrote(intent.CreatedAt, events)
	return nil
}

func (m *MemStore) PutIssued(ctx context.Context, serial string, der []byte, at time.Time, events ...ledger.Event) error {
	if err := ctx.Err(); err != nil {
		return err // as the real one does
	}
	done, err := m.begin("PutIssued")
	if err != nil {
		return err
	}
	defer done()
	i := m.find(serial)
	if i < 0 || m.records[i].State != StateIntended {
		return ErrUnknownSerial
	}
	m.records[i].State, m.records[i].DER, m.records[i].IssuedAt = StateIssued, der, at
	m.wrote(at, events)
	return nil
}

func (m *MemStore) PutExternal(_ context.Context, record Record, events ...ledger.Event) error {
	done, err := m.begin("PutExternal")
	if err != nil {
		return err
	}
	defer done()
	if m.find(record.Serial) < 0 {
		m.records = append(m.records, record)
		m.wrote(record.IssuedAt, events)
	}
	return nil
}

func (m *MemStore) SetRevoked(_ context.Context, serial, reason string, at time.Time, events ...ledger.Event) error {
	done, err := m.begin("SetRevoked")
	if err != nil {
		return err
	}
	defer done()
	i := m.find(serial)
	if i < 0 {
		return ErrUnknownSerial
	}
	if m.records[i].State == StateIssued {
		m.records[i].State, m.records[i].Reason, m.records[i].RevokedAt = StateRevoked, reason, at
		m.wrote(at, events)
	}
	return nil
}

func (m *MemStore) OrphanIntents(_ context.Context, before time.Time) ([]Intent, error) {
	done, err := m.begin("OrphanIntents")
	if err != nil {
		return nil, err
	}
	defer done()
	var orphans []Intent
	for i, r := range m.records {
		if r.State == StateIntended && r.CreatedAt.Before(before) {
			m.records[i].State = StateOrphaned
			orphans = append(orphans, r.Intent)
		}
	}
	return orphans, nil
}

func (m *MemStore) Certificate(_ context.Context, serial string) (Record, error) {
	done, err := m.begin("Certificate")
	if err != nil {
		return Record{}, err
	}
	defer done()
	if i := m.find(serial); i >= 0 {
		return m.records[i], nil
	}
	return Record{}, ErrUnknownSerial
}

func (m *MemStore) selected(method string, want func(Record) bool) ([]Record, error) {
	done, err := m.begin(method)
	if err != nil {
		return nil, err
	}
	defer done()
	var out []Record
	for _, r := range slices.Backward(m.records) {
		if want(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (m *MemStore) Certificates(_ context.Context, f Filter) ([]Record, error) {
	out, err := m.selected("Certificates", func(r Record) bool {
		return (f.Station == "" || r.Station == f.Station) && (f.Profile == "" || r.Profile == f.Profile) &&
			(f.State == "" || r.State == f.State)
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, err
}

func (m *MemStore) CertificateByReference(_ context.Context, reference string) (Record, bool, error) {
	out, err := m.selected("CertificateByReference", func(r Record) bool { return r.Reference == reference && r.DER != nil })
	if err != nil || len(out) == 0 {
		return Record{}, false, err
	}
	return out[0], true, nil
}

func (m *MemStore) CertificatesByKey(_ context.Context, keyHash string) ([]Record, error) {
	return m.selected("CertificatesByKey", func(r Record) bool { return r.KeyHash == keyHash })
}

func (m *MemStore) Revoked(_ context.Context, issuer string) ([]Record, error) {
	return m.selected("Revoked", func(r Record) bool {
		return r.Issuer == issuer && (r.State == StateRevoked || r.State == StateOrphaned)
	})
}

func (m *MemStore) ActiveSerials(_ context.Context, issuer string, at time.Time) ([]string, error) {
	records, err := m.selected("ActiveSerials", func(r Record) bool {
		return r.Issuer == issuer && !r.External && r.State == StateIssued && r.NotAfter.After(at)
	})
	var serials []string
	for _, r := range records {
		serials = append(serials, r.Serial)
	}
	return serials, err
}

func (m *MemStore) Rollover(_ context.Context, kind Kind) (Rollover, error) {
	done, err := m.begin("Rollover")
	if err != nil {
		return Rollover{}, err
	}
	defer done()
	return m.rollovers[kind], nil
}

func (m *MemStore) PutRollover(_ context.Context, next Rollover, events ...ledger.Event) error {
	done, err := m.begin("PutRollover")
	if err != nil {
		return err
	}
	defer done()
	if !next.Follows(m.rollovers[next.Kind]) {
		return ErrRollover
	}
	m.rollovers[next.Kind] = next
	m.wrote(next.At, events)
	return nil
}

func (m *MemStore) NextCRLNumber(_ context.Context, issuer string, events ...ledger.Event) (*big.Int, error) {
	done, err := m.begin("NextCRLNumber")
	if err != nil {
		return nil, err
	}
	defer done()
	m.numbers[issuer]++
	m.wrote(m.newest, events)
	return big.NewInt(m.numbers[issuer]), nil
}

func (m *MemStore) NewestTime(context.Context) (time.Time, error) {
	done, err := m.begin("NewestTime")
	if err != nil {
		return time.Time{}, err
	}
	defer done()
	return m.newest, nil
}

func (m *MemStore) AddAnchor(_ context.Context, anchor TrustAnchor, events ...ledger.Event) error {
	done, err := m.begin("AddAnchor")
	if err != nil {
		return err
	}
	defer done()
	if !slices.ContainsFunc(m.anchors, func(a TrustAnchor) bool { return a.Use == anchor.Use && a.Hash == anchor.Hash }) {
		m.anchors = append(m.anchors, anchor)
		m.wrote(anchor.AddedAt, events)
	}
	return nil
}

func (m *MemStore) RemoveAnchor(_ context.Context, use, hash string, events ...ledger.Event) error {
	done, err := m.begin("RemoveAnchor")
	if err != nil {
		return err
	}
	defer done()
	i := slices.IndexFunc(m.anchors, func(a TrustAnchor) bool { return a.Use == use && a.Hash == hash })
	if i < 0 {
		return ErrUnknownAnchor
	}
	m.anchors = slices.Delete(m.anchors, i, i+1)
	m.wrote(m.newest, events)
	return nil
}

func (m *MemStore) Anchors(_ context.Context, use string) ([]TrustAnchor, error) {
	done, err := m.begin("Anchors")
	if err != nil {
		return nil, err
	}
	defer done()
	var out []TrustAnchor
	for _, a := range m.anchors {
		if use == "" || a.Use == use {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *MemStore) Record(_ context.Context, events ...ledger.Event) error {
	done, err := m.begin("Record")
	if err != nil {
		return err
	}
	defer done()
	m.wrote(m.newest, events)
	return nil
}

func (m *MemStore) Requests(_ context.Context, kind Kind) ([]Request, error) {
	done, err := m.begin("Requests")
	if err != nil {
		return nil, err
	}
	defer done()
	list := slices.Clone(m.requests[kind])
	slices.Reverse(list)
	return list, nil
}

func (m *MemStore) PutRequest(_ context.Context, r Request, events ...ledger.Event) error {
	done, err := m.begin("PutRequest")
	if err != nil {
		return err
	}
	defer done()
	if len(m.requests[r.Kind]) >= r.Generation {
		return ErrHierarchyExists
	}
	m.requests[r.Kind] = append(m.requests[r.Kind], r)
	m.wrote(r.CreatedAt, events)
	return nil
}

func (m *MemStore) SetRequestKey(_ context.Context, r Request, events ...ledger.Event) error {
	done, err := m.begin("SetRequestKey")
	if err != nil {
		return err
	}
	defer done()
	for i := range m.requests[r.Kind] {
		if have := &m.requests[r.Kind][i]; have.Generation == r.Generation && (have.KeyHash != r.KeyHash || have.Waiting != r.Waiting) {
			have.KeyHash, have.Waiting = r.KeyHash, r.Waiting
			m.wrote(r.CreatedAt, events)
		}
	}
	return nil
}

func (m *MemStore) OutsideChains(_ context.Context, kind Kind) ([]OutsideChain, error) {
	done, err := m.begin("OutsideChains")
	if err != nil {
		return nil, err
	}
	defer done()
	var list []OutsideChain
	for _, c := range slices.Backward(m.chains) {
		if c.Kind == kind {
			list = append(list, c)
		}
	}
	return list, nil
}

func (m *MemStore) AddOutsideChain(_ context.Context, c OutsideChain, events ...ledger.Event) error {
	done, err := m.begin("AddOutsideChain")
	if err != nil {
		return err
	}
	defer done()
	if slices.ContainsFunc(m.chains, func(known OutsideChain) bool { return known.Hash == c.Hash }) {
		return nil
	}
	m.chains = append(m.chains, c)
	m.wrote(c.AddedAt, events)
	return nil
}

func (m *MemStore) RemoveOutsideChain(_ context.Context, kind Kind, hash string, events ...ledger.Event) error {
	done, err := m.begin("RemoveOutsideChain")
	if err != nil {
		return err
	}
	defer done()
	m.chains = slices.DeleteFunc(m.chains, func(c OutsideChain) bool { return c.Kind == kind && c.Hash == hash })
	m.wrote(m.newest, events)
	return nil
}

func (m *MemStore) TakeIn(_ context.Context, records []Record, list *RootList, next *Rollover, events ...ledger.Event) error {
	done, err := m.begin("TakeIn")
	if err != nil {
		return err
	}
	defer done()
	if next != nil {
		if !next.Follows(m.rollovers[next.Kind]) {
			return ErrRollover
		}
		m.rollovers[next.Kind] = *next
	}
	for _, r := range records {
		if m.find(r.Serial) < 0 {
			m.records = append(m.records, r)
		}
		m.wrote(r.IssuedAt, nil)
	}
	if list != nil {
		m.lists[list.Issuer] = *list
	}
	m.wrote(time.Time{}, events)
	return nil
}

func (m *MemStore) RootList(_ context.Context, issuer string) (RootList, error) {
	done, err := m.begin("RootList")
	if err != nil {
		return RootList{}, err
	}
	defer done()
	return m.lists[issuer], nil
}
