package main

import (
	"reflect"
	"strings"

	"bollard/internal/config"
)

// reloadable are the keys of bollard.yaml that SIGHUP takes over.
func reloadable() []string {
	return []string{"backends", "limits", "compression", "server_certificate", "log"}
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
	if old.Log.Format != now.Log.Format {
		changed = append(changed, "log.format")
	}
	return changed
}
