package revocation

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"bollard/internal/safehttp"
)

// ocspBytes is more than any message takes.
const ocspBytes = 64 << 10

// ocsp obtains the OCSP response about a subject, the own one or that of one of
// the responders, tried in turn.
func (c *Checker) ocsp(ctx context.Context, s subject, urls []string) (answer, error) {
	known, err := c.knownIssuers(ctx)
	if err != nil {
		return answer{}, err
	}
	return c.ocspOf(ctx, s, urls, known)
}

// ocspOf is ocsp for issuers that are known already.
func (c *Checker) ocspOf(ctx context.Context, s subject, urls []string, known issuers) (answer, error) {
	request, err := s.request()
	if err != nil {
		return answer{}, err
	}
	if a, own, err := c.ownWord(ctx, s, request, known); own || err != nil {
		return a, err
	}
	err = errNotFetched
	for _, url := range urls {
		if c.fetch == nil || ctx.Err() != nil {
			break
		}
		var a answer
		if a, err = c.foreign(ctx, s, url, request, known); err == nil {
			return a, nil
		}
	}
	return answer{}, err
}

// ownWord is the own responder's; own is false if the issuer is none of its.
func (c *Checker) ownWord(ctx context.Context, s subject, request []byte, known issuers) (a answer, own bool, err error) {
	if c.own == nil {
		return answer{}, false, nil
	}
	response, own, err := c.own(ctx, request)
	if err != nil {
		return answer{}, false, fmt.Errorf("couldn't get the own OCSP response: %w", err)
	}
	if !own {
		return answer{}, false, nil
	}
	a, err = readOCSP(response, s, known, c.clock())
	return a, true, err
}

// foreign asks one responder, or the cache.
func (c *Checker) foreign(ctx context.Context, s subject, url string, request []byte, known issuers) (answer, error) {
	body, err := c.cache.get(ctx, cacheKey(known.answers(), url, request), c.clock, func(ctx context.Context) ([]byte, time.Time, error) {
		response, err := c.outside(ctx, url, func() (*safehttp.Response, error) {
			return c.fetch.Post(ctx, url, "application/ocsp-request", request)
		})
		if err != nil {
			return nil, time.Time{}, err
		}
		if kind := response.Header.Get("Content-Type"); response.Status != 200 || !strings.HasPrefix(strings.ToLower(kind), "application/ocsp-response") {
			return nil, time.Time{}, fmt.Errorf("the responder answered with HTTP status %d and no OCSP response", response.Status)
		}
		if len(response.Body) > ocspBytes {
			return nil, time.Time{}, fmt.Errorf("the OCSP response has %d bytes", len(response.Body))
		}
		a, err := readOCSP(response.Body, s, known, c.clock())
		return response.Body, a.next, err
	})
	if err != nil {
		return answer{}, err
	}
	return readOCSP(body, s, known, c.clock())
}

// outside makes one request when it is its turn: among those to its host, then among
// all, so that who waits for a slow host is in nobody else's way.
func (c *Checker) outside(ctx context.Context, rawURL string, fetch func() (*safehttp.Response, error)) (*safehttp.Response, error) {
	target, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the responder's URL can't be read")
	}
	release, err := c.hosts.Take(ctx, strings.ToLower(target.Hostname()))
	if err != nil {
		return nil, err
	}
	defer release()
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer c.slots.Release(1)
	return fetch()
}
