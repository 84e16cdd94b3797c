package ws

import "time"

// CloseWait is the bound of Close.
const CloseWait = time.Duration(closeWait)
