package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/contract/pool"
	"bollard/iso15118/message"
)

// elsewhere is a pool of others on a real socket.
type elsewhere struct {
	*httptest.Server
	mu     sync.Mutex
	heard  []string // method and path of each request
	tokens int
	token  func(n int) (status int, body string)
	answer func(w http.ResponseWriter, r *http.Request, n int)
	asked  int
}

const secret = "the-client-secret-of-near"

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	e := &elsewhere{
		token: func(n int) (int, string) {
			return 200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer","expires_in":3600,"scope":"ccpservice"}`, n)
		},
		answer: func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, answerOf("AQI=")) },
	}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.Close)
	return e
}

func answerOf(exi ...string) string {
	var list []string
	for _, one := range exi {
		list = append(list, `{"messageDef":{"certificateInstallationRes":"`+one+`","emaid":"NLEXA123456789","cpsRootCertificateId":"x"}}`)
	}
	return `{"CCPResponse":{"emaidContent":[` + strings.Join(list, ",") + `]}}`
}

func (e *elsewhere) serve(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.heard = append(e.heard, r.Method+" "+r.URL.Path)
	isToken := r.URL.Path == "/base/oauth/token"
	n := 0
	if isToken {
		e.tokens++
		n = e.tokens
	} else {
		e.asked++
		n = e.asked
	}
	e.mu.Unlock()
	if !isToken {
		e.answer(w, r, n)
		return
	}
	var in struct{ ID, Secret, Audience, Grant string }
	body, _ := io.ReadAll(r.Body)
	var wire map[string]string
	if err := json.Unmarshal(body, &wire); err == nil {
		in.ID, in.Secret, in.Audience, in.Grant = wire["client_id"], wire["client_secret"], wire["audience"], wire["grant_type"]
	}
	if in.ID != "near" || in.Secret != secret || in.Audience != e.URL+"/base" || in.Grant != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	status, text := e.token(n)
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

func (e *elsewhere) client(t *testing.T, edit ...func(*pool.ClientConfig)) *pool.Client {
	t.Helper()
	cfg := pool.ClientConfig{URL: e.URL + "/base", ID: "near", Secret: []byte(secret), Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, f := range edit {
		f(&cfg)
	}
	c, err := pool.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The public shape of a question, with an access token that is fetched once, and
// anew when it ends.
func TestAsk(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t)
	now := atomic.Int64{}
	now.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Unix())
	c := e.client(t, func(cfg *pool.ClientConfig) { cfg.Clock = func() time.Time { return time.Unix(now.Load(), 0) } })
	want := "Bearer token-1"
	e.answer = func(w http.ResponseWriter, r *http.Request, _ int) {
		body, _ := io.ReadAll(r.Body)
		if got := string(body); got != `{"certificateInstallationReq":"gJg=","xsdMsgDefNamespace":"urn:iso:15118:2:2013:MsgDef"}` {
			t.Errorf("asked %s", got)
		}
		if r.Header.Get("Authorization") != want || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("asked with %v", r.Header)
		}
		fmt.Fprint(w, answerOf("AQI=", "Aw=="))
	}
	ask := func() {
		t.Helper()
		list, err := c.Ask(t.Context(), message.ISO2, []byte{0x80, 0x98})
		if err != nil || len(list) != 2 || string(list[0]) != "\x01\x02" || string(list[1]) != "\x03" {
			t.Errorf("got %v, %v", list, err)
		}
	}
	ask()
	ask()
	now.Add(3600 * 95 / 100)
	want = "Bearer token-2"
	ask()
	e.mu.Lock()
	defer e.mu.Unlock()
	if got := strings.Join(e.heard, "\n"); got != strings.TrimSpace(`
POST /base/oauth/token
POST /base/v1/ccp/signedContractData
POST /base/v1/ccp/signedContractData
POST /base/oauth/token
POST /base/v1/ccp/signedContractData`) {
		t.Errorf("heard\n%s", got)
	}
}

