//go:build cloudkms

package awskms_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"bollard/internal/testlog"
	"bollard/keys"
	"bollard/keys/keystest"
)

// One that is killed fails whoever signs at once; the same signers go on when it is back,
// and the log says both once.
func TestKilledAndBack(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var log testlog.Buffer
	k := keystest.Keeper(t, keys.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	key := create(t, k, keystest.Named(t, s.base(s.URL), "key"))
	keystest.Signs(t, key)
	s.kill()
	for range 3 {
		began := time.Now()
		if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnavailable) || time.Since(began) > 5*time.Second {
			t.Fatalf("after %v: got %v, want ErrUnavailable", time.Since(began), err)
		}
	}
	s.restart()
	keystest.Signs(t, key)
	if got := log.String(); strings.Count(got, "holds keys is gone") != 1 || strings.Count(got, "holds keys is back") != 1 || strings.Contains(got, "canary") {
		t.Errorf("log: %s", got)
	}
}

// One that hangs costs each caller the time limit and no more, and is taken up again.
func TestHangs(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	k := keystest.Keeper(t, keys.Config{HSMTimeout: time.Second})
	key := create(t, k, keystest.Named(t, s.base(s.URL), "key"))
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); ; {
		err := keystest.TrySign(key)
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("it isn't taken up again: %v", err)
		}
	}
}

// What passes is told from what doesn't, and asked for again: throttling, faults of AWS's
// own, and answers that are none.
func TestWhatPasses(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var left atomic.Int64 // requests that are refused
	var status atomic.Int64
	var code atomic.Value
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if left.Add(-1) < 0 {
			return false
		}
		fails(w, int(status.Load()), code.Load().(string))
		return true
	}, nil)
	k := keystest.Keeper(t, keys.Config{})
	key := create(t, k, keystest.Named(t, s.base(proxy), "key"))
	for _, tt := range []struct {
		status int
		code   string
	}{
		{http.StatusBadRequest, "ThrottlingException"},
		{http.StatusInternalServerError, "KMSInternalException"},
		{http.StatusServiceUnavailable, "ServiceUnavailable"},
		{http.StatusInternalServerError, "KeyUnavailableException"},
	} {
		status.Store(int64(tt.status))
		code.Store(tt.code)
		left.Store(1) // a burst: the caller sees nothing of it
		if err := keystest.TrySign(key); err != nil && tt.code != "KeyUnavailableException" {
			t.Errorf("%s once: %v", tt.code, err)
		}
		left.Store(1 << 20)
		began := time.Now()
		if err := keystest.TrySign(key); !errors.Is(err, keys.ErrUnavailable) || time.Since(began) > 10*time.Second {
			t.Errorf("%s without end, after %v: %v, want ErrUnavailable", tt.code, time.Since(began), err)
		}
		left.Store(0)
		keystest.Signs(t, key)
	}
}

// What makes a key isn't asked for again when its answer is lost: that would make two.
func TestMakingIsAskedForOnce(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var asked atomic.Int64
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if action(r) != "CreateKey" {
			return false
		}
		asked.Add(1)
		fails(w, http.StatusInternalServerError, "KMSInternalException")
		return true
	}, nil)
	if _, err := keystest.Keeper(t, keys.Config{}).Create(t.Context(), keystest.Named(t, s.base(proxy), "key"), keys.RoleCA, keys.P256); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
}

// A key isn't known everywhere as soon as it is made, nor is its alias: who made it waits
// for the one, and needs the other only after a restart.
func TestKeyKnownLater(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var early atomic.Int64
	early.Store(2)
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		unknown := action(r) == "DescribeKey" || action(r) == "GetPublicKey" && early.Add(-1) >= 0
		if unknown {
			fails(w, http.StatusBadRequest, "NotFoundException")
		}
		return unknown
	}, nil)
	k := keystest.Keeper(t, keys.Config{})
	key := create(t, k, keystest.Named(t, s.base(proxy), "key"))
	keystest.Signs(t, key)
	if early.Load() >= 0 {
		t.Error("the key was known at once")
	}
}

// A key whose name was given, and the answer lost, is there: it isn't had deleted with its
// alias left behind, which would be taken from then on.
func TestNameGivenButNotHeard(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	var lose atomic.Bool
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if action(r) != "CreateAlias" || !lose.CompareAndSwap(true, false) {
			return false
		}
		again, err := http.NewRequestWithContext(r.Context(), r.Method, s.URL, r.Body)
		if err == nil {
			again.Header, again.Host, again.ContentLength = r.Header, r.Host, r.ContentLength
			var answer *http.Response
			if answer, err = http.DefaultClient.Do(again); err == nil {
				if answer.StatusCode != http.StatusOK {
					t.Errorf("the alias: %s", answer.Status)
				}
				_ = answer.Body.Close()
			}
		}
		if err != nil {
			t.Error(err)
		}
		fails(w, http.StatusInternalServerError, "KMSInternalException")
		return true
	}, nil)
	uri := keystest.Named(t, s.base(proxy), "key")
	lose.Store(true)
	keystest.Signs(t, create(t, keystest.Keeper(t, keys.Config{}), uri))
	if lose.Load() {
		t.Error("no answer was lost")
	}
	opened, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), uri, keys.RoleCA)
	if err != nil {
		t.Fatal(err)
	}
	keystest.Signs(t, opened)
}

// What AWS says of a request is one line: a service may add the request's text, with the
// token of the session in it.
func TestErrorsRepeatNoRequest(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"__type":  "InvalidSignatureException",
			"message": "The signature does not match." + strings.Repeat("!", 2000) + "\nThe Canonical String should have been\nx-amz-security-token:canary-session",
		})
		return true
	}, nil)
	_, err := keystest.Keeper(t, keys.Config{}).Open(t.Context(), keystest.Named(t, s.base(proxy), "key"), keys.RoleCA)
	if !errors.Is(err, keys.ErrLogin) || !strings.Contains(err.Error(), "does not match.!") || strings.Contains(err.Error(), "canary-session") || len(err.Error()) > 1000 {
		t.Errorf("got %v", err)
	}
}

// A key that gets no name is had deleted.
func TestNamelessKeyIsDeleted(t *testing.T) {
	t.Parallel()
	s := startKMS(t)
	proxy := s.proxy(func(w http.ResponseWriter, r *http.Request) bool {
		if action(r) == "CreateAlias" {
			fails(w, http.StatusBadRequest, "AlreadyExistsException")
			return true
		}
		return false
	}, nil)
	if _, err := keystest.Keeper(t, keys.Config{}).Create(t.Context(), keystest.Named(t, s.base(proxy), "key"), keys.RoleCA, keys.P256); !errors.Is(err, keys.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	admin := s.admin()
	list, err := admin.ListKeys(within(t), &kms.ListKeysInput{})
	if err != nil || len(list.Keys) != 1 {
		t.Fatalf("keys: %v, %v", list, err)
	}
	said, err := admin.DescribeKey(within(t), &kms.DescribeKeyInput{KeyId: list.Keys[0].KeyId})
	if err != nil || said.KeyMetadata.KeyState != "PendingDeletion" {
		t.Errorf("it is in state %v, %v", said, err)
	}
}
