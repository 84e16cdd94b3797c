package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root in another user's data directory would leave files the server can't
// open. Any other user is told so by the file system.
func TestRootKeepsOutOfOthersDirectories(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t, "")
	if err := refuseForeignOwner(dir); err != nil {
		t.Errorf("one's own: %v", err)
	}
	root := os.Geteuid() == 0
	if root {
		if err := os.Chown(filepath.Join(dir, databaseName), 65534, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := refuseForeignOwner(dir); (err != nil) != root || root && !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("as root %v: %v", root, err)
	}
}