// What may go better is tried again, a few times; what won't isn't. No error tells
// anything of question, answer or secret.
func TestTries(t *testing.T) {
	t.Parallel()
	status := func(codes ...int) func(http.ResponseWriter, *http.Request, int) {
		return func(w http.ResponseWriter, _ *http.Request, n int) {
			code := codes[min(n, len(codes))-1]
			w.WriteHeader(code)
			if code == 200 {
				fmt.Fprint(w, answerOf("AQI="))
			} else {
				fmt.Fprint(w, `{"errorMessages":["WP0TESTA00000001A3"],"traceId":"x"}`)
			}
		}
	}
	text := func(code int, body string) func(http.ResponseWriter, *http.Request, int) {
		return func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(code); fmt.Fprint(w, body) }
	}
	long := strings.Repeat("A", 17004)
	for name, tt := range map[string]struct {
		answer        func(http.ResponseWriter, *http.Request, int)
		token         func(int) (int, string)
		asked, tokens int
		got           int // answers; -1: an error
	}{
		"well":                   {status(200), nil, 1, 1, 1},
		"busy, then well":        {status(503, 429, 200), nil, 3, 1, 1},
		"busy":                   {status(503), nil, 3, 1, -1},
		"token ended":            {status(401, 200), nil, 2, 2, 1},
		"token never counts":     {status(401), nil, 3, 3, -1},
		"not allowed":            {status(403), nil, 1, 1, -1},
		"bad request":            {status(400), nil, 1, 1, -1},
		"nothing in plain words": {status(404), nil, 1, 1, 0},
		"nothing there":          {text(404, "<html>404 page not found"), nil, 1, 1, -1},
		"nothing in JSON":        {text(404, `{"message":"no route"}`), nil, 1, 1, -1},
		"nothing, for the car":   {text(404, answerOf("AQI=")), nil, 1, 1, 1},
		"breaks off":             {func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }, nil, 3, 1, -1},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request, _ int) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				fmt.Fprint(conn, "WP0TESTA00000001A3\r\n\r\n")
				conn.Close()
			}
		}, nil, 3, 1, -1},
		"no JSON":          {text(200, "<html>"), nil, 1, 1, -1},
		"no answer in it":  {text(200, "{}"), nil, 1, 1, -1},
		"read in two ways": {text(200, `{"CCPResponse":{"emaidContent":[]},"CCPResponse":{"emaidContent":[]}}`), nil, 1, 1, -1},
		"no base64":        {text(200, answerOf("%%%%")), nil, 1, 1, -1},
		"empty":            {text(200, answerOf("")), nil, 1, 1, -1},
		"too long":         {text(200, answerOf(long)), nil, 1, 1, -1},
		"too many":         {text(200, answerOf("AQI=", "AQI=", "AQI=", "AQI=", "AQI=", "AQI=", "AQI=", "AQI=", "AQI=")), nil, 1, 1, -1},
		"without end":      {text(200, strings.Repeat(" ", 300<<10)), nil, 1, 1, -1},
		"leads elsewhere": {func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, nil, 1, 1, -1},
		"no token":               {status(200), func(int) (int, string) { return 401, `{"error":"access_denied"}` }, 0, 1, -1},
		"token that isn't one":   {status(200), func(int) (int, string) { return 200, `{"access_token":"a b","token_type":"Bearer"}` }, 0, 1, -1},
		"token of another kind":  {status(200), func(int) (int, string) { return 200, `{"access_token":"a","token_type":"mac"}` }, 0, 1, -1},
		"token's answer no JSON": {status(200), func(int) (int, string) { return 200, `a` }, 0, 1, -1},
		"token without an end":   {status(200), func(int) (int, string) { return 200, `{"access_token":"a","token_type":"Bearer"}` }, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newElsewhere(t)
			e.answer = tt.answer
			if tt.token != nil {
				e.token = tt.token
			}
			list, err := e.client(t).Ask(t.Context(), message.ISO2, []byte("WP0TESTA00000001A3"))
			if (err != nil) != (tt.got < 0) || err == nil && len(list) != tt.got {
				t.Errorf("%d answers, %v", len(list), err)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.asked != tt.asked || e.tokens != tt.tokens {
				t.Errorf("asked %d times with %d tokens, want %d and %d", e.asked, e.tokens, tt.asked, tt.tokens)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "WP0TEST")) {
				t.Errorf("the error tells: %v", err)
			}
		})
	}
}

