package detect

// Remembered counts episodes.
func Remembered(d *Detector) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.stations.byKey) + len(d.sources.byKey)
}
