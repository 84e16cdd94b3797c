package fleet_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/ocpp"
)

// simStation does what the standard asks of a station, or fails in its way.
type simStation struct {
	Identity, Serial, Group, Site string
	Version                       ocpp.Version
	// Fault: "mute" never answers, "refuse" rejects every change, "keyless" takes
	// no certificate, "fallback" can't connect with its certificate, "silent" is
	// never there.
	Fault string
	// CrossCheck is AdditionalRootCertificateCheck (M05).
	CrossCheck bool

	Password   string
	Key        []byte   // DER
	Chain      [][]byte // leaf first
	Roots      [][]byte // CSMS roots
	Fallback   []byte   // the root kept beside a new one (M05.FR.11 [2.x])
	Slots      map[string]simSlot
	Priority   []string
	Active     string
	TimeSource string
	Stranded   int // times in a row it found no way in

	f      *sim
	mu     sync.Mutex
	reboot bool
}

type simSlot struct {
	URL     string
	Profile int
}

// save is on disk, as far as a kill goes, before the station answers.
func (s *simStation) save() {
	line, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	if _, err := s.f.journal.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func (s *simStation) takeReboot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.reboot
	s.reboot = false
	return was
}

// backend is what the gateway would choose.
func (s *simStation) backend(adm *fleet.Admission) string {
	if adm.Station.Backend != "" {
		return adm.Station.Backend
	}
	return "csms"
}

// connect tries the network profiles in their order, as a station does that
// booted: it checks the server's certificate against its own roots.
func (s *simStation) connect() {
	f := s.f
	f.mu.Lock()
	old := f.live[keyOf(s.Identity)]
	f.mu.Unlock()
	if old != nil {
		old.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.Priority {
		slot := s.Slots[name]
		if !s.trusts(slot.URL) {
			continue
		}
		claim, ok := s.claim(slot)
		if !ok {
			continue
		}
		adm, err := f.svc.Admit(context.Background(), claim)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		f.mu.Lock()
		f.sessions++
		sess := &simSession{s: s, id: fmt.Sprintf("s%d", f.sessions), adm: adm, ctx: ctx, cancel: cancel}
		f.live[keyOf(s.Identity)] = sess
		f.mu.Unlock()
		s.came(name, slot)
		s.mu.Unlock() // what follows may call the station
		f.svc.Opened(sess)
		sess.send("BootNotification", boot(s))
		then := f.svc.Answered(ctx, sess, fleet.Message{Direction: ocpp.FromStation, Action: "BootNotification"},
			ocpp.Head{Type: ocpp.CallResult, Payload: []byte(`{"status":"Accepted","currentTime":"2026-06-01T12:00:00Z","interval":300}`)})
		if then != nil { // nil: the session has ended
			then()
		}
		s.mu.Lock()
		return
	}
	s.Stranded++
}

func boot(s *simStation) any {
	if s.Version == ocpp.V16 {
		return map[string]any{"chargePointVendor": "V", "chargePointModel": "M", "chargeBoxSerialNumber": s.Serial}
	}
	return map[string]any{"reason": "PowerUp", "chargingStation": map[string]any{"model": "M", "vendorName": "V", "serialNumber": s.Serial}}
}

// came is what a station does once a profile has proven itself: lower ones go
// (A05.FR.06), and so does the old root (M05.FR.12).
func (s *simStation) came(name string, slot simSlot) {
	s.Active, s.Stranded = name, 0
	for other, x := range s.Slots {
		if x.Profile < slot.Profile {
			delete(s.Slots, other)
		}
	}
	s.Priority = slices.DeleteFunc(s.Priority, func(n string) bool { _, there := s.Slots[n]; return !there })
	s.save()
}

// claim is what a station presents on a profile.
func (s *simStation) claim(slot simSlot) (fleet.Claim, bool) {
	id, err := ocpp.ParseIdentity(s.Identity)
	if err != nil {
		panic(err)
	}
	c := fleet.Claim{Identity: id, Source: source, Listener: "main", Profiles: []int{2, 3}, TLS: true, NewChain: slot.URL == rolloverURL}
	if slot.Profile == 2 {
		c.Basic = &fleet.Basic{User: s.Identity, Password: []byte(s.Password)}
		return c, true
	}
	if len(s.Chain) == 0 || s.Fault == "fallback" {
		return c, false
	}
	for _, der := range s.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		c.Certificates = append(c.Certificates, cert)
	}
	return c, true
}

