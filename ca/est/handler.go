package est

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"bollard/ca"
	"bollard/internal/httpdoor"
)

// Prefix is the path below which everything is (RFC 7030 §3.2.2).
const Prefix = "/.well-known/est/"

// realm of HTTP Basic.
const realm = "enrolment"

// operation is one thing a client may ask for.
type operation struct {
	method string
	serve  func(w http.ResponseWriter, r *http.Request) *Refusal
}

// door serves the operations. What isn't in the list doesn't exist: neither
// /serverkeygen nor /fullcmc.
type door struct {
	cfg        Config
	kind       ca.Kind
	operations map[string]operation
	attributes []byte           // of /csrattrs, as sent
	labels     map[string]*door // by CA label
}

// New returns the handler of everything below Prefix. It serves requests that
// came over TLS only.
func New(cfg Config) (http.Handler, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	d, err := newDoor(cfg, ca.KindCSMS)
	if err != nil {
		return nil, err
	}
	d.operations["simplereenroll"] = operation{http.MethodPost, d.enrol(true)}
	for _, label := range cfg.Labels {
		own := cfg
		own.Keys, own.Registrar = label.Keys, label.Registrar
		if d.labels[string(label.Kind)], err = newDoor(own, label.Kind); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func newDoor(cfg Config, kind ca.Kind) (*door, error) {
	attributes, err := csrAttributes(cfg.Keys)
	if err != nil {
		return nil, err
	}
	d := &door{cfg: cfg, kind: kind, attributes: encode(attributes), labels: map[string]*door{}}
	d.operations = map[string]operation{
		"cacerts":      {http.MethodGet, d.caCertificates},
		"csrattrs":     {http.MethodGet, d.csrAttributes},
		"simpleenroll": {http.MethodPost, d.enrol(false)},
	}
	return d, nil
}

// find returns the operation of a path, and its name; "" if there is none.
func (d *door) find(path string) (operation, string) {
	name, known := strings.CutPrefix(path, Prefix)
	if label, rest, labelled := strings.Cut(name, "/"); labelled {
		below := d.labels[label]
		if below == nil || len(d.cfg.Authority.Paths(below.kind)) == 0 {
			return operation{}, ""
		}
		d, name = below, rest
	}
	op, ok := d.operations[name]
	if !known || !ok {
		return operation{}, ""
	}
	return op, name
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := httpdoor.NewAnswer(w)
	op, name := d.find(r.URL.Path)
	defer func() { d.cfg.Served(name, counted.Status) }()
	var refused *Refusal
	switch {
	case name == "":
		refused = public(http.StatusNotFound, "there are /cacerts, /csrattrs, /simpleenroll and /simplereenroll directly below "+strings.TrimSuffix(Prefix, "/")+", and the first three below the label of a CA that enrols here")
	case r.TLS == nil:
		refused = public(http.StatusForbidden, "EST is served over TLS only")
	case r.Method != op.method:
		counted.Header().Set("Allow", op.method)
		refused = public(http.StatusMethodNotAllowed, "/"+name+" takes "+op.method)
	default:
		refused = op.serve(counted, r)
	}
	if refused != nil {
		answer(counted, refused)
	}
}

// answer tells a client that and why not. A Retry-After in a 202 asks it to
// send the same request again (RFC 7030 §4.2.3).
func answer(w http.ResponseWriter, r *Refusal) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(r.RetryAfter.Seconds()))))
	}
	if r.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="`+realm+`", charset="UTF-8"`)
	}
	http.Error(w, r.Public, r.Status)
}

// caCertificates serves the roots and what is between them and a station's
// certificate (RFC 7030 §4.1.3). Everybody may have it.
func (d *door) caCertificates(w http.ResponseWriter, _ *http.Request) *Refusal {
	var list []byte
	certs := slices.Concat(d.cfg.Authority.Roots(d.kind), d.cfg.Authority.Intermediates(d.kind))
	for _, path := range d.cfg.Authority.Paths(d.kind) { // under roots of others, too
		certs = append(append(certs, path.Root), path.Chain...)
	}
	for i, cert := range certs {
		if !slices.ContainsFunc(certs[:i], cert.Equal) {
			list = append(list, cert.Raw...)
		}
	}
	send(w, "application/pkcs7-mime", encode(certsOnly(list)))
	return nil
}

func (d *door) csrAttributes(w http.ResponseWriter, _ *http.Request) *Refusal {
	send(w, "application/csrattrs", d.attributes)
	return nil
}

// enrol is simpleenroll and simplereenroll. The sender comes first: a body of
// somebody unproven isn't read.
func (d *door) enrol(renewal bool) func(http.ResponseWriter, *http.Request) *Refusal {
	return func(w http.ResponseWriter, r *http.Request) *Refusal {
		if refused := checkHead(r); refused != nil {
			return refused
		}
		applicant, err := d.cfg.Registrar.Prove(r.Context(), claimOf(r, renewal))
		if err != nil {
			return d.unproven(err)
		}
		der, refused := readRequest(w, r)
		if refused != nil {
			return d.refused(applicant, refused)
		}
		csr, err := ca.ParseCSR(der)
		if err != nil {
			// A *ca.CSRError: it names algorithms and sizes, nothing of the content.
			return d.refused(applicant, public(http.StatusBadRequest, err.Error()))
		}
		issued, err := applicant.Certify(r.Context(), csr)
		if err != nil {
			return d.uncertified(applicant, err)
		}
		// Only the certificate that was issued (RFC 7030 §4.2.3).
		send(w, "application/pkcs7-mime; smime-type=certs-only", encode(certsOnly(issued.Certificate.Raw)))
		return nil
	}
}

func claimOf(r *http.Request, renewal bool) Claim {
	claim := Claim{Certificates: r.TLS.PeerCertificates, Renewal: renewal}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		claim.Source = at.Addr()
	}
	if user, secret, ok := r.BasicAuth(); ok {
		claim.Basic = &Basic{User: user, Secret: []byte(secret)}
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		claim.Bearer = token
	}
	return claim
}

// unproven: the Registrar has logged why it refused.
func (d *door) unproven(err error) *Refusal {
	var refused *Refusal
	if errors.As(err, &refused) {
		return refused
	}
	d.cfg.Log.Error("couldn't judge who asks for a certificate", slog.Any("err", err))
	return &Refusal{Status: http.StatusServiceUnavailable, Public: "try again later", RetryAfter: d.cfg.RetryAfter}
}

func (d *door) refused(a Applicant, refused *Refusal) *Refusal {
	d.cfg.Log.Warn("certificate request refused", slog.String("station", a.Station()), slog.String("reason", refused.Reason))
	return refused
}

// uncertified tells a refusal from what the same request may get later.
func (d *door) uncertified(a Applicant, err error) *Refusal {
	var refused *Refusal
	if errors.As(err, &refused) {
		return d.refused(a, refused)
	}
	d.cfg.Log.Error("certificate request waits: the station is asked to repeat it", slog.String("station", a.Station()), slog.Any("err", err))
	return &Refusal{Status: http.StatusAccepted, Public: "nothing can be signed at the moment: send the same request again later", RetryAfter: d.cfg.RetryAfter}
}

// send writes a base64 answer. Content-Transfer-Encoding is deprecated (RFC
// 8951), but clients of RFC 7030's time look for it.
func send(w http.ResponseWriter, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // a peer that left repeats its request
}
