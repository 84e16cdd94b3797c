package admin

import (
	"context"
	"net/http"
)

// SocketHandler lets tests be another unix user.
func SocketHandler(r *Registry, uid uint32) http.Handler {
	h := socketHandler(r)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), peerKey{}, uid)))
	})
}

// NamelessHandler is the handler for a peer the kernel said nothing of.
func NamelessHandler(r *Registry) http.Handler { return socketHandler(r) }

// ShownOrder is an order as `station show` tells it.
var ShownOrder = shownOrder

// ShownContract is what an operator sees of one.
var ShownContract = shownContract
