package admin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"

	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
)

// howMade is a release that can be taken in.
const howMade = "give the folder that `bollard firmware sign --out` made, or a delivery of `bollard firmware pack`"

// openDelivery opens a release in one file. Nothing of it is proven.
func openDelivery(name string) (catalogue.Bundle, io.Closer, error) {
	a, err := bundle.OpenArchive(name, math.MaxInt64) // how large an image may be the depot says
	if err != nil {
		return catalogue.Bundle{}, nil, Refusedf("`bollard firmware pack` makes one", "%w", err)
	}
	b, file, err := parts(a.Read)
	for _, other := range a.Names() {
		if dir, base := path.Split(other); err == nil && dir == "" && base != file && !slices.Contains(bundle.Files(), base) {
			err = Refusedf("", "%s isn't a file of a release", other)
		}
	}
	if err != nil {
		return catalogue.Bundle{}, nil, errors.Join(err, a.Close())
	}
	b.Metadata = func(name string) ([]byte, error) { return a.Read(bundle.FolderMetadata + "/" + name) }
	b.Image = func(to io.Writer) error {
		r, err := a.Reader(file)
		if err == nil {
			_, err = io.Copy(to, r)
		}
		return err
	}
	return b, a, nil
}

// openFolder opens a release in the folder that `bollard firmware sign` made; image is
// "" if it is in there.
func openFolder(dir, image string) (catalogue.Bundle, io.Closer, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return catalogue.Bundle{}, nil, Usagef(howMade, "couldn't open the release: %w", err)
	}
	b, file, err := parts(func(name string) ([]byte, error) {
		f, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		return io.ReadAll(io.LimitReader(f, maxRequest))
	})
	if err != nil {
		return catalogue.Bundle{}, nil, errors.Join(err, root.Close())
	}
	b.Image = func(to io.Writer) error {
		var f *os.File
		var err error
		if image == "" {
			f, err = root.Open(file)
		} else {
			f, err = os.Open(image)
		}
		if err != nil {
			return fmt.Errorf("couldn't read the image: %w; --image FILE names it", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return errors.New("the image isn't a file")
		}
		_, err = io.Copy(to, f)
		return err
	}
	return b, root, nil
}

// parts reads what goes with an image, and the name that has. What they say is judged
// by who keeps them.
func parts(read func(name string) ([]byte, error)) (b catalogue.Bundle, file string, err error) {
	if b.Envelope, err = read(bundle.FileEnvelope); err != nil {
		return b, "", Usagef(howMade, "couldn't read the release: %w", err)
	}
	text, err := read(bundle.FileCertificate)
	if err != nil {
		return b, "", Usagef(howMade, "couldn't read the release: %w", err)
	}
	if b.Certificate, err = release.DecodeCertificate(text); err != nil {
		return b, "", Refusedf("", "couldn't read the signing certificate: %w", err)
	}
	text, err = read(bundle.FileChain)
	if err == nil {
		if b.Chain, err = release.DecodeChain(text); err != nil {
			return b, "", Refusedf("", "couldn't read %s: %w", bundle.FileChain, err)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, "", Usagef("", "couldn't read %s of the release: %w", bundle.FileChain, err)
	}
	b.Papers = map[string][]byte{}
	for _, name := range []string{bundle.FileSBOM, bundle.FileProvenance, bundle.FileProof} { // kept with it
		text, err := read(name)
		switch {
		case err == nil:
			b.Papers[name] = text
		case !errors.Is(err, fs.ErrNotExist):
			return b, "", Usagef("", "couldn't read %s of the release: %w", name, err)
		}
	}
	file, err = imageName(b.Envelope)
	return b, file, err
}

// imageName is the image's name as the envelope has it, which isn't verified yet.
func imageName(envelope []byte) (string, error) {
	var e struct {
		Payload string `json:"payload"`
	}
	var r struct {
		File string `json:"file"`
	}
	err := json.Unmarshal(envelope, &e)
	if err == nil {
		var payload []byte
		if payload, err = base64.StdEncoding.DecodeString(e.Payload); err == nil {
			err = json.Unmarshal(payload, &r)
		}
	}
	if err == nil {
		err = release.CheckFile(r.File)
	}
	if err != nil {
		return "", Refusedf("", "couldn't find the image's name in %s: %w", bundle.FileEnvelope, err)
	}
	return r.File, nil
}