// A pool that hangs, or whose tokens do, costs the time that its asker has and one of
// few places.
func TestHangingPool(t *testing.T) {
	t.Parallel()
	for name, tokens := range map[string]bool{"pool": false, "tokens": true} {
		e := newElsewhere(t)
		release, began := make(chan struct{}), make(chan struct{}, 2)
		e.answer = func(w http.ResponseWriter, _ *http.Request, n int) {
			if n <= 2 {
				began <- struct{}{}
				<-release
			}
			fmt.Fprint(w, answerOf("AQI="))
		}
		if tokens {
			e.token = func(int) (int, string) { <-release; return 500, "" }
		}
		c := e.client(t)
		c.SetAsked(1)
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Ask(short, message.ISO2, []byte{1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if !tokens {
			// Another one is kept out as long as the first one's place is taken, though the
			// pool would answer it at once.
			hanging, hangUp := context.WithCancel(t.Context())
			<-began
			first := make(chan error)
			go func() { _, err := c.Ask(hanging, message.ISO2, []byte{1}); first <- err }()
			<-began
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := c.Ask(short, message.ISO2, []byte{1}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("past the bound: %v", err)
			}
			hangUp()
			if err := <-first; !errors.Is(err, context.Canceled) {
				t.Errorf("hung up: %v", err)
			}
		}
		close(release)
		if list, err := c.Ask(t.Context(), message.ISO2, []byte{1}); tokens != (err != nil) || !tokens && len(list) != 1 {
			t.Errorf("%s afterwards: %d answers, %v", name, len(list), err)
		}
	}
}

// A client is of https, or of this machine, and has something to prove itself with.
func TestClientConfig(t *testing.T) {
	t.Parallel()
	good := pool.ClientConfig{URL: "https://pool.example.com", ID: "a", Secret: []byte("s")}
	for name, tt := range map[string]struct {
		edit func(*pool.ClientConfig)
		ok   bool
	}{
		"good":            {func(*pool.ClientConfig) {}, true},
		"http":            {func(c *pool.ClientConfig) { c.URL = "http://pool.example.com" }, false},
		"token over http": {func(c *pool.ClientConfig) { c.TokenURL = "http://pool.example.com/t" }, false},
		"no URL":          {func(c *pool.ClientConfig) { c.URL = "pool" }, false},
		"credentials":     {func(c *pool.ClientConfig) { c.URL = "https://a:b@pool.example.com" }, false},
		"no secret":       {func(c *pool.ClientConfig) { c.Secret = nil }, false},
		"no client":       {func(c *pool.ClientConfig) { c.ID = "" }, false},
		"this machine by http": {func(c *pool.ClientConfig) {
			c.URL, c.Networks = "http://127.0.0.1:1", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}, true},
	} {
		cfg := good
		tt.edit(&cfg)
		if _, err := pool.NewClient(cfg); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(answerOf("AQI=")))
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":86400}`))
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":1e-10}`))
	f.Add([]byte(`{"CCPResponse":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := pool.ReadAnswers(body)
		if err == nil && len(list) > 8 {
			t.Error("more answers than a car names contracts")
		}
		for _, exi := range list {
			if len(exi) == 0 || len(exi) > 17000*3/4 {
				t.Errorf("an answer of %d bytes", len(exi))
			}
		}
		if exi, err := pool.ReadSigned(body); err == nil && len(exi) == 0 {
			t.Error("nothing was signed")
		}
		if token, lasts, err := pool.ReadToken(body); err == nil && (strings.ContainsAny(token, " \r\n") || token == "" || lasts <= 0 || lasts > 24*time.Hour) {
			t.Errorf("token %q for %s", token, lasts)
		}
	})
}
