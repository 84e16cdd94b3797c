package fleet

import (
	"context"
	"errors"
	"time"

	"bollard/ledger"
)

// Errors a Store returns; callers branch on them.
var (
	ErrUnknownStation = errors.New("no such station")
	ErrStationExists  = errors.New("station exists already")
)

// Store keeps stations and their orders. Every write is durable, together with
// its ledger events, before the method returns, and all of it happens or none.
// Methods are safe for concurrent use.
type Store interface {
	EventStore
	LogStore
	RetirementStore

	// AddStations adds all or none; ErrStationExists names the first clash of
	// identity key or serial.
	AddStations(ctx context.Context, stations []Station, events ...ledger.Event) error
	Station(ctx context.Context, key string) (Station, error)
	Stations(ctx context.Context) ([]Station, error) // by key
	// StationByEK returns the station that is known by a TPM; ErrUnknownStation.
	StationByEK(ctx context.Context, hash string) (Station, error)
	// StationBySerial and StationByFactory find a station by one of its serial
	// numbers, and by the hash of the pinned factory certificate or of its key.
	// ErrUnknownStation.
	StationBySerial(ctx context.Context, serial string) (Station, error)
	StationByFactory(ctx context.Context, hash string) (Station, error)
	StationByFactoryKey(ctx context.Context, hash string) (Station, error)
	// UpdateStation reads, changes and writes one record in one transaction.
	// An error of change leaves everything as it was.
	UpdateStation(ctx context.Context, key string, change func(*Station) ([]ledger.Event, error)) (Station, error)
	// UpdateStationAndPlan is UpdateStation with the station's plan, both written
	// in one transaction.
	UpdateStationAndPlan(ctx context.Context, key string, change func(*Station, *Plan) ([]ledger.Event, error)) (Station, error)
	// UpdateStations is UpdateStation for many, all in one transaction; unknown
	// ones are left out.
	UpdateStations(ctx context.Context, keys []string, change func(*Station) ([]ledger.Event, error)) error
	// Sighted moves SeenAt of the named stations forward and adds to their
	// Admissions, all in one transaction; unknown ones are left out.
	Sighted(ctx context.Context, stations map[string]Sighting) error
	// Unsummed names the stations with Admissions whose AdmittedAt is not after until.
	Unsummed(ctx context.Context, until time.Time) ([]string, error)
	// OldestSecret returns the password of that kind that was set first; nil without one.
	OldestSecret(ctx context.Context, kind string) (*Credential, error)
	// RemoveStation deletes the record and its open orders; certificates stay. last
	// says what is recorded of it, in the same transaction.
	RemoveStation(ctx context.Context, key string, last func(*Station) []ledger.Event) error

	// Plan returns what is recorded of a station's plan; the zero Plan if nothing is.
	Plan(ctx context.Context, station string) (Plan, error)
	// UpdatePlan reads, changes and writes a plan in one transaction, as
	// UpdateStation does. ErrUnknownStation if there is no such station.
	UpdatePlan(ctx context.Context, station string, change func(*Plan) ([]ledger.Event, error)) (Plan, error)

	// PutVerdicts keeps Verdict of certificates' records, by serial number, all in one
	// transaction; what isn't on record is left out.
	PutVerdicts(ctx context.Context, verdicts map[string][]byte) error

	// Groups returns what is wanted of each group, by name.
	Groups(ctx context.Context) ([]Group, error)

	AddOrder(ctx context.Context, order Order, events ...ledger.Event) error
	// OrderByCSR returns the newest order of the station for this CSR; ok is false without one.
	OrderByCSR(ctx context.Context, station, csrHash string) (order Order, ok bool, err error)
	Order(ctx context.Context, id string) (order Order, ok bool, err error)
	// Orders returns the station's orders for certificates of its own, newest first,
	// at most limit.
	Orders(ctx context.Context, station string, limit int) ([]Order, error)
	// SECCOrders is Orders for its certificates toward cars.
	SECCOrders(ctx context.Context, station string, limit int) ([]Order, error)
	// OpenOrders returns those of both that were accepted or issued and are not over, newest first.
	OpenOrders(ctx context.Context, station string) ([]Order, error)
	// UnconfirmedOrder returns the station's for a certificate of its own with this serial
	// number that was issued or delivered, and isn't confirmed; ok is false without one.
	UnconfirmedOrder(ctx context.Context, station, serial string) (order Order, ok bool, err error)
	UpdateOrder(ctx context.Context, id string, change func(*Order) ([]ledger.Event, error)) (Order, error)
}