// trusts says whether the station's roots lead to what a listener serves. One
// that checks new roots by the old one gives that up once it came under the new
// one alone (M05.FR.12 [2.x]).
func (s *simStation) trusts(url string) bool {
	served := s.f.served(url)
	if !s.f.verify(served[0], served[1:], s.Roots) {
		return false
	}
	if n := len(s.Roots); s.CrossCheck && n > 1 && s.f.verify(served[0], served[1:], s.Roots[n-1:]) {
		s.Fallback, s.Roots = s.Roots[0], s.Roots[n-1:]
	}
	return true
}

// handle answers one frame with another, or not at all.
func (s *simStation) handle(sess *simSession, frame []byte) []byte {
	head, err := ocpp.ParseHead(frame)
	if err != nil {
		panic(err)
	}
	if s.Fault == "mute" {
		return nil
	}
	s.mu.Lock()
	payload := s.answer(sess, head.Action, head.Payload)
	s.save()
	s.mu.Unlock()
	if payload == nil {
		return ocpp.AppendError(nil, head.RawID, s.Version, ocpp.NotImplemented, "")
	}
	answer, err := ocpp.AppendResult(nil, head.RawID, payload)
	if err != nil {
		panic(err)
	}
	return answer
}

type simStatus = ocpp.GenericStatus

func (s *simStation) answer(sess *simSession, action string, raw []byte) any {
	read := func(into any) {
		if err := json.Unmarshal(raw, into); err != nil {
			panic(err)
		}
	}
	refuses := s.Fault == "refuse"
	switch action {
	case "ChangeConfiguration":
		var c ocpp.ChangeConfigurationRequest16
		read(&c)
		return s.configure(c, refuses)
	case "GetConfiguration":
		check := strconv.FormatBool(s.CrossCheck)
		return ocpp.GetConfigurationResponse16{ConfigurationKey: []ocpp.ConfigurationKey16{{Key: "AdditionalRootCertificateCheck", Value: &check}}}
	case "TriggerMessage", "ExtendedTriggerMessage":
		sess.Go(func(context.Context) { s.ask(sess) })
		return simStatus{Status: "Accepted"}
	case "CertificateSigned":
		if s.Fault == "keyless" {
			return simStatus{Status: "Rejected"}
		}
		return s.takeCertificate(raw)
	case "Reset":
		s.reboot = true
		return simStatus{Status: "Accepted"}
	case "SetNetworkProfile":
		var set ocpp.SetNetworkProfileRequest
		read(&set)
		if refuses || set.ConfigurationSlot > 3 {
			return simStatus{Status: "Rejected"}
		}
		s.Slots[strconv.Itoa(set.ConfigurationSlot)] = simSlot{set.ConnectionData.OCPPCSMSURL, set.ConnectionData.SecurityProfile}
		return simStatus{Status: "Accepted"}
	case "SetVariables":
		var set ocpp.SetVariablesRequest
		read(&set)
		var out ocpp.SetVariablesResponse
		for _, v := range set.SetVariableData {
			out.SetVariableResult = append(out.SetVariableResult, ocpp.SetVariableResult{
				AttributeStatus: s.setVariable(v.Variable.Name, v.AttributeValue), Component: v.Component, Variable: v.Variable})
		}
		return out
	case "GetVariables":
		var get ocpp.GetVariablesRequest
		read(&get)
		values := map[string]string{"NetworkConfigurationPriority": strings.Join(s.Priority, ","), "ActiveNetworkProfile": s.Active,
			"AdditionalRootCertificateCheck": strconv.FormatBool(s.CrossCheck), "TimeSource": s.TimeSource}
		var out ocpp.GetVariablesResponse
		for _, g := range get.GetVariableData {
			r := ocpp.GetVariableResult{AttributeStatus: "UnknownVariable", Component: g.Component, Variable: g.Variable}
			if v, ok := values[g.Variable.Name]; ok {
				r.AttributeStatus, r.AttributeValue = "Accepted", v
			}
			out.GetVariableResult = append(out.GetVariableResult, r)
		}
		return out
	case "InstallCertificate":
		var in ocpp.InstallCertificateRequest
		read(&in)
		if refuses {
			return simStatus{Status: "Rejected"}
		}
		return s.installRoot(in.Certificate)
	case "DeleteCertificate":
		var del ocpp.DeleteCertificateRequest
		read(&del)
		return s.deleteRoot(del.CertificateHashData)
	case "GetInstalledCertificateIds":
		return s.listRoots()
	}
	return nil
}

