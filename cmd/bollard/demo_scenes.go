package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"bollard/admin"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

const demoOrganisation = "Example CPO"

// scenes are the story in its order: each relies on those before it.
func (d *demo) scenes() []scene {
	return []scene{
		{"Bollard is set up: certificate hierarchy, configuration, keys", d.setUp},
		{"a CSMS that knows nothing of certificates, and Bollard before it", d.open},
		{"three stations are enrolled, with generated passwords", d.enrol},
		{"each boots on security profile 2 with its password", d.boot},
		{"a stranger who guesses a password is refused", d.stranger},
		{"the operator asks for profile 3: each gets a certificate and returns with mutual TLS", d.raise},
		{"each charges a car", d.charge},
		{"the CSMS's bytes are the stations', both ways, in order", d.compare},
		{"a car gets its contract certificate through each, and charges until the contract is revoked", d.plugAndCharge},
		{"an impostor with another station's certificate is refused", d.impostor},
		{"a CSR for somebody else's name is refused", d.otherName},
		{"a CSR for a CA certificate (CA:TRUE) is refused", d.caTrue},
		{"a return to the lower profile is refused", d.downgrade},
		{"a signed release of firmware, approved by a person, is rolled out to the three", d.rollOut},
		{"a release with one bit of its image flipped is refused", d.flippedBit},
		{"an older release is refused, whoever signed it", d.oldRelease},
		{"a station that installs without verifying is found, and gets no more", d.cheat},
		{"the ledger is unbroken and has a record before each signature", d.ledger},
	}
}

func (d *demo) setUp(ctx context.Context) ([]string, error) {
	back, err := csms.New(context.WithoutCancel(ctx), csms.Config{}) // lives as long as the demo
	if err != nil {
		return nil, err
	}
	d.back = back
	err = initialise(ctx, initOptions{
		dataDir: d.cli.data, organisation: demoOrganisation, country: "DE",
		listen: "127.0.0.1:0", backend: back.URL(),
	})
	if err == nil {
		err = d.approvers()
	}
	if err != nil {
		return nil, err
	}
	root, err := call[admin.KindRef, admin.PEM](ctx, d.cli, "ca.root", admin.KindRef{Kind: "csms"})
	if err != nil {
		return nil, err
	}
	d.roots = root.PEM
	list, err := station.ParseCertificates([]byte(root.PEM))
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("root %q, until %s", list[0].Subject.CommonName, list[0].NotAfter.Format(time.DateOnly))}, nil
}

func (d *demo) open(ctx context.Context) ([]string, error) {
	ready := make(chan addresses, 1)
	d.failed = make(chan error, 1)
	// Its life is the demo's, not the step's.
	living, stop := context.WithCancel(context.WithoutCancel(ctx))
	end := d.stop
	d.stop = func() {
		stop()
		end()
	}
	d.running.Go(func() {
		d.failed <- serve(living, serveOptions{dataDir: d.cli.data, log: d.log, ready: func(a addresses) { ready <- a }})
	})
	select {
	case a := <-ready:
		_, port, err := net.SplitHostPort(a.OCPP[0])
		if err != nil {
			return nil, err
		}
		d.url = "wss://" + net.JoinHostPort("localhost", port) + "/ocpp"
	case err := <-d.failed:
		d.failed <- err
		return nil, fmt.Errorf("the server ended: %w", err)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return []string{"CSMS at " + d.back.URL(), "Bollard at " + d.url}, nil
}

func (d *demo) enrol(ctx context.Context) ([]string, error) {
	var seen []string
	for i, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		identity, serial := fmt.Sprintf("CS-%d", i+1), fmt.Sprintf("SN-%04d", i+1)
		added, err := call[admin.Enrolment, admin.Enrolled](ctx, d.cli, "station.add",
			admin.Enrolment{Identity: identity, Serial: serial, Profile: 2, Vendor: "Bollard", Model: "Simulated"})
		if err != nil {
			return seen, err
		}
		if len(added.Password) < 16 {
			return seen, fmt.Errorf("%s got a password of %d characters", identity, len(added.Password))
		}
		d.stations = append(d.stations, &player{version: version, identity: identity, serial: serial, password: added.Password})
		seen = append(seen, fmt.Sprintf("%s, serial %s, OCPP %s, password of %d characters", identity, serial, version, len(added.Password)))
	}
	return seen, nil
}

