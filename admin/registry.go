package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Invoker runs an operation by name: a Registry in this process or a Client.
type Invoker interface {
	Invoke(ctx context.Context, name string, in json.RawMessage) (json.RawMessage, error)
}

type operation func(ctx context.Context, in json.RawMessage) (json.RawMessage, error)

// Registry holds operations by name. It is complete before it is used and
// safe for concurrent use from then on.
type Registry struct{ operations map[string]operation }

// Register adds an operation. Its input is decoded strictly: an unknown field
// is a usage error, so that a newer command never half-works on an older server.
func Register[In, Out any](r *Registry, name string, f func(context.Context, In) (Out, error)) {
	if _, twice := r.operations[name]; twice {
		panic("internal error: operation " + name + " is registered twice")
	}
	if r.operations == nil {
		r.operations = map[string]operation{}
	}
	r.operations[name] = func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
		var in In
		if err := decodeStrict(raw, &in); err != nil {
			return nil, Usagef("use the bollard command of the running server's version", "%s: %v", name, err)
		}
		out, err := f(ctx, in)
		if err != nil {
			return nil, Explain(err)
		}
		answer, err := json.Marshal(out)
		if err != nil {
			return nil, Explain(fmt.Errorf("couldn't encode the answer of %s: %w", name, err))
		}
		return answer, nil
	}
}

// Names of all operations, sorted.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.operations)) }

// Invoke runs the named operation. The error is an *Error.
func (r *Registry) Invoke(ctx context.Context, name string, in json.RawMessage) (json.RawMessage, error) {
	f, ok := r.operations[name]
	if !ok {
		return nil, Usagef("use the bollard command of the running server's version", "no operation %q", name)
	}
	return f(ctx, in)
}

// Call runs an operation with typed input and output.
func Call[In, Out any](ctx context.Context, v Invoker, name string, in In) (Out, error) {
	var out Out
	raw, err := json.Marshal(in)
	if err != nil {
		return out, Explain(fmt.Errorf("couldn't encode the request of %s: %w", name, err))
	}
	answer, err := v.Invoke(ctx, name, raw)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, Explain(fmt.Errorf("couldn't read the answer of %s: %w", name, err))
	}
	return out, nil
}

func decodeStrict(raw json.RawMessage, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("couldn't read the request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("couldn't read the request: data behind its end")
	}
	return nil
}
