package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// hsmCalls is how many calls of one module run at a time.
	hsmCalls = 4
	// hsmTimeout bounds one use of a token, waiting and logging in included; of
	// making a key, the time from its turn on.
	hsmTimeout = 10 * time.Second
)

// Errors inside the package.
var (
	errLoggedOut = errors.New("the token isn't logged in")
	errOtherKey  = errors.New("the token holds another key under this name; bring the right token back")
	errKeyGone   = errors.New("the token no longer holds the key")
)

// modules are what the keys of one Keeper are reached through, outside files.
type modules struct {
	timeout time.Duration
	dial    func(at place, secret []byte) (hsm, error)
	log     *slog.Logger

	mu   sync.Mutex
	open map[string]*module
}

// module is one PKCS#11 library, one TPM, or one login to Vault. Ordinary calls hold one
// share of it, logging in holds all: a library sees a token that came back only after it
// was finalised, which nothing else may use it during.
type module struct {
	modules *modules
	kind    string // for people
	calls   int64  // at a time
	shares  *semaphore.Weighted
	running sync.WaitGroup
	ended   atomic.Int64 // calls that returned

	mu     sync.Mutex
	tokens map[string]*token
	lost   []hsm // logins that failed, to be closed when nobody uses the module
}

// token is one token of a module: a place with a login.
type token struct {
	m       *module
	at      place
	pin     func() ([]byte, error) // Config.PIN
	login   *login                 // guarded by m.mu; nil: logged out
	logged  bool                   // guarded by m.mu; was logged in before
	away    bool                   // guarded by m.mu; the log says that it is gone
	wrong   [32]byte               // hash of the secret that was refused; guarded by m.mu or all shares
	refused time.Time              // when it was; guarded likewise
	gone    bool                   // the last login failed; used holding all shares
}

// login is one opened session with a token, and the keys found through it.
type login struct {
	hsm    hsm
	secret [32]byte // hash of what it was made with
	mu     sync.Mutex
	keys   map[string]crypto.Signer
}

// find returns a key, from memory if it was found before.
func (l *login) find(name string, role Role) (crypto.Signer, error) {
	id := string(role) + ":" + name
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := l.keys[id]; key != nil {
		return key, nil
	}
	key, err := lookUp(l.hsm, name, role)
	if err == nil {
		l.keys[id] = key
	}
	return key, err
}

// token returns the one token object of a place: all keys in it share a login.
func (ms *modules) token(at place, pin func() ([]byte, error)) *token {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.open[at.module()]
	if m == nil {
		m = &module{modules: ms, kind: at.kind(), calls: at.calls(), shares: semaphore.NewWeighted(at.calls()), tokens: map[string]*token{}}
		ms.open[at.module()] = m
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tokens[at.String()]
	if t == nil {
		t = &token{m: m, at: at, pin: pin}
		m.tokens[at.String()] = t
	}
	return t
}

// turn waits for shares of the module as long as calls before it return: one
// that hangs makes it give up after the timeout.
func (m *module) turn(ctx context.Context, shares int64) error {
	if m.shares.TryAcquire(shares) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		look := time.NewTicker(m.modules.timeout)
		defer look.Stop()
		for last := m.ended.Load(); ; {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				now := m.ended.Load()
				if now == last {
					cancel()
					return
				}
				last = now
			}
		}
	}()
	return m.shares.Acquire(ctx, shares)
}

// call runs f holding shares of the module and waits for it no longer than ctx
// and, from its turn on, the timeout allow. A driver can't be interrupted: f
// then goes on alone, keeps its shares, and what it returns is dropped.
func call[T any](ctx context.Context, m *module, shares int64, f func() (T, error)) (T, error) {
	var none T
	if err := m.turn(ctx, shares); err != nil {
		return none, fmt.Errorf("%w: earlier calls of it haven't returned", unavailable(m.kind))
	}
	ctx, cancel := context.WithTimeout(ctx, m.modules.timeout)
	defer cancel()
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1)
	m.running.Go(func() {
		defer m.shares.Release(shares)
		out, err := f()
		m.ended.Add(1)
		done <- result{out, err}
	})
	select {
	case r := <-done:
		return r.out, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: it didn't answer in time", unavailable(m.kind))
	}
}

// use runs f with a logged-in token, within the timeout, waiting included.
func use[T any](ctx context.Context, t *token, f func(*login) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, t.m.modules.timeout)
	defer cancel()
	return loggedIn(ctx, t, 1, f)
}

// loggedIn runs f with a logged-in token. If that fails for a reason of the
// token's, it logs in again and tries once more, so that a token which was away
// is taken up without a restart.
func loggedIn[T any](ctx context.Context, t *token, shares int64, f func(*login) (T, error)) (T, error) {
	out, err := tryLoggedIn(ctx, t, shares, f)
	t.heard(err)
	return out, err
}

