package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// crl learns a subject's status from its issuer's CRL (M07.FR.04–.07), for own
// certificates from the records behind it.
func (c *Checker) crl(ctx context.Context, s subject, urls []string) (string, time.Time, error) {
	known, err := c.knownIssuers(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	request, err := s.request()
	if err != nil {
		return "", time.Time{}, err
	}
	switch a, own, err := c.ownWord(ctx, s, request, known); {
	case err != nil:
		return "", time.Time{}, err
	case own:
		return a.word(), a.next, nil
	}
	issuer := known.of(s, nil, c.clock())
	if issuer == nil {
		return "", time.Time{}, errors.New("the CRL is of an issuer Bollard doesn't know; add its root with bollard ca trust add")
	}
	return c.listed(ctx, s, urls, issuer)
}

// listed looks a subject up in one of its issuer's lists, tried in turn.
func (c *Checker) listed(ctx context.Context, s subject, urls []string, issuer *x509.Certificate) (string, time.Time, error) {
	err := errNotFetched
	for _, url := range urls {
		if c.fetch == nil || ctx.Err() != nil {
			break
		}
		var list *x509.RevocationList
		if list, err = c.fetchCRL(ctx, url, issuer); err != nil {
			continue
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(s.serial) == 0 {
				return ocpp.CertificateRevoked, list.NextUpdate, nil
			}
		}
		return ocpp.CertificateGood, list.NextUpdate, nil
	}
	return "", time.Time{}, err
}

// fetchCRL gets a CRL of an issuer, or the cache's.
func (c *Checker) fetchCRL(ctx context.Context, url string, issuer *x509.Certificate) (*x509.RevocationList, error) {
	body, err := c.cache.get(ctx, cacheKey("crl", url, issuer.Raw), c.clock, func(ctx context.Context) ([]byte, time.Time, error) {
		response, err := c.outside(ctx, url, func() (*safehttp.Response, error) { return c.fetch.Get(ctx, url) })
		if err != nil {
			return nil, time.Time{}, err
		}
		if response.Status != 200 {
			return nil, time.Time{}, fmt.Errorf("the CRL's server answered with HTTP status %d", response.Status)
		}
		list, err := readCRL(response.Body, issuer, c.clock())
		if err != nil {
			return nil, time.Time{}, err
		}
		return response.Body, list.NextUpdate, nil
	})
	if err != nil {
		return nil, err
	}
	return readCRL(body, issuer, c.clock())
}

// readCRL checks that a CRL is the issuer's, complete and in force.
func readCRL(body []byte, issuer *x509.Certificate, now time.Time) (*x509.RevocationList, error) {
	if block, _ := pem.Decode(body); block != nil && block.Type == "X509 CRL" {
		body = block.Bytes
	}
	list, err := x509.ParseRevocationList(body)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the CRL: %w", err)
	}
	switch {
	case !bytes.Equal(list.RawIssuer, issuer.RawSubject):
		return nil, errors.New("the CRL is another issuer's")
	case list.ThisUpdate.After(now.Add(clockSkew)):
		return nil, errors.New("the CRL is of the future")
	case !now.Before(list.NextUpdate): // without one too: RFC 5280 §5.1.2.5 wants it
		return nil, errors.New("the CRL is stale")
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the CRL isn't signed by the issuer: %w", err)
	}
	for _, e := range list.Extensions {
		if e.Critical && !wholeScope(e.Id, e.Value) {
			return nil, errors.New("the CRL doesn't cover all certificates of its issuer")
		}
	}
	return list, nil
}

// wholeScope says whether a critical extension leaves the CRL complete. Only an
// issuing distribution point with nothing but its name does (RFC 5280 §5.2.5);
// a delta CRL or one of certain certificates or reasons proves nothing good.
func wholeScope(id asn1.ObjectIdentifier, value []byte) bool {
	if !id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}) {
		return false
	}
	var point, name asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &point); err != nil || len(rest) > 0 {
		return false
	}
	if len(point.Bytes) == 0 {
		return true
	}
	rest, err := asn1.Unmarshal(point.Bytes, &name)
	return err == nil && len(rest) == 0 && name.Class == asn1.ClassContextSpecific && name.Tag == 0
}
