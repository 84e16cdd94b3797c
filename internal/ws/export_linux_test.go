package ws

// NewLoop is NewLoops with one loop, which all pairs share.
func NewLoop() (*Loops, error) {
	one, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &Loops{loops: []*Loop{one}}, nil
}

// Direct reads and writes a connection directly, in race builds too.
type Direct = direct

var NewDirect = newDirect

func (d *direct) Read(p []byte) (int, error)  { return d.read(p) }
func (d *direct) Write(p []byte) (int, error) { return d.write(p) }
