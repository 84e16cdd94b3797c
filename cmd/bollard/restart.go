package main

import (
	"context"
	"reflect"
	"strconv"
	"strings"

	"bollard/internal/config"
	"bollard/ledger"
)

// reloadable are the keys of bollard.yaml that SIGHUP takes over.
func reloadable() []string {
	return []string{"backends", "limits", "compression", "server_certificate", "approvers", "approvals", "retention", "log"}
}

// restartKeys names the keys that differ but take effect at the next start only.
func restartKeys(old, now *config.File) []string {
	skip := map[string]bool{"public": true} // derived from host and listen unless given
	for _, key := range reloadable() {
		skip[key] = true
	}
	var changed []string
	a, b := reflect.ValueOf(*old), reflect.ValueOf(*now)
	for i := range a.NumField() {
		key, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if !skip[key] && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			changed = append(changed, key)
		}
	}
	if !reflect.DeepEqual(old.Server.ACME, now.Server.ACME) {
		changed = append(changed, "server_certificate.acme")
	}
	if old.Log.Format != now.Log.Format {
		changed = append(changed, "log.format")
	}
	return changed
}

// recordTaken records what a server takes over from bollard.yaml and DIR/policy,
// before it is in force: who edits them decides, and does so beside the commands.
// The digests are those of `sha256sum bollard.yaml` and, in the folder,
// `sha256sum *.yaml | sha256sum`.
func (a *app) recordTaken(ctx context.Context, at, digest, rulesDigest string, rules int) error {
	return a.store.Record(ctx, ledger.Event{Kind: "config.taken", Subject: configName, Actor: "bollard", Data: map[string]string{
		"at": at, "sha256": digest, "rules": strconv.Itoa(rules), "rules-sha256": rulesDigest, "version": version(),
	}})
}
