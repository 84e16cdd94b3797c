package est

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/smallstep/pkcs7"

	"bollard/ca"
)

// Prefix is the path below which everything is (RFC 7030 §3.2.2).
const Prefix = "/.well-known/est/"

// realm of HTTP Basic.
const realm = "enrolment"

// lineLength of base64 answers (RFC 2045 §6.8).
const lineLength = 76

// operation is one thing a client may ask for.
type operation struct {
	method string
	serve  func(w http.ResponseWriter, r *http.Request) *Refusal
}

// door serves the operations. What isn't in the list doesn't exist: neither
// /serverkeygen and /fullcmc nor CA labels (RFC 7030 §3.2.2).
type door struct {
	cfg        Config
	operations map[string]operation
	attributes []byte // of /csrattrs, as sent
}

// New returns the handler of everything below Prefix. It serves requests that
// came over TLS only.
func New(cfg Config) (http.Handler, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	attributes, err := csrAttributes(cfg.Keys)
	if err != nil {
		return nil, err
	}
	d := &door{cfg: cfg, attributes: encode(attributes)}
	d.operations = map[string]operation{
		"cacerts":        {http.MethodGet, d.caCertificates},
		"csrattrs":       {http.MethodGet, d.csrAttributes},
		"simpleenroll":   {http.MethodPost, d.enrol(false)},
		"simplereenroll": {http.MethodPost, d.enrol(true)},
	}
	return d, nil
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	name, known := strings.CutPrefix(r.URL.Path, Prefix)
	op, ok := d.operations[name]
	if !known || !ok {
		name = ""
	}
	defer func() { d.cfg.Served(name, counted.status) }()
	var refused *Refusal
	switch {
	case name == "":
		refused = public(http.StatusNotFound, "there are /cacerts, /csrattrs, /simpleenroll and /simplereenroll directly below "+strings.TrimSuffix(Prefix, "/"))
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
	for _, cert := range d.cfg.Authority.Roots(ca.KindCSMS) {
		list = append(list, cert.Raw...)
	}
	for _, cert := range d.cfg.Authority.Intermediates(ca.KindCSMS) {
		list = append(list, cert.Raw...)
	}
	bag, err := pkcs7.DegenerateCertificate(list)
	if err != nil {
		d.cfg.Log.Error("couldn't encode the CA certificates", slog.Any("err", err))
		return public(http.StatusInternalServerError, "the CA certificates can't be encoded")
	}
	send(w, "application/pkcs7-mime", encode(bag))
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
		bag, err := pkcs7.DegenerateCertificate(issued.Certificate.Raw)
		if err != nil {
			return d.uncertified(applicant, err)
		}
		send(w, "application/pkcs7-mime; smime-type=certs-only", encode(bag))
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

// encode is base64 in lines.
func encode(der []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	var out []byte
	for len(text) > 0 {
		n := min(lineLength, len(text))
		out = append(append(out, text[:n]...), '\n')
		text = text[n:]
	}
	return out
}

// statusWriter remembers the status for counting.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes and passes on.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.MaxBytesReader and http.ResponseController find the
// connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
