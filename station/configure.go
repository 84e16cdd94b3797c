package station

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"bollard/ocpp"
)

// changeConfiguration sets one 1.6 key.
func (l *link) changeConfiguration(payload []byte) reply {
	var req struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.keys16()[req.Key]
	switch {
	case !ok:
		return status("NotSupported")
	case v.set == nil:
		return status(rejected)
	}
	then, err := v.set(req.Value)
	if err != nil {
		s.cfg.Log.Info("refused a setting", "station", s.cfg.Identity, "key", req.Key, "reason", err)
		return status(rejected)
	}
	return status(accepted).then(func(context.Context) { s.follow(then) })
}

// getConfiguration lists 1.6 keys. AuthorizationKey is write-only and has no value.
func (l *link) getConfiguration(payload []byte) reply {
	var req struct {
		Key []string `json:"key"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.keys16()
	if len(req.Key) == 0 {
		req.Key = names(keys)
	}
	found, unknown := []object{}, []string{}
	for _, name := range req.Key {
		v, ok := keys[name]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		entry := object{"key": name, "readonly": v.set == nil}
		if v.get != nil {
			entry["value"] = v.get()
		}
		found = append(found, entry)
	}
	answer := object{}
	if len(found) > 0 {
		answer["configurationKey"] = found
	}
	if len(unknown) > 0 {
		answer["unknownKey"] = unknown
	}
	return reply{payload: answer}
}

// naming is how 2.x names a variable.
type naming struct {
	Component struct {
		Name     string `json:"name"`
		Instance string `json:"instance,omitempty"`
	} `json:"component"`
	Variable struct {
		Name     string `json:"name"`
		Instance string `json:"instance,omitempty"`
	} `json:"variable"`
}

func (n naming) key() string {
	key := n.Component.Name + "." + n.Variable.Name
	if n.Variable.Instance != "" {
		key += "[" + n.Variable.Instance + "]"
	}
	return key
}

func parseKey(key string) naming {
	var n naming
	var rest string
	n.Component.Name, rest, _ = strings.Cut(key, ".")
	n.Variable.Name, rest, _ = strings.Cut(rest, "[")
	n.Variable.Instance = strings.TrimSuffix(rest, "]")
	return n
}

// find looks a variable up and says what is unknown about it.
func find(vars map[string]variable, n naming) (v variable, unknown string) {
	v, ok := vars[n.key()]
	if ok && n.Component.Instance == "" {
		return v, ""
	}
	for key := range vars {
		if strings.HasPrefix(key, n.Component.Name+".") && n.Component.Instance == "" {
			return v, "UnknownVariable"
		}
	}
	return v, "UnknownComponent"
}

// setVariables sets 2.x variables in order; what has to follow does so once.
func (l *link) setVariables(payload []byte) reply {
	var req struct {
		Data []struct {
			naming
			Type  string `json:"attributeType"`
			Value string `json:"attributeValue"`
		} `json:"setVariableData"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if len(req.Data) == 0 {
		return failure(ocpp.OccurrenceConstraintViolation, "setVariableData")
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	vars := s.variables2()
	var results []object
	var follow effect
	for _, d := range req.Data {
		result := object{"component": d.Component, "variable": d.Variable}
		v, state := find(vars, d.naming)
		switch {
		case state != "":
		case d.Type != "" && d.Type != "Actual":
			state = "NotSupportedAttributeType"
		case v.set == nil:
			state = rejected
			result["attributeStatusInfo"] = object{"reasonCode": "ReadOnly"}
		default:
			then, err := v.set(d.Value)
			if err != nil {
				s.cfg.Log.Info("refused a setting", "station", s.cfg.Identity, "key", d.key(), "reason", err)
				state = rejected
				result["attributeStatusInfo"] = object{"reasonCode": "InvalidValue"}
				break
			}
			state = accepted
			if then == needsReboot {
				state = "RebootRequired"
			} else {
				follow = max(follow, then)
			}
		}
		result["attributeStatus"] = state
		results = append(results, result)
	}
	return reply{payload: object{"setVariableResult": results}}.then(func(context.Context) { s.follow(follow) })
}

// getVariables reads 2.x variables; write-only ones are Rejected.
func (l *link) getVariables(payload []byte) reply {
	var req struct {
		Data []struct {
			naming
			Type string `json:"attributeType"`
		} `json:"getVariableData"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	if len(req.Data) == 0 {
		return failure(ocpp.OccurrenceConstraintViolation, "getVariableData")
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	vars := s.variables2()
	var results []object
	for _, d := range req.Data {
		result := object{"component": d.Component, "variable": d.Variable}
		v, state := find(vars, d.naming)
		switch {
		case state != "":
		case d.Type != "" && d.Type != "Actual":
			state = "NotSupportedAttributeType"
		case v.get == nil:
			state = rejected
			result["attributeStatusInfo"] = object{"reasonCode": "WriteOnly"}
		default:
			state = accepted
			result["attributeValue"] = v.get()
		}
		result["attributeStatus"] = state
		results = append(results, result)
	}
	return reply{payload: object{"getVariableResult": results}}
}

// getBaseReport sends the whole device model in one NotifyReport (B07).
func (l *link) getBaseReport(payload []byte) reply {
	var req struct {
		ID   int    `json:"requestId"`
		Base string `json:"reportBase"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	if req.Base != "FullInventory" && req.Base != "ConfigurationInventory" {
		return status("NotSupported")
	}
	s.mu.Lock()
	var data []object
	vars := s.variables2()
	for _, name := range names(vars) {
		n, v := parseKey(name), vars[name]
		attribute := object{"mutability": "ReadWrite"}
		switch {
		case v.set == nil:
			attribute["mutability"] = "ReadOnly"
		case v.get == nil:
			attribute["mutability"] = "WriteOnly"
		}
		if v.get != nil {
			attribute["value"] = v.get()
		}
		data = append(data, object{"component": n.Component, "variable": n.Variable, "variableAttribute": []object{attribute}})
	}
	s.mu.Unlock()
	return status(accepted).then(func(ctx context.Context) {
		report := object{"requestId": req.ID, "generatedAt": s.stamp(), "seqNo": 0, "tbc": false, "reportData": data}
		_, _ = s.Call(ctx, "NotifyReport", report) // the CSMS asks again if it is lost
	})
}

// setNetworkProfile fills a slot (B09). A lower security profile than the one
// in use is Rejected (B09.FR.04), but for the one way down, and so is the slot in use: the station must
// be able to go back to it.
func (l *link) setNetworkProfile(payload []byte) reply {
	var req struct {
		Slot int `json:"configurationSlot"`
		Data struct {
			Transport string `json:"ocppTransport"`
			URL       string `json:"ocppCsmsUrl"`
			Profile   int    `json:"securityProfile"`
			Password  string `json:"basicAuthPassword"`
			Identity  string `json:"identity"`
		} `json:"connectionData"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	code := ""
	switch {
	case req.Slot < 1 || req.Slot > slots:
		code = "InvalidConfSlot" // B09.FR.05
	case req.Slot == s.net.active:
		code = "ActiveNetworkConf"
	case req.Data.Profile < s.state.Profile && !(s.cfg.AllowDowngrade && s.state.Profile == 3 && req.Data.Profile == 2):
		code = "NoSecurityDowngrade" // B09.FR.04, .31
	case l.version == ocpp.V21 && slices.Contains(s.net.priority, req.Slot):
		code = "ActiveNetworkConf" // B09.FR.22
	case req.Data.Identity != "" && req.Data.Identity != s.cfg.Identity:
		code = "InvalidNetworkConf"
	case req.Data.Transport != "JSON" || req.Data.Profile > 3 || goesWith(req.Data.URL, req.Data.Profile) != nil:
		code = "InvalidNetworkConf"
	}
	e := endpoint{Slot: req.Slot, URL: req.Data.URL, Profile: req.Data.Profile}
	if code == "" && req.Data.Password != "" {
		secret, err := basicPassword(req.Data.Password)
		if err != nil {
			code = "InvalidNetworkConf"
		}
		e.Password = secret
	}
	if code != "" {
		return l.refuse(code)
	}
	s.net.slots[req.Slot] = e
	return status(accepted)
}

// goesWith checks that a CSMS URL has the scheme its security profile needs.
func goesWith(address string, profile int) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("couldn't read the CSMS URL: %w", err)
	}
	if u.Host == "" {
		return errors.New("the CSMS URL has no host")
	}
	if !schemeFits(u.Scheme, profile) {
		return fmt.Errorf("security profile %d does not go with URL scheme %q", profile, u.Scheme)
	}
	return nil
}

// schemeFits says whether a URL scheme is a security profile's (A00.FR.202 ff.).
func schemeFits(scheme string, profile int) bool {
	if profile == 1 {
		return scheme == "ws"
	}
	return scheme == "wss"
}
