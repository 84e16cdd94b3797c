package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bollard/admin"
	"bollard/policy"
)

// The folder of rule files in the data directory, and what has a meaning there.
const (
	policyName   = "policy"
	promotedName = "promoted.yaml" // written by `policy promote` and `policy demote`
)

// maxRuleFile is one byte more than a rule file may have, so that it is refused
// and not cut.
const maxRuleFile = 1<<20 + 1

// policySources reads DIR/policy/*.yaml, by name. Without the folder there are none.
func policySources(dir string) ([]policy.Source, error) {
	paths, err := filepath.Glob(filepath.Join(globbed(dir), policyName, "*.yaml"))
	if err != nil {
		return nil, err
	}
	list := make([]policy.Source, 0, len(paths))
	for _, path := range paths {
		src, err := readSource(path)
		if err != nil {
			return nil, err
		}
		src.Name = policyName + "/" + filepath.Base(path)
		list = append(list, src)
	}
	return list, nil
}

// globbed keeps the path's own characters from being taken for a pattern.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func readSource(path string) (policy.Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return policy.Source{}, fmt.Errorf("couldn't read the rules: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRuleFile))
	if err != nil {
		return policy.Source{}, fmt.Errorf("couldn't read the rules: %w", err)
	}
	return policy.Source{Name: path, Data: data}, nil
}

// loadPolicy makes the set of rules of a data directory.
func loadPolicy(dir string) (*policy.Set, error) {
	set, _, err := readPolicy(dir)
	return set, err
}

// readPolicy is loadPolicy with a digest of the files, for the record.
func readPolicy(dir string) (*policy.Set, string, error) {
	files, err := policySources(dir)
	if err != nil {
		return nil, "", err
	}
	set, err := policy.New(policy.Config{Files: files})
	if err != nil {
		return nil, "", admin.Usagef("`bollard policy check` tells all that is wrong, `--help` of it how rules are written", "the policy rules can't be used:\n%w", err)
	}
	sum := sha256.New()
	for _, f := range files {
		fmt.Fprintf(sum, "%x  %s\n", sha256.Sum256(f.Data), filepath.Base(f.Name)) // as sha256sum prints it
	}
	return set, fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// promoted reads the names in DIR/policy/promoted.yaml and the other files.
func promoted(dir string) (names []string, others []policy.Source, err error) {
	files, err := policySources(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if f.Name != policyName+"/"+promotedName {
			others = append(others, f)
			continue
		}
		if names, err = policy.Promoted(f); err != nil {
			return nil, nil, err
		}
	}
	return names, others, nil
}

// setPromoted makes another list of promoted rules, if the rules as a whole can
// be used with it. Nothing is on disk before write is called.
func setPromoted(dir string, change func([]string) []string) (set *policy.Set, write func() error, err error) {
	names, others, err := promoted(dir)
	if err != nil {
		return nil, nil, err
	}
	names = change(slices.Clone(names))
	var b bytes.Buffer
	b.WriteString("# Rules turned on with `bollard policy promote` and off with `bollard policy demote`.\npromote:")
	if len(names) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  - %s\n", name)
	}
	set, err = policy.New(policy.Config{Files: append(others, policy.Source{Name: policyName + "/" + promotedName, Data: b.Bytes()})})
	if err != nil {
		return nil, nil, admin.Refusedf("`bollard policy check` tells all that is wrong", "nothing was changed: %w", err)
	}
	return set, func() error { return writeWhole(filepath.Join(dir, policyName), promotedName, b.Bytes()) }, nil
}

// writeWhole puts a file in its place whole, or not at all.
func writeWhole(folder, name string, data []byte) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("couldn't make the folder of rules: %w", err)
	}
	f, err := os.CreateTemp(folder, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("couldn't write %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(folder, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("couldn't write %s: %w", name, err), removeIfThere(f.Name()))
	}
	return nil
}
