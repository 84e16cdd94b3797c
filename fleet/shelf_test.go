package fleet_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"bollard/ca/hashdata"
	"bollard/fleet"
	"bollard/ocpp"
)

// shelf is a station's store of roots, with the deviations of real ones.
type shelf struct {
	t         testing.TB
	version   ocpp.Version
	algorithm string
	empty     string // status when nothing is installed
	spell     func(ocpp.CertificateHashData) ocpp.CertificateHashData
	install   string // status to InstallCertificate; "": Accepted
	remove    string // status to DeleteCertificate; "": Accepted
	values    map[string]string
	over      map[string]any
	inside    bool // 1.6: knows these messages inside DataTransfer only
	unknown   bool // 1.6: nor there
	inSlots   bool // 2.1: its password is in its network profiles

	mu    sync.Mutex
	roots map[string][]*x509.Certificate // by wire use
	old   map[*x509.Certificate]*x509.Certificate
	log   []string
}

func newShelf(t testing.TB, v ocpp.Version) *shelf {
	return &shelf{t: t, version: v, algorithm: "SHA256", empty: "NotFound", roots: map[string][]*x509.Certificate{},
		spell: func(d ocpp.CertificateHashData) ocpp.CertificateHashData { return d }}
}

func (h *shelf) hash(c *x509.Certificate) ocpp.CertificateHashData {
	issuer := c
	if h.old[c] != nil {
		issuer = h.old[c]
	}
	d, err := hashdata.Of(h.algorithm, c, issuer)
	if err != nil {
		h.t.Error(err)
	}
	return h.spell(d)
}

