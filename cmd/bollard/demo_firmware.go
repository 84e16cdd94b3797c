package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"bollard/admin"
	"bollard/firmware/bundle"
	"bollard/firmware/campaign"
	"bollard/firmware/catalogue"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/internal/rollout"
	"bollard/ocpp"
	"bollard/station"
)

// demoImage is how long the images of the story are.
const demoImage = 200_000

// identityKey is a key with its certificate.
type identityKey struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// makers are those outside who play in the story: a manufacturer's root and signing
// key, and a person who approves.
type makers struct{ root, signer, person identityKey }

func newMakers(now time.Time) (m makers, err error) {
	usage := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{Organization: []string{"Bollard"}, CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(3, 0, 0), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	}
	root, signer, person := usage("Simulated Stations Root", 1), usage("Simulated Stations 1", 2), usage("alice", 3)
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	signer.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	if m.root, err = certified(root, nil); err != nil {
		return m, err
	}
	if m.signer, err = certified(signer, &m.root); err != nil {
		return m, err
	}
	m.person, err = certified(person, nil)
	return m, err
}

func certified(template *x509.Certificate, by *identityKey) (identityKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identityKey{}, err
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return identityKey{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return identityKey{key, cert}, err
}

func (k *identityKey) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.cert.Raw})
}