// config is a station as the story enrolled it.
func (d *demo) config(p *player) station.Config {
	roots, err := station.ParseCertificates([]byte(d.roots))
	if err != nil {
		panic("internal error: the root was read before: " + err.Error())
	}
	return station.Config{
		Identity: p.identity, Serial: p.serial, Version: p.version, URL: d.url, Profile: 2,
		Password: []byte(p.password), Roots: roots, ManufacturerRoots: []*x509.Certificate{d.makers.root.cert},
		BackOff: station.BackOff{Minimum: 50 * time.Millisecond, Random: 50 * time.Millisecond, Repeats: 4},
	}
}

func (d *demo) boot(ctx context.Context) ([]string, error) {
	var seen []string
	for _, p := range d.stations {
		var err error
		if p.station, err = station.New(context.WithoutCancel(ctx), d.config(p)); err != nil {
			return seen, err
		}
		d.running.Go(func() { _ = p.station.Run(context.WithoutCancel(ctx)) }) // ends with the station's Close
		err = p.station.Await(ctx, func(s station.State) bool { return s.Connected && s.Registration == "Accepted" })
		if err != nil {
			return seen, withLast(p.station, err)
		}
		s := p.station.State()
		if s.Profile != 2 || s.Presented != "" || s.Version != p.version {
			return seen, fmt.Errorf("%s is connected otherwise: %+v", p.identity, s)
		}
		seen = append(seen, fmt.Sprintf("%s: %s over %s with Basic, BootNotification accepted", p.identity, s.Version.Subprotocol(), tlsName(s.TLSVersion)))
	}
	return seen, nil
}

func (d *demo) raise(ctx context.Context) ([]string, error) {
	for _, p := range d.stations {
		_, err := call[admin.SetProfile, admin.Station](ctx, d.cli, "station.profile", admin.SetProfile{Identity: p.identity, Profile: 3})
		if err != nil {
			return nil, err
		}
	}
	var seen []string
	for _, p := range d.stations {
		err := p.station.Await(ctx, func(s station.State) bool {
			return s.Connected && s.Profile == 3 && s.Presented != "" && s.Registration == "Accepted"
		})
		if err != nil {
			return seen, withLast(p.station, err)
		}
		cert, ok := p.station.Certificate()
		if !ok || cert.Leaf.Subject.CommonName != p.serial || len(cert.Leaf.Subject.Organization) != 1 || cert.Leaf.Subject.Organization[0] != demoOrganisation {
			return seen, fmt.Errorf("the certificate of %s does not name it", p.identity)
		}
		presented, err := d.awaitShown(ctx, p)
		if err != nil {
			return seen, err
		}
		seen = append(seen, fmt.Sprintf("%s: TLS client certificate CN=%s, O=%s, serial %s", p.identity, cert.Leaf.Subject.CommonName, demoOrganisation, presented))
	}
	return seen, nil
}

func (d *demo) charge(ctx context.Context) ([]string, error) {
	var seen []string
	for _, p := range d.stations {
		// The CSMS asks something too, so that both directions are compared.
		action, question := "GetVariables", any(object{"getVariableData": []object{{
			"component": object{"name": "SecurityCtrlr"}, "variable": object{"name": "SecurityProfile"},
		}}})
		if p.version == ocpp.V16 {
			action, question = "GetConfiguration", object{"key": []string{"SecurityProfile"}}
		}
		answer, err := d.back.Call(ctx, p.identity, action, question)
		if err != nil {
			return seen, fmt.Errorf("%s of the CSMS: %w", action, err)
		}
		if !bytes.Contains(answer, []byte(`"3"`)) {
			return seen, fmt.Errorf("%s tells the CSMS another security profile: %s", p.identity, answer)
		}
		done, err := p.station.Charge(ctx, "DEMO-TOKEN", 11000)
		if err != nil {
			return seen, withLast(p.station, err)
		}
		if done.Energy != 11000 {
			return seen, fmt.Errorf("%s charged %d Wh", p.identity, done.Energy)
		}
		seen = append(seen, fmt.Sprintf("%s: %.1f kWh, %d meter values, started and stopped at the CSMS", p.identity, float64(done.Energy)/1000, done.Readings))
	}
	return seen, nil
}

