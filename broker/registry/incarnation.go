package registry

import (
	"context"

	"github.com/cordon-mq/cordon/policy"
)

// DeviceIncarnation tells a device from a deleted namesake. It costs no look into
// the store for a device that was asked about lately. The error of one that is not
// registered is policy.KindNotFound.
func (r *Registry) DeviceIncarnation(_ context.Context, org policy.OrgID, typ, id policy.ID) (uint64, error) {
	const op = "read device"
	scope, err := r.scopeOf(org)
	if err != nil {
		return 0, at(op, missing(err, "organisation"))
	}
	found, err := recall[Device](r, deviceKey(scope, typ, id))
	if err != nil {
		return 0, at(op, missing(err, "device"))
	}
	return found.Record.Incarnation, nil
}
