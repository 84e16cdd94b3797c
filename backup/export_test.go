package backup

// BeforeReread lets a test act between writing a file and reading it back.
func BeforeReread(cfg *CreateConfig, f func()) { cfg.beforeReread = f }