// awaitShown waits until the operator sees the station as it sees itself, and
// returns its certificate's serial. The station knows of its session a moment
// before `station show` does, and may come back once more meanwhile.
func (d *demo) awaitShown(ctx context.Context, p *player) (string, error) {
	for deadline := time.Now().Add(showPatience); ; {
		recorded, err := call[admin.StationRef, admin.StationDetail](ctx, d.cli, "station.show", admin.StationRef{Identity: p.identity})
		if err != nil {
			return "", err
		}
		presented := p.station.State().Presented
		if recorded.Session != nil && recorded.Session.Profile == 3 && recorded.Certificate != nil && presented != "" && strings.HasSuffix(recorded.Certificate.Serial, presented) {
			return presented, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%s is another one to the operator: %+v", p.identity, recorded.Session)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// showPatience bounds the wait for what `station show` says.
const showPatience = 30 * time.Second

type object = map[string]any

// compare holds the CSMS's record against the station's: every frame with an
// id that the CSMS knows is the same bytes at the same place; the others are
// Bollard's own, and none of them is about charging.
func (d *demo) compare(context.Context) ([]string, error) {
	var seen []string
	for _, p := range d.stations {
		known := map[string]bool{}
		for _, f := range d.back.Frames(p.identity) {
			id, _ := headOf(f.Bytes)
			known[id] = true
		}
		counts := map[ocpp.Direction]int{}
		size, own := 0, 0
		for _, dir := range []ocpp.Direction{ocpp.FromStation, ocpp.FromCSMS} {
			theirs := d.back.Seen(p.identity, dir)
			var ours [][]byte
			for _, frame := range p.station.Sent(dir) {
				id, action := headOf(frame)
				switch {
				case known[id]:
					ours = append(ours, frame)
				case chargingAction(action):
					return seen, fmt.Errorf("%s of %s never reached the other side", action, p.identity)
				default:
					own++
				}
			}
			if len(ours) != len(theirs) {
				return seen, fmt.Errorf("%s: %d messages %s at the station, %d at the CSMS", p.identity, len(ours), dir, len(theirs))
			}
			for i := range ours {
				if !bytes.Equal(ours[i], theirs[i]) {
					return seen, fmt.Errorf("%s: message %d %s differs:\n  station %q\n  CSMS    %q", p.identity, i+1, dir, ours[i], theirs[i])
				}
				size += len(ours[i])
			}
			counts[dir] = len(ours)
		}
		if counts[ocpp.FromStation] < 8 || counts[ocpp.FromCSMS] < 8 {
			return seen, errors.New("too few messages for a charging session")
		}
		seen = append(seen, fmt.Sprintf("%s: %d to the CSMS, %d from it, %d bytes equal; %d about its certificate stayed with Bollard",
			p.identity, counts[ocpp.FromStation], counts[ocpp.FromCSMS], size, own))
	}
	return seen, nil
}

func headOf(frame []byte) (id, action string) {
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		return "", ""
	}
	return string(head.ID), head.Action
}

func chargingAction(action string) bool {
	switch action {
	case "BootNotification", "Heartbeat", "Authorize", "StartTransaction", "StopTransaction", "MeterValues", "StatusNotification", "TransactionEvent":
		return true
	}
	return false
}

// withLast adds what a station last met while connecting.
func withLast(s *station.Station, err error) error {
	if last := s.State().LastError; last != "" {
		return fmt.Errorf("%w; its last attempt to connect: %s", err, last)
	}
	return err
}
