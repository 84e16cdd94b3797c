package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/keys"
	"bollard/store"
)

// Size of a round of provisioning.
const (
	provisionCars    = 200
	provisionCallers = 8
	provisionLimits  = 500 // signatures made and verified alone
)

// measureProvisioning measures what answers to cars cost, in this process over a
// database on disk: requests decoded and verified, whole answers to cars that ask for
// the first time (cold) and again (ready), and beside them what ECDSA alone takes of
// one processor, which no answer can undercut.
func measureProvisioning(ctx context.Context, rounds int, dir string, stdout io.Writer) error {
	var samples []sample
	for round := range rounds {
		for _, p := range []message.Protocol{message.ISO2, message.ISO20} {
			add := func(measure string, value float64) {
				samples = append(samples, sample{Round: round, Proxy: "bollard", Measure: measure + ", " + p.String(), Value: value})
			}
			if err := provisionRound(ctx, p, add); err != nil {
				return err
			}
		}
	}
	summaries, err := summarise(samples)
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tBOLLARD")
	for _, s := range summaries {
		fmt.Fprintf(w, "%s\t%.3g\n", s.Measure, s.Median["bollard"])
	}
	return errors.Join(err, w.Flush(), writeReport(stdout, dir, "provisioning", map[string]any{
		"cars": provisionCars, "callers": provisionCallers, "summary": summaries, "samples": samples,
	}))
}

func provisionRound(ctx context.Context, p message.Protocol, add func(string, float64)) (err error) {
	data, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	pool, closed, err := newProvider(ctx, data, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closed()) }()
	cars := make([]provisionCar, provisionCars)
	for i := range cars {
		if cars[i], err = pool.car(ctx, i); err != nil {
			return err
		}
	}
	if err := ecdsaAlone(p, add); err != nil {
		return err
	}
	begun := time.Now()
	for _, c := range cars {
		r, err := message.DecodeRequest(p, c.exi)
		if err == nil {
			err = signature.Verify(p.Set(), *r.Signature, &c.key.PublicKey, []signature.Suite{signature.P256, signature.P521}, r.Signed()...)
		}
		if err != nil {
			return err
		}
	}
	add("requests decoded and verified per second, one caller", float64(len(cars))/time.Since(begun).Seconds())
	for _, kind := range []string{"cold", "ready"} {
		took := make([]float64, len(cars))
		begun := time.Now()
		if err := pool.askAll(ctx, cars, took); err != nil {
			return err
		}
		wall := time.Since(begun)
		slices.Sort(took)
		add(fmt.Sprintf("answers per second, %s", kind), float64(len(cars))/wall.Seconds())
		add(fmt.Sprintf("p50 ms of an answer, %s", kind), took[len(took)/2])
		add(fmt.Sprintf("p99 ms of an answer, %s", kind), took[len(took)*99/100])
	}
	return nil
}

// ecdsaAlone is the limit: one signature made, one verified.
func ecdsaAlone(p message.Protocol, add func(string, float64)) error {
	key, err := ecdsa.GenerateKey(curveOf(p), rand.Reader)
	if err != nil {
		return err
	}
	digest := sha512.Sum512([]byte("SignedInfo"))
	of := digest[:32]
	if p == message.ISO20 {
		of = digest[:]
	}
	made := make([][]byte, provisionLimits)
	begun := time.Now()
	for i := range made {
		if made[i], err = ecdsa.SignASN1(rand.Reader, key, of); err != nil {
			return err
		}
	}
	add("ECDSA signatures made per second, one caller", provisionLimits/time.Since(begun).Seconds())
	begun = time.Now()
	for _, s := range made {
		if !ecdsa.VerifyASN1(&key.PublicKey, of, s) {
			return errors.New("a signature doesn't verify")
		}
	}
	add("ECDSA signatures verified per second, one caller", provisionLimits/time.Since(begun).Seconds())
	return nil
}

func curveOf(p message.Protocol) elliptic.Curve {
	if p == message.ISO20 {
		return elliptic.P521()
	}
	return elliptic.P256()
}

// provider is an e-mobility provider with all hierarchies of an edition of its own.
type provider struct {
	p         message.Protocol
	authority *ca.Authority
	contracts *contract.Service
}