func (h *shelf) answer(action string, payload json.RawMessage) (any, error) {
	if action == "DataTransfer" && h.inside {
		return h.transfer(payload)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inside && h.version == ocpp.V16 && strings.Contains(action, "Certificate") {
		return nil, &ocpp.CallFailure{Code: ocpp.NotImplemented}
	}
	return h.obey(action, payload)
}

// obey does what it is told. The caller holds h.mu.
func (h *shelf) obey(action string, payload json.RawMessage) (any, error) {
	read := func(into any) {
		if err := json.Unmarshal(payload, into); err != nil {
			h.t.Error(err)
		}
	}
	switch action {
	case "GetConfiguration":
		out := ocpp.GetConfigurationResponse16{}
		for k, v := range h.values {
			out.ConfigurationKey = append(out.ConfigurationKey, ocpp.ConfigurationKey16{Key: k, Value: &v})
		}
		return out, nil
	case "GetVariables":
		var get ocpp.GetVariablesRequest
		read(&get)
		out := ocpp.GetVariablesResponse{}
		for _, g := range get.GetVariableData {
			r := ocpp.GetVariableResult{AttributeStatus: "UnknownVariable", Component: g.Component, Variable: g.Variable}
			if v, ok := h.values[g.Variable.Name]; ok {
				r.AttributeStatus, r.AttributeValue = "Accepted", v
			} else if g.Variable.Name == "BasicAuthPassword" && !h.inSlots {
				r.AttributeStatus = "Rejected" // write-only
			}
			out.GetVariableResult = append(out.GetVariableResult, r)
		}
		return out, nil
	case "GetInstalledCertificateIds":
		return h.list(payload), h.failure(action)
	case "InstallCertificate":
		var in ocpp.InstallCertificateRequest
		read(&in)
		h.log = append(h.log, "install "+in.CertificateType)
		if err := h.failure(action); err != nil {
			return nil, err
		}
		if h.install != "" {
			return ocpp.GenericStatus{Status: h.install}, nil
		}
		block, rest := pem.Decode([]byte(in.Certificate))
		if block == nil || len(rest) != 0 {
			h.t.Errorf("InstallCertificate %q", in.Certificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			h.t.Error(err)
		}
		for _, before := range h.roots[in.CertificateType] {
			if !cert.Equal(before) && cert.CheckSignatureFrom(before) == nil {
				if h.old == nil {
					h.old = map[*x509.Certificate]*x509.Certificate{}
				}
				h.old[cert] = before
			}
		}
		h.roots[in.CertificateType] = append(h.roots[in.CertificateType], cert)
	case "DeleteCertificate":
		var in ocpp.DeleteCertificateRequest
		read(&in)
		h.log = append(h.log, "delete "+in.CertificateHashData.HashAlgorithm)
		if h.remove != "" {
			return ocpp.GenericStatus{Status: h.remove}, nil
		}
		found := false
		for use, list := range h.roots {
			h.roots[use] = slices.DeleteFunc(list, func(c *x509.Certificate) bool {
				gone := h.hash(c) == in.CertificateHashData
				found = found || gone
				return gone
			})
		}
		if !found {
			return ocpp.GenericStatus{Status: "NotFound"}, nil
		}
	default:
		return obedient(h.over)(action, payload)
	}
	return ocpp.GenericStatus{Status: "Accepted"}, nil
}

func (h *shelf) failure(action string) error {
	if err, ok := h.over[action].(error); ok {
		return err
	}
	return nil
}

// transfer takes the 2.0.1 message out of a DataTransfer and puts its answer in.
func (h *shelf) transfer(payload json.RawMessage) (any, error) {
	var in ocpp.DataTransferRequest
	var text string
	if err := errors.Join(json.Unmarshal(payload, &in), json.Unmarshal(in.Data, &text)); err != nil {
		return nil, err
	}
	if in.VendorID != "org.openchargealliance.iso15118pnc" || h.unknown {
		return ocpp.DataTransferResponse{Status: "UnknownVendorId"}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, "inside "+in.MessageID)
	v := h.version
	h.version = ocpp.V201
	answer, err := h.obey(in.MessageID, json.RawMessage(text))
	h.version = v
	if err != nil {
		return nil, err
	}
	quoted := marshal(h.t, marshal(h.t, answer))
	return ocpp.DataTransferResponse{Status: "Accepted", Data: json.RawMessage(quoted)}, nil
}

func (h *shelf) list(payload json.RawMessage) any {
	if h.version == ocpp.V16 {
		var in ocpp.GetInstalledCertificateIDsRequest16
		if err := json.Unmarshal(payload, &in); err != nil {
			h.t.Error(err)
		}
		out := ocpp.GetInstalledCertificateIDsResponse16{Status: "Accepted"}
		for _, c := range h.roots[in.CertificateType] {
			out.CertificateHashData = append(out.CertificateHashData, h.hash(c))
		}
		if len(out.CertificateHashData) == 0 {
			out.Status = h.empty
		}
		return out
	}
	var in ocpp.GetInstalledCertificateIDsRequest
	if err := json.Unmarshal(payload, &in); err != nil {
		h.t.Error(err)
	}
	out := ocpp.GetInstalledCertificateIDsResponse{Status: "Accepted"}
	for use, list := range h.roots {
		for _, c := range list {
			if len(in.CertificateType) == 0 || slices.Contains(in.CertificateType, use) {
				out.CertificateHashDataChain = append(out.CertificateHashDataChain, ocpp.CertificateHashDataChain{CertificateType: use, CertificateHashData: h.hash(c)})
			}
		}
	}
	if len(out.CertificateHashDataChain) == 0 {
		out.Status = h.empty
	}
	return out
}

func (h *shelf) done() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

func (h *shelf) holds(use string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.roots[use])
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func (r *rig) plan(identity string) fleet.Plan {
	r.t.Helper()
	p, err := r.svc.Plan(r.t.Context(), identity)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// shelved has a station on profile 2 connected with a shelf of roots.
func (r *rig) shelved(h *shelf) *fakeSession {
	r.t.Helper()
	s, _ := r.basic("CS-1", h.version, h.answer)
	s.ready()
	return s
}

func (r *rig) wantRoot(use string, data []byte) {
	r.t.Helper()
	if _, err := r.svc.WantRoot(r.t.Context(), "operator", "CS-1", use, data); err != nil {
		r.t.Fatal(err)
	}
}