// approvers writes who approves firmware into bollard.yaml, and where back ends may
// send stations into the rules.
func (d *demo) approvers() error {
	var err error
	if d.makers, err = newMakers(time.Now()); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(d.cli.data, configName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("approvers: [{name: alice, certificates: [alice.pem]}]\napprovals: [{action: firmware.publish, needed: 1}]\n")
	policy := filepath.Join(d.cli.data, policyName)
	return errors.Join(err, file.Close(), os.WriteFile(filepath.Join(d.cli.data, "alice.pem"), d.makers.person.pem(), 0o600), os.MkdirAll(policy, 0o700),
		os.WriteFile(filepath.Join(policy, "hosts.yaml"), []byte("lists: {station_hosts: [firmware.example]}\n"), 0o600))
}

// signed makes a release of an image as its manufacturer gives it away.
func (d *demo) signed(ctx context.Context, version string, sequence uint64) (*release.Release, admin.AddRelease, error) {
	image := station.Image(version, demoImage)
	sum, long := sha256.Sum256(image), sha512.Sum512(image)
	maker := &d.makers.signer
	signature, err := ecdsa.SignASN1(rand.Reader, maker.key, sum[:])
	if err != nil {
		return nil, admin.AddRelease{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	r := &release.Release{
		ID: release.NewID(now, [10]byte{byte(sequence)}), Vendor: "Bollard", Models: []release.Model{{Vendor: "Bollard", Model: "Simulated"}}, Component: "firmware",
		Version: version, Sequence: sequence, SecurityEpoch: 1, File: "simulated.bin", Size: uint64(len(image)), SHA256: hex.EncodeToString(sum[:]), SHA512: hex.EncodeToString(long[:]),
		Signatures: []release.Signature{{Dialect: release.ECDSAP256, Cert: release.Fingerprint(maker.cert), Value: base64.StdEncoding.EncodeToString(signature)}},
		NotBefore:  now.Add(-time.Hour), Expires: now.AddDate(1, 0, 0), Log: release.NoLog,
	}
	text, err := r.Canonical()
	if err != nil {
		return nil, admin.AddRelease{}, err
	}
	envelope, err := release.Seal(ctx, release.PayloadType, text, maker.cert, maker.key, rand.Reader)
	if err != nil {
		return nil, admin.AddRelease{}, err
	}
	folder := filepath.Join(d.dir, "release-"+version)
	in := admin.AddRelease{Folder: folder, Image: filepath.Join(folder, r.File)}
	return r, in, errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(in.Image, image, 0o600),
		os.WriteFile(filepath.Join(folder, bundle.FileEnvelope), envelope, 0o600), os.WriteFile(filepath.Join(folder, bundle.FileCertificate), maker.pem(), 0o600))
}

// publish takes a release in and publishes it with alice's approval.
func (d *demo) publish(ctx context.Context, version string, sequence uint64) (*release.Release, error) {
	r, in, err := d.signed(ctx, version, sequence)
	if err != nil {
		return nil, err
	}
	if _, err := call[admin.AddRelease, admin.Release](ctx, d.cli, "firmware.add", in); err != nil {
		return nil, err
	}
	if err := d.approve(ctx, admin.ApproveRelease{Release: r.ID, Reason: "the story goes so"}); err != nil {
		return nil, err
	}
	_, err = call[admin.ReleaseRef, admin.Release](ctx, d.cli, "firmware.publish", admin.ReleaseRef{Release: r.ID})
	return r, err
}

// approve asks for an approval, and gives alice's.
func (d *demo) approve(ctx context.Context, in admin.ApproveRelease) error {
	asked, err := call[admin.ApproveRelease, admin.Approval](ctx, d.cli, "firmware.approve", in)
	if err != nil {
		return err
	}
	text, err := pkcs7.NewSignedData([]byte(asked.Statement))
	if err != nil {
		return err
	}
	text.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := text.AddSigner(d.makers.person.cert, d.makers.person.key, pkcs7.SignerInfoConfig{}); err != nil {
		return err
	}
	text.Detach()
	if in.Signature, err = text.Finish(); err != nil {
		return err
	}
	_, err = call[admin.ApproveRelease, admin.Approval](ctx, d.cli, "firmware.approve", in)
	return err
}

// rollOut brings a signed release to the three stations.
func (d *demo) rollOut(ctx context.Context) ([]string, error) {
	if _, err := call[admin.AddTrust, admin.Anchors](ctx, d.cli, "ca.trust.add", admin.AddTrust{Use: "manufacturer", PEM: d.makers.root.pem()}); err != nil {
		return nil, err
	}
	r, err := d.publish(ctx, "2.0.0", 20)
	if err == nil {
		err = d.ready(ctx, r.ID)
	}
	if err != nil {
		return nil, err
	}
	plan := d.rollout(r.ID)
	if err := d.approve(ctx, admin.ApproveRelease{Release: r.ID, Action: string(catalogue.ActionStart), Ring: "all", Plan: &plan, Reason: "the story goes so"}); err != nil {
		return nil, err
	}
	_, err = call[admin.ReleaseRollout, admin.ReleaseProgress](ctx, d.cli, "firmware.rollout", plan)
	if err != nil {
		return nil, err
	}
	seen := []string{fmt.Sprintf("release %s of %q, %d bytes, approved by alice, in the depot", r.Version, d.makers.signer.cert.Subject.CommonName, r.Size)}
	for _, p := range d.stations {
		if err := p.station.Await(ctx, func(s station.State) bool { return s.Firmware == r.Version && s.Update == "Installed" }); err != nil {
			return seen, withLast(p.station, err)
		}
		seen = append(seen, fmt.Sprintf("%s: downloaded, verified, installed, and booted with %s", p.identity, r.Version))
	}
	_, err = d.awaitRollout(ctx, r.ID)
	return append(seen, "the rollout is finished: 3 done"), err
}

// ready has the stations boot, after which they may be asked for something, and waits
// until Bollard sees them so.
func (d *demo) ready(ctx context.Context, id string) error {
	for _, p := range d.stations {
		if _, err := p.station.Boot(ctx); err != nil {
			return withLast(p.station, err)
		}
	}
	for {
		plan, err := call[admin.ReleaseRollout, admin.ReleasePlan](ctx, d.cli, "firmware.rollout.plan", d.rollout(id))
		if err != nil {
			return err
		}
		there := 0
		for _, one := range plan.Stations {
			if one.Online {
				there++
			}
		}
		if there == len(d.stations) {
			return nil
		}
		if err := d.pause(ctx); err != nil {
			return err
		}
	}
}

// rollout is one of a single ring.
func (d *demo) rollout(id string) admin.ReleaseRollout {
	return admin.ReleaseRollout{Release: id, Rings: []campaign.Ring{{Name: "all", Share: 1}}, Rules: rollout.Rules{Patience: time.Hour, PerMinute: 600}}
}

// awaitRollout waits until every station of a rollout is done.
func (d *demo) awaitRollout(ctx context.Context, id string) (admin.ReleaseProgress, error) {
	for {
		p, err := call[admin.ReleaseRef, admin.ReleaseProgress](ctx, d.cli, "firmware.rollout.show", admin.ReleaseRef{Release: id})
		if err != nil || p.Phase == rollout.Finished && p.Count[rollout.Done] == len(d.stations) {
			return p, err
		}
		if p.Phase != rollout.Running {
			return p, fmt.Errorf("the rollout is %s: %s, %v", p.Phase, p.Why, p.Count)
		}
		if err := d.pause(ctx); err != nil {
			return p, err
		}
	}
}

// pause is between two looks.
func (d *demo) pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// flippedBit is the next release with an image that isn't the one that was signed.
func (d *demo) flippedBit(ctx context.Context) ([]string, error) {
	_, in, err := d.signed(ctx, "2.1.0", 21)
	if err != nil {
		return nil, err
	}
	image, err := os.ReadFile(in.Image)
	if err != nil {
		return nil, err
	}
	image[demoImage/2] ^= 1
	if err := os.WriteFile(in.Image, image, 0o600); err != nil {
		return nil, err
	}
	_, err = call[admin.AddRelease, admin.Release](ctx, d.cli, "firmware.add", in)
	if err == nil {
		return nil, errors.New("it was taken in")
	}
	if !strings.Contains(err.Error(), "isn't the one that was named") {
		return nil, fmt.Errorf("it was refused for another reason: %w", err)
	}
	return []string{"the operator reads: " + err.Error()}, nil
}

// ask has the CSMS send a station a release, as its maker's portal gave it.
func (d *demo) ask(ctx context.Context, p *player, id int, r *release.Release) (ocpp.GenericStatus, error) {
	answer, err := d.back.Call(ctx, p.identity, ocpp.ActionUpdateFirmware, object{"requestId": id, "firmware": object{
		"location": "https://firmware.example/" + r.File, "retrieveDateTime": time.Now().UTC().Format(time.RFC3339),
		"signingCertificate": string(d.makers.signer.pem()), "signature": r.Signatures[0].Value}})
	if err != nil {
		return ocpp.GenericStatus{}, err
	}
	var status ocpp.GenericStatus
	return status, json.Unmarshal(answer, &status)
}

// refusedUpdate expects the CSMS's update to be refused for a reason, and the station
// to hear nothing of it.
func (d *demo) refusedUpdate(ctx context.Context, p *player, id int, r *release.Release, reason string) (string, error) {
	before := len(p.station.Sent(ocpp.FromCSMS))
	answer, err := d.ask(ctx, p, id, r)
	if err != nil {
		return "", err
	}
	if answer.Status != ocpp.StatusRejected || answer.StatusInfo == nil || answer.StatusInfo.ReasonCode != reason {
		return "", fmt.Errorf("the CSMS was answered %+v, want %s", answer, reason)
	}
	for _, frame := range p.station.Sent(ocpp.FromCSMS)[before:] {
		if bytes.Contains(frame, []byte("UpdateFirmware")) {
			return "", fmt.Errorf("%s was sent %s", p.identity, frame)
		}
	}
	return fmt.Sprintf("the CSMS asks %s for %s: Rejected, %s; the station hears nothing of it", p.identity, r.Version, reason), nil
}

// oldRelease is a good release that is older than what the station runs.
func (d *demo) oldRelease(ctx context.Context) ([]string, error) {
	r, err := d.publish(ctx, "1.9.0", 19)
	if err != nil {
		return nil, err
	}
	seen, err := d.refusedUpdate(ctx, d.stations[1], 7, r, "GwRollback")
	return []string{seen}, err
}

// cheat is a station that installs what it doesn't verify.
func (d *demo) cheat(ctx context.Context) ([]string, error) {
	p := d.stations[2]
	r, err := d.publish(ctx, "3.0.0", 30)
	if err != nil {
		return nil, err
	}
	p.station.Deviate(func(dev *station.Deviations) { dev.Unverified = true })
	answer, err := d.ask(ctx, p, 8, r)
	if err == nil && answer.Status != ocpp.StatusAccepted {
		err = fmt.Errorf("the CSMS was answered %+v", answer)
	}
	if err != nil {
		return nil, err
	}
	if err := p.station.Await(ctx, func(s station.State) bool { return s.Update == "Installed" }); err != nil {
		return nil, withLast(p.station, err)
	}
	list, err := call[admin.UpdateFilter, admin.Updates](ctx, d.cli, "firmware.updates", admin.UpdateFilter{Station: p.identity})
	if err != nil {
		return nil, err
	}
	if j := list.Updates[0]; j.State != job.Quarantined {
		return nil, fmt.Errorf("its update is %s: %s", j.State, j.Reason)
	}
	refused, err := d.refusedUpdate(ctx, p, 9, r, "GwQuarantined")
	return []string{"the operator reads: " + list.Updates[0].Reason, refused}, err
}
