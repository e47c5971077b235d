package api

import (
	"strings"
	"testing"
)

// publishedStatuses is what a call of the published interface answers when all is
// well. Where its clients disagree, the one for Node decides, which takes no other:
// a bulk removal answers 201, and a group that is removed 200.
const publishedStatuses = `
200 GET    /
200 GET    /device/types
201 POST   /device/types
200 GET    /device/types/{typeId}
200 PUT    /device/types/{typeId}
204 DELETE /device/types/{typeId}
200 GET    /device/types/{typeId}/devices
201 POST   /device/types/{typeId}/devices
200 GET    /device/types/{typeId}/devices/{deviceId}
200 PUT    /device/types/{typeId}/devices/{deviceId}
204 DELETE /device/types/{typeId}/devices/{deviceId}
200 GET    /device/types/{typeId}/devices/{deviceId}/devices
200 GET    /device/types/{typeId}/devices/{deviceId}/location
200 PUT    /device/types/{typeId}/devices/{deviceId}/location
200 GET    /device/types/{typeId}/devices/{deviceId}/mgmt
200 GET    /device/types/{typeId}/devices/{deviceId}/diag/logs
201 POST   /device/types/{typeId}/devices/{deviceId}/diag/logs
204 DELETE /device/types/{typeId}/devices/{deviceId}/diag/logs
200 GET    /device/types/{typeId}/devices/{deviceId}/diag/logs/{logId}
204 DELETE /device/types/{typeId}/devices/{deviceId}/diag/logs/{logId}
200 GET    /device/types/{typeId}/devices/{deviceId}/diag/errorCodes
201 POST   /device/types/{typeId}/devices/{deviceId}/diag/errorCodes
204 DELETE /device/types/{typeId}/devices/{deviceId}/diag/errorCodes
200 GET    /device/types/{typeId}/devices/{deviceId}/events
200 GET    /device/types/{typeId}/devices/{deviceId}/events/{eventId}
200 GET    /bulk/devices
201 POST   /bulk/devices/add                  202
201 POST   /bulk/devices/remove
200 PUT    /bulk/devices/update               202
200 GET    /bulk/devices/{groupId}
200 GET    /bulk/devices/{groupId}/ids
200 PUT    /bulk/devices/{groupId}/add
200 PUT    /bulk/devices/{groupId}/remove
200 GET    /groups
201 POST   /groups
200 GET    /groups/{groupId}
200 PUT    /groups/{groupId}
200 DELETE /groups/{groupId}
200 GET    /authorization/apikeys
200 POST   /authorization/apikeys
200 GET    /authorization/apikeys/{key}
200 PUT    /authorization/apikeys/{key}
200 DELETE /authorization/apikeys/{key}
200 GET    /authorization/apikeys/{key}/roles
200 PUT    /authorization/apikeys/{key}/roles
200 GET    /authorization/devices
200 GET    /authorization/devices/{clientId}
200 PUT    /authorization/devices/{clientId}
200 GET    /authorization/devices/{clientId}/roles
200 PUT    /authorization/devices/{clientId}/roles
200 PUT    /authorization/devices/{clientId}/withroles
200 GET    /authorization/users/{uid}
200 PUT    /authorization/users/{uid}
200 GET    /authorization/users/{uid}/roles
200 PUT    /authorization/users/{uid}/roles
200 PUT    /accesscontrol
200 GET    /clientconnectionstates
200 GET    /clientconnectionstates/{clientId}
200 GET    /config/clientstate
200 PUT    /config/clientstate
200 GET    /config/lec
200 PUT    /config/lec
200 GET    /logs/connection
200 GET    /usage/data-traffic
200 GET    /service-status
200 GET    /mgmt/requests
202 POST   /mgmt/requests
200 GET    /mgmt/requests/{requestId}
204 DELETE /mgmt/requests/{requestId}
200 GET    /mgmt/requests/{requestId}/deviceStatus
200 GET    /mgmt/requests/{requestId}/deviceStatus/{typeId}/{deviceId}
200 GET    /mgmt/custom/bundle
201 POST   /mgmt/custom/bundle
200 GET    /mgmt/custom/bundle/{bundleId}
200 PUT    /mgmt/custom/bundle/{bundleId}
204 DELETE /mgmt/custom/bundle/{bundleId}
201 POST   /authentication/cacertificates
`

// Every published call is there and answers as published.
func TestPublishedStatuses(t *testing.T) {
	t.Parallel()
	known := map[string]operation{}
	for _, op := range newWorld(t).api.operations {
		known[op.method+" "+op.path] = op
	}
	numbers := map[string]int{"200": 200, "201": 201, "202": 202, "204": 204}
	for line := range strings.Lines(strings.TrimSpace(publishedStatuses)) {
		row := strings.Fields(line)
		op, ok := known[row[1]+" "+row[2]]
		if !ok {
			t.Errorf("there is no %s %s", row[1], row[2])
			continue
		}
		if op.status != numbers[row[0]] {
			t.Errorf("%s %s answers %d, want %s", op.method, op.path, op.status, row[0])
		}
		if len(row) > 3 && op.partly != numbers[row[3]] {
			t.Errorf("%s %s answers %d in part, want %s", op.method, op.path, op.partly, row[3])
		}
	}
}
