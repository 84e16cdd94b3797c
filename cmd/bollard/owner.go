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
	var s syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, databaseName), &s); err != nil {
		s.Uid = uint32(os.Geteuid()) // nobody's: opening it will say why
	}
	if os.Geteuid() != 0 || s.Uid == 0 {
		return nil
	}
	user := admin.OperatorName(int(s.Uid))[len("operator:"):]
	return admin.Refusedf(fmt.Sprintf("`runuser -u %s -- bollard …`", user), "the database in %s belongs to user %s", dir, user)
}
