package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"bollard/admin"
)

// refuseForeignOwner keeps root from working in another user's data directory:
// the files SQLite makes would be root's, and the server couldn't open them.
func refuseForeignOwner(dir string) error {
	info, err := os.Stat(filepath.Join(dir, databaseName))
	if err != nil {
		return nil // opening it will say why
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || s.Uid == 0 {
		return nil
	}
	user := admin.OperatorName(int(s.Uid))[len("operator:"):]
	return admin.Refusedf(fmt.Sprintf("`runuser -u %s -- bollard …`", user), "the database in %s belongs to user %s", dir, user)
}
