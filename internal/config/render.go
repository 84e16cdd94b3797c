package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Render writes what init puts into a new data directory: every listener and
// the back end explicit, each line with its comment. What has its default
// stands behind a "#", ready to be changed.
func Render(f *File) ([]byte, error) {
	// The defaults that depend on other values are those of the same file.
	full := *f
	full.Listen.OCPP = append([]OCPPListener(nil), f.Listen.OCPP...)
	full.Backends = append([]Backend(nil), f.Backends...)
	full.complete()
	plain := full
	plain.Public = Public{}
	plain.UnknownIdentity, plain.Keys, plain.Limits, plain.Renewal, plain.Log = 0, Keys{}, Limits{}, Renewal{}, Log{}
	plain.Server, plain.Compression, plain.Stations = ServerCert{}, false, nil
	plain.OCSPHosts, plain.Alerts, plain.SecurityLog, plain.Policy, plain.Ledger = nil, Alerts{}, SecurityLog{}, Policy{}, Ledger{}
	plain.Retention, plain.Firmware, plain.Contracts, plain.ACME, plain.Assurance = Retention{}, Firmware{}, Contracts{}, ACME{}, Assurance{}
	plain.complete()

	r := renderer{}
	r.out.WriteString("# Configuration of Bollard. `bollard doctor` checks it; SIGHUP reloads what can\n" +
		"# change in a running server. Secrets stand in files named here, never here.\n")
	if err := r.mapping(reflect.ValueOf(full), reflect.ValueOf(plain), ""); err != nil {
		return nil, err
	}
	return r.out.Bytes(), nil
}

type renderer struct{ out bytes.Buffer }

// mapping writes the keys of one struct; def has their defaults.
func (r *renderer) mapping(v, def reflect.Value, indent string) error {
	for i := range v.NumField() {
		f, value, d := v.Type().Field(i), v.Field(i), def.Field(i)
		key, doc := f.Tag.Get("yaml"), f.Tag.Get("doc")
		off := "" // the mark of a line that only shows a default
		if f.Tag.Get("show") != "always" && reflect.DeepEqual(value.Interface(), d.Interface()) {
			off = "# "
		}
		if f.Tag.Get("show") == "always" && (value.Kind() == reflect.String || value.Kind() == reflect.Slice) && value.Len() == 0 {
			off = "# "
		}
		var err error
		switch {
		case value.Kind() == reflect.Struct:
			fmt.Fprintf(&r.out, "%s%s%s:  # %s\n", off, indent, key, doc)
			inner := renderer{}
			err = inner.mapping(value, d, indent+"  ")
			if off != "" {
				r.commented(inner.out.String())
			} else {
				r.out.Write(inner.out.Bytes())
			}
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct && value.Len() > 0:
			fmt.Fprintf(&r.out, "%s%s:  # %s\n", indent, key, doc)
			err = r.list(value, indent+"  ")
		default:
			var text string
			if text, err = scalar(value); err == nil {
				fmt.Fprintf(&r.out, "%s%s%s: %s  # %s\n", off, indent, key, text, doc)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commented writes lines behind a "#", those that have one as they are.
func (r *renderer) commented(lines string) {
	for line := range strings.Lines(lines) {
		if !strings.HasPrefix(line, "# ") {
			line = "# " + line
		}
		r.out.WriteString(line)
	}
}

// list writes structs, each one's first line behind a dash.
func (r *renderer) list(v reflect.Value, indent string) error {
	for i := range v.Len() {
		inner := renderer{}
		def := reflect.Zero(v.Type().Elem())
		if err := inner.mapping(v.Index(i), def, indent+"  "); err != nil {
			return err
		}
		// The dash goes to the first key that is not only shown.
		text, dashed := inner.out.String(), false
		for line := range strings.Lines(text) {
			if !dashed && !strings.HasPrefix(line, "# ") {
				line = indent + "- " + strings.TrimPrefix(line, indent+"  ")
				dashed = true
			}
			r.out.WriteString(line)
		}
	}
	return nil
}

// scalar writes a value on one line.
func scalar(v reflect.Value) (string, error) {
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String(), nil
	case string:
		plain, err := yaml.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("couldn't write a value: %w", err)
		}
		if text := strings.TrimSuffix(string(plain), "\n"); !strings.Contains(text, "\n") {
			return text, nil
		}
		quoted, err := json.Marshal(value)
		return string(quoted), err
	case []string:
		items := make([]string, len(value))
		for i, s := range value {
			quoted, err := json.Marshal(s)
			if err != nil {
				return "", fmt.Errorf("couldn't write a value: %w", err)
			}
			items[i] = string(quoted)
		}
		return "[" + strings.Join(items, ", ") + "]", nil
	case []int:
		return strings.ReplaceAll(fmt.Sprint(value), " ", ", "), nil
	case bool, int:
		return fmt.Sprint(value), nil
	}
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "[]", nil
	}
	panic("internal error: config has a field of type " + v.Type().String())
}
