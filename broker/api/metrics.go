package api

import "net/http"

// mountMetrics registers /metrics, which h answers for whoever g lets in.
func (a *API) mountMetrics(mux *http.ServeMux, h http.Handler, g gate) {
	if h == nil {
		return
	}
	op := &operation{method: http.MethodGet, path: "/metrics", id: "metrics"}
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if _, err := g.admit(w, r, op); err != nil {
			a.fail(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}
