package main

import (
	"errors"
	"path/filepath"

	"bollard/internal/config"
)

// keyedError is a fault of what a configuration key names, such as a file.
type keyedError struct {
	key string
	err error
}

func (e *keyedError) Error() string { return e.key + ": " + e.err.Error() }
func (e *keyedError) Unwrap() error { return e.err }

// configFault makes a *config.Error of a fault found when using the configuration.
func configFault(dir, key string, err error) error {
	var keyed *keyedError
	if errors.As(err, &keyed) {
		key, err = key+"."+keyed.key, keyed.err
	}
	return config.Fault(filepath.Join(dir, configName), key, err.Error())
}