func tryLoggedIn[T any](ctx context.Context, t *token, shares int64, f func(*login) (T, error)) (T, error) {
	for tries := 0; ; tries++ {
		out, err := call(ctx, t.m, shares, func() (T, error) {
			l := t.current()
			if l == nil {
				var none T
				return none, errLoggedOut
			}
			out, err := f(l)
			if err != nil && !final(err) && !errors.Is(err, ErrUnavailable) {
				t.lose(l, errors.Is(err, ErrPIN) || errors.Is(err, ErrLogin))
			}
			return out, err
		})
		switch {
		case err == nil || final(err) || errors.Is(err, ErrUnavailable):
			return out, err
		case tries == 2:
			return out, fmt.Errorf("%w: %w", unavailable(t.m.kind), err)
		}
		if _, failed := call(ctx, t.m, t.m.calls, func() (struct{}, error) { return struct{}{}, t.logIn() }); failed != nil {
			if !errors.Is(err, ErrLogin) { // else it says why
				err = failed
			}
			return out, err
		}
	}
}

// heard logs when a place can no longer be used, and when it can again: once each.
func (t *token) heard(err error) {
	t.m.mu.Lock()
	away, told := errors.Is(err, ErrUnavailable), t.away
	switch {
	case away && !told && t.logged:
		t.away = true
	case err == nil && told:
		t.away = false
	default:
		t.m.mu.Unlock()
		return
	}
	t.m.mu.Unlock()
	if away {
		t.m.modules.log.Error("what holds keys is gone: nothing is signed with them until it is back", "what", t.m.kind, "where", t.at.where(), "err", err)
		return
	}
	t.m.modules.log.Info("what holds keys is back", "what", t.m.kind, "where", t.at.where())
}

// final errors aren't mended by logging in again.
func final(err error) bool {
	for _, known := range []error{ErrExists, ErrNotFound, ErrRole, ErrDenied, ErrUnfit} {
		if errors.Is(err, known) {
			return true
		}
	}
	for _, code := range []string{"CKR_MECHANISM_INVALID", "CKR_CURVE_NOT_SUPPORTED", "CKR_DOMAIN_PARAMS_INVALID", "CKR_KEY_SIZE_RANGE",
		"CKR_ATTRIBUTE_VALUE_INVALID", "CKR_TEMPLATE_INCONSISTENT", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_DATA_LEN_RANGE"} {
		if strings.HasSuffix(err.Error(), code) {
			return true
		}
	}
	return false
}

func (t *token) current() *login {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.login
}

// lose gives a login up. Other calls may still be using it: it is closed when
// the next one is made. A TPM knows a wrong PIN only with a key, and a cloud a wrong
// access key only with a call.
func (t *token) lose(l *login, wrong bool) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if wrong {
		t.wrong, t.refused = l.secret, time.Now()
	}
	if t.login == l {
		t.login = nil
		t.m.lost = append(t.m.lost, l.hsm)
	}
}

// logIn opens the token; the caller holds all shares of its module.
func (t *token) logIn() error {
	if t.current() != nil {
		return nil // another caller was faster
	}
	secret, err := t.at.secret(t.pin)
	if err != nil {
		return err
	}
	hash, again := sha256.Sum256(secret), t.at.again()
	if hash == t.wrong && (again == 0 || time.Since(t.refused) < again) {
		if again == 0 {
			return fmt.Errorf("%w; it is not tried again", ErrPIN)
		}
		return fmt.Errorf("%w; it is not tried again before %s, unless it is changed", ErrLogin, t.refused.Add(again).Format(time.TimeOnly))
	}
	t.m.finalise(t.gone)
	opened, err := t.m.modules.dial(t.at, secret)
	if refusal := refusalOf(err); refusal != nil {
		t.wrong, t.refused = hash, time.Now()
		return fmt.Errorf("couldn't log in to %s: %w", t.at.where(), as(refusal, err))
	}
	if t.gone = err != nil; t.gone {
		return fmt.Errorf("couldn't open %s: %w", t.at.where(), as(unavailable(t.m.kind), err))
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.wrong = [32]byte{}
	t.login, t.logged = &login{hsm: opened, secret: hash, keys: map[string]crypto.Signer{}}, true
	return nil
}

// as makes an error one of this package's, unless it is already.
func as(known, err error) error {
	if errors.Is(err, known) {
		return err
	}
	return fmt.Errorf("%w: %w", known, err)
}

// refusalOf tells a secret that was refused from a place that is away.
func refusalOf(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "CKR_PIN_") || errors.Is(err, ErrPIN):
		return ErrPIN
	case errors.Is(err, ErrLogin):
		return ErrLogin
	}
	return nil
}

// finalise closes every login of the module if one of them failed: with the
// last one the library is unloaded, and loaded anew it looks for tokens again.
func (m *module) finalise(gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lost) == 0 && !gone {
		return
	}
	for _, t := range m.tokens {
		if t.login != nil {
			m.lost = append(m.lost, t.login.hsm)
			t.login = nil
		}
	}
	for _, h := range m.lost {
		_ = h.Close() // it failed already: there is nothing left to lose
	}
	m.lost = nil
}

func (ms *modules) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), ms.timeout)
	defer cancel()
	ms.mu.Lock()
	list := slices.Collect(maps.Values(ms.open))
	ms.mu.Unlock()
	var errs []error
	for _, m := range list {
		_, err := call(ctx, m, m.calls, func() (struct{}, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, t := range m.tokens {
				if t.login != nil {
					m.lost = append(m.lost, t.login.hsm)
					t.login = nil
				}
			}
			var failed []error
			for _, h := range m.lost {
				failed = append(failed, h.Close())
			}
			m.lost = nil
			return struct{}{}, errors.Join(failed...)
		})
		if err == nil {
			m.running.Wait()
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("couldn't log out: %w", err)
	}
	return nil
}