func newProvider(ctx context.Context, dir string, p message.Protocol) (*provider, func() error, error) {
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "bollard.db")})
	if err != nil {
		return nil, nil, err
	}
	pool := &provider{p: p}
	err = func() error {
		keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
		if err != nil {
			return err
		}
		const organisation, country, status = "Example CPO", "NL", "http://status.example.com:8080"
		if err := ca.Init(ctx, ca.InitConfig{Store: db, Keeper: keeper, Kind: ca.KindCSMS, Organisation: organisation, Country: country, StatusURL: status, Clock: time.Now}); err != nil {
			return err
		}
		if pool.authority, err = ca.New(ctx, ca.Config{Store: db, Keeper: keeper, Organisation: organisation, Country: country, StatusURL: status, Clock: time.Now}); err != nil {
			return err
		}
		kinds := []ca.Kind{ca.KindV2G, ca.KindMO, ca.KindOEM, ca.KindCPS}
		if p == message.ISO20 {
			kinds = []ca.Kind{ca.KindV2G20, ca.KindMO20, ca.KindOEM20, ca.KindCPS20}
		}
		for _, kind := range kinds {
			if err := pool.authority.Create(ctx, kind, "bench"); err != nil {
				return err
			}
		}
		pool.contracts, err = contract.New(ctx, contract.Config{Store: db, Authority: pool.authority})
		return err
	}()
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return pool, db.Close, nil
}

// provisionCar is a car with a contract and its signed request.
type provisionCar struct {
	key *ecdsa.PrivateKey
	exi []byte
}

func (v *provider) car(ctx context.Context, n int) (provisionCar, error) {
	key, err := ecdsa.GenerateKey(curveOf(v.p), rand.Reader)
	if err != nil {
		return provisionCar{}, err
	}
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		return provisionCar{}, err
	}
	profile := ca.ProfileProvisioning
	if v.p == message.ISO20 {
		profile = ca.ProfileProvisioning20
	}
	pcid, emaid := identifier.PCID(fmt.Sprintf("WP0BENCH%010d", n)), identifier.EMAID(fmt.Sprintf("NLBEN%09d", n))
	prepared, err := v.authority.Prepare(ctx, ca.Order{Profile: profile, Key: proven, Subject: ca.Subject{CommonName: string(pcid)}, Requester: "bench"})
	if err != nil {
		return provisionCar{}, err
	}
	issued, err := v.authority.Issue(ctx, prepared)
	if err != nil {
		return provisionCar{}, err
	}
	if _, err := v.contracts.Add(ctx, "bench", emaid, pcid); err != nil {
		return provisionCar{}, err
	}
	r := message.Request{
		Protocol: v.p, Header: message.Header{Session: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Time: time.Now().Unix()}, ID: "id1",
		Chain: message.Chain{Certificate: issued.Certificate.Raw}, Roots: []message.RootID{{Issuer: "CN=V2G", Serial: big.NewInt(1)}},
	}
	if v.p == message.ISO20 {
		r.ID, r.Chain.ID, r.MaximumChains = "", "id1", 1
		r.Chain.SubCertificates = rawOf(issued.Chain)
	}
	signed, err := signature.Sign(rand.Reader, key, v.p.Set(), r.Signed()...)
	if err != nil {
		return provisionCar{}, err
	}
	r.Signature = &signed
	exi, err := r.Encode()
	return provisionCar{key, exi}, err
}

func rawOf(chain []*x509.Certificate) [][]byte {
	var list [][]byte
	for _, cert := range chain {
		list = append(list, cert.Raw)
	}
	return list
}

// askAll has some callers ask for all cars, each once, and notes how long each took in ms.
func (v *provider) askAll(ctx context.Context, cars []provisionCar, took []float64) error {
	var next atomic.Int64
	var all sync.WaitGroup
	faults := make([]error, provisionCallers)
	for caller := range provisionCallers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(cars); i = int(next.Add(1)) - 1 {
				begun := time.Now()
				a, err := v.contracts.Provision(ctx, contract.Request{Protocol: v.p, EXI: cars[i].exi, Actor: "bench"})
				took[i] = float64(time.Since(begun).Microseconds()) / 1000
				if err == nil && a.Code != "OK" {
					err = fmt.Errorf("a car was answered %s: %s", a.Code, a.Reason)
				}
				if err != nil {
					faults[caller] = err
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(faults...)
}
