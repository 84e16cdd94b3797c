package fleet

import (
	"context"
	"log/slog"
	"time"

	"bollard/ca"
	"bollard/ledger"
)

// Sessions is the directory of live connections; the gateway is one.
type Sessions interface {
	Session(key string) (Session, bool)
	Sessions() []Session
	// EndIf ends every live session for which why returns a reason.
	EndIf(why func(Admission) (reason string, end bool)) int
}

// Config of a Service.
type Config struct {
	Store        Store
	Authority    *ca.Authority
	Record       func(ctx context.Context, e ledger.Event) error // decisions without another write
	Organisation string
	// PublicURL is the OCPP endpoint without the identity, such as
	// wss://HOST:8443/ocpp: what SetNetworkProfile tells stations.
	PublicURL       string
	UnknownIdentity int // 401, or 404 where configured
	Clock           func() time.Time
	Log             *slog.Logger
}

// Service is the fleet: it admits claims (gateway.Door), acts on security
// messages (gateway.Guard) and serves the operator's commands.
type Service struct{}

// New needs no live sessions; Attach connects them once the gateway exists.
func New(ctx context.Context, cfg Config) (*Service, error) { panic("internal error: contract only") }

// Attach gives the service the directory of live sessions.
func (s *Service) Attach(live Sessions) { panic("internal error: contract only") }

// Enrolment is a station as an operator adds it.
type Enrolment struct {
	Identity, Serial, Vendor, Model, Alias, FactoryHash string
	Profile                                             int
	Password                                            []byte // nil: generate for profiles 1 and 2
	Line                                                int    // of an import file, for errors
}

// Enrolled tells the password Bollard generated, once.
type Enrolled struct {
	Station  Station
	Password string // "" if the operator gave one or the profile is 3
}

// Add enrols stations, all or none; errors name the line of the first bad one.
func (s *Service) Add(ctx context.Context, actor string, list []Enrolment) ([]Enrolled, error) {
	panic("internal error: contract only")
}

func (s *Service) Station(ctx context.Context, identity string) (Station, error) {
	panic("internal error: contract only")
}
func (s *Service) Stations(ctx context.Context) ([]Station, error) {
	panic("internal error: contract only")
}
func (s *Service) Orders(ctx context.Context, identity string) ([]Order, error) {
	panic("internal error: contract only")
}

// Remove forgets the station, revokes its certificates and ends its session.
func (s *Service) Remove(ctx context.Context, actor, identity string) error {
	panic("internal error: contract only")
}

// SetPassword stores a new secret (nil: generates one and returns it). The
// live session is ended so that the station proves the new one.
func (s *Service) SetPassword(ctx context.Context, actor, identity string, password []byte) (generated string, err error) {
	panic("internal error: contract only")
}

// SetProfile sets the wanted security profile; a lower one than the floor is refused.
func (s *Service) SetProfile(ctx context.Context, actor, identity string, profile int) (Station, error) {
	panic("internal error: contract only")
}

// Renew asks the station for a new CSR, at once if it is connected. With
// allowExpired, its expired certificate is let in until then.
func (s *Service) Renew(ctx context.Context, actor, identity string, allowExpired time.Duration) (Station, error) {
	panic("internal error: contract only")
}

// SetCheck sets a check to warn or back to enforce.
func (s *Service) SetCheck(ctx context.Context, actor, identity string, check Check, warn bool) (Station, error) {
	panic("internal error: contract only")
}

// Revoke revokes a certificate and ends the live session that uses it.
func (s *Service) Revoke(ctx context.Context, actor, serial, reason string) (ca.Record, error) {
	panic("internal error: contract only")
}
