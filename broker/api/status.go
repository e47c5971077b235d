package api

import (
	"net/http"

	"github.com/cordon-mq/cordon/policy"
)

// statusOf is the one table from failure class to HTTP status. A class it does
// not know is an internal fault.
func statusOf(k policy.Kind) int {
	switch k {
	case policy.KindInvalid:
		return http.StatusBadRequest
	case policy.KindUnauthenticated:
		return http.StatusUnauthorized
	case policy.KindForbidden:
		return http.StatusForbidden
	case policy.KindNotFound:
		return http.StatusNotFound
	case policy.KindExists, policy.KindConflict:
		return http.StatusConflict
	case policy.KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case policy.KindLimit:
		return http.StatusTooManyRequests
	case policy.KindUnavailable:
		return http.StatusServiceUnavailable
	case policy.KindInternal:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// exceptionID is the stable identifier a client may match on. A request that
// breaks a rule has the one the platform documented; the rest are Cordon's own,
// one for each status.
func exceptionID(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "CUDRS0007E"
	case http.StatusUnauthorized:
		return "CDNHT0401E"
	case http.StatusForbidden:
		return "CDNHT0403E"
	case http.StatusNotFound:
		return "CDNHT0404E"
	case http.StatusMethodNotAllowed:
		return "CDNHT0405E"
	case http.StatusRequestTimeout:
		return "CDNHT0408E"
	case http.StatusConflict:
		return "CDNHT0409E"
	case http.StatusGone:
		return "CDNHT0410E"
	case http.StatusRequestEntityTooLarge:
		return "CDNHT0413E"
	case http.StatusUnsupportedMediaType:
		return "CDNHT0415E"
	case http.StatusTooManyRequests:
		return "CDNHT0429E"
	case http.StatusServiceUnavailable:
		return "CDNHT0503E"
	default:
		return "CDNHT0500E"
	}
}

// violationID is the identifier of each broken rule inside a CUDRS0007E.
const violationID = "CUDRS0012E"