func (s *simStation) configure(c ocpp.ChangeConfigurationRequest16, refuses bool) any {
	switch {
	case refuses && c.Key != "CpoName":
		return simStatus{Status: "Rejected"}
	case c.Key == "SecurityProfile":
		n, _ := strconv.Atoi(c.Value)
		if n <= s.Slots[s.Active].Profile || n == 3 && len(s.Chain) == 0 {
			return simStatus{Status: "Rejected"} // A05.FR.01, .04
		}
		s.Slots["2"] = simSlot{s.Slots[s.Active].URL, n}
		s.Priority = []string{"2", s.Active} // A05.FR.08
		s.reboot = true
	case c.Key == "AuthorizationKey":
		b, err := hex.DecodeString(c.Value)
		if err != nil {
			return simStatus{Status: "Rejected"}
		}
		s.Password, s.reboot = string(b), true
	}
	return simStatus{Status: "Accepted"}
}

func (s *simStation) setVariable(name, value string) string {
	switch name {
	case "BasicAuthPassword":
		s.Password, s.reboot = value, true
	case "NetworkConfigurationPriority":
		list := strings.Split(value, ",")
		for _, slot := range list {
			if x, there := s.Slots[slot]; !there || x.Profile == 3 && len(s.Chain) == 0 { // A05.FR.03
				return "Rejected"
			}
		}
		s.Priority = list
	case "TimeSource":
		if s.Fault == "refuse" {
			return "Rejected"
		}
		s.TimeSource = value
	}
	return "Accepted"
}

// ask sends a CSR for a new key (A02).
func (s *simStation) ask(sess *simSession) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: s.Serial, Organization: []string{organisation}}}, key)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.Key = private
	s.save()
	s.mu.Unlock()
	sess.send("SignCertificate", map[string]string{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
}

// takeCertificate comes back with it at once where it connects with one (A02.FR.08).
func (s *simStation) takeCertificate(raw []byte) any {
	chain := chainOf(s.f.t, raw)
	key, err := x509.ParseECPrivateKey(s.Key)
	if err != nil || !key.PublicKey.Equal(chain[0].PublicKey) {
		return simStatus{Status: "Rejected"}
	}
	s.Chain = nil
	for _, c := range chain {
		s.Chain = append(s.Chain, c.Raw)
	}
	s.reboot = s.reboot || s.Slots[s.Active].Profile == 3
	return simStatus{Status: "Accepted"}
}

func (s *simStation) installRoot(text string) any {
	cert := parsePEM(s.f.t, text)
	if s.CrossCheck { // M05.FR.10 [2.x]
		old, err := x509.ParseCertificate(s.Roots[len(s.Roots)-1])
		if err != nil || cert.CheckSignatureFrom(old) != nil || len(s.Roots) > 1 {
			return simStatus{Status: "Rejected"}
		}
	}
	if !slices.ContainsFunc(s.Roots, func(r []byte) bool { return bytes.Equal(r, cert.Raw) }) {
		s.Roots = append(s.Roots, cert.Raw)
	}
	return simStatus{Status: "Accepted"}
}

func (s *simStation) hash(der []byte) ocpp.CertificateHashData {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	issuer := cert
	for _, other := range append(slices.Clone(s.Roots), s.Fallback) {
		if c, err := x509.ParseCertificate(other); err == nil && cert.CheckSignatureFrom(cert) != nil && cert.CheckSignatureFrom(c) == nil {
			issuer = c
		}
	}
	d, err := hashdata.Of("SHA256", cert, issuer)
	if err != nil {
		panic(err)
	}
	return d
}

func (s *simStation) deleteRoot(d ocpp.CertificateHashData) any {
	before := len(s.Roots)
	s.Roots = slices.DeleteFunc(s.Roots, func(der []byte) bool { return s.hash(der) == d })
	if len(s.Roots) == before {
		return simStatus{Status: "NotFound"}
	}
	return simStatus{Status: "Accepted"}
}

func (s *simStation) listRoots() any {
	if s.Version == ocpp.V16 {
		out := ocpp.GetInstalledCertificateIDsResponse16{Status: "Accepted"}
		for _, der := range s.Roots {
			out.CertificateHashData = append(out.CertificateHashData, s.hash(der))
		}
		return out
	}
	out := ocpp.GetInstalledCertificateIDsResponse{Status: "Accepted"}
	for _, der := range s.Roots {
		out.CertificateHashDataChain = append(out.CertificateHashDataChain, ocpp.CertificateHashDataChain{CertificateType: ocpp.CSMSRoot, CertificateHashData: s.hash(der)})
	}
	return out
}

// profile is the one it connected with last.
func (s *simStation) profile() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Slots[s.Active].Profile
}

func slotURLs(s *simStation) []string {
	var urls []string
	for _, name := range slices.Sorted(maps.Keys(s.Slots)) {
		urls = append(urls, s.Slots[name].URL)
	}
	return urls
}
