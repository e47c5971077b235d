package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Management makes requests of device management, and knows what became of them.
type Management interface {
	// Initiate stores a request and answers its ID.
	Initiate(ctx context.Context, t ledger.Tenant, n ledger.NewRequest) (string, error)
	// Requests are those of an organisation, the newest first.
	Requests(ctx context.Context, t ledger.Tenant) ([]ledger.Request, error)
	Request(ctx context.Context, t ledger.Tenant, id string) (ledger.Request, error)
	// Tasks are those of a request after a device, in the order of types and IDs, n at
	// most.
	Tasks(ctx context.Context, t ledger.Tenant, id string, typ, device policy.ID, n int) ([]ledger.Task, error)
	Task(ctx context.Context, t ledger.Tenant, id string, typ, device policy.ID) (ledger.Task, error)
	Delete(ctx context.Context, t ledger.Tenant, id string) error
	// Located tells a managed device where somebody else said that it is.
	Located(ctx context.Context, t ledger.Tenant, typ, id policy.ID, l *registry.Location)
}

// ManagedDevices is what the routes of device management ask of the registry.
type ManagedDevices interface {
	ManagedDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) (registry.Managed, error)
	CreateActionBundle(ctx context.Context, org policy.OrgID, b registry.ActionBundle) (registry.ActionBundle, error)
	ActionBundle(ctx context.Context, org policy.OrgID, id string) (registry.ActionBundle, error)
	ActionBundles(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.ActionBundle, string, error)
	ReplaceActionBundle(ctx context.Context, org policy.OrgID, b registry.ActionBundle) (registry.ActionBundle, error)
	DeleteActionBundle(ctx context.Context, org policy.OrgID, id string) error
}

// ManagementObject says how a device manages itself.
type ManagementObject struct {
	Dormant      bool            `json:"dormant" doc:"Its lifetime has ended, so nothing is asked of it until it manages itself again."`
	DormantSince *timestamp      `json:"dormantDateTime" doc:"When its lifetime ends or ended; null: never."`
	LastActivity timestamp       `json:"lastActivityDateTime" doc:"To the minute."`
	Supports     map[string]bool `json:"supports" nullable:"false" doc:"deviceActions, firmwareActions, and names of bundles."`
	Firmware     *FirmwareObject `json:"firmware"`
}

// FirmwareObject is what is known of the firmware of a device.
type FirmwareObject struct {
	Version      string     `json:"version"`
	Name         string     `json:"name"`
	URI          string     `json:"uri"`
	Verifier     string     `json:"verifier"`
	State        int        `json:"state" doc:"0 idle, 1 downloading, 2 downloaded."`
	UpdateStatus int        `json:"updateStatus" doc:"0 success, 1 in progress, 2 out of memory, 3 connection lost, 4 verification failed, 5 unsupported image, 6 invalid URI."`
	Updated      *timestamp `json:"updatedDateTime"`
}

// ManagementParameter is one of an action.
type ManagementParameter struct {
	Name  *string `json:"name" nullable:"false"`
	Value *string `json:"value" nullable:"false"`
}

// NewManagementRequest asks devices to do something.
type NewManagementRequest struct {
	Action     *string               `json:"action" nullable:"false" doc:"device/reboot, device/factoryReset, firmware/download, firmware/update, or BUNDLE/ACTION of a bundle of the organisation."`
	Parameters []ManagementParameter `json:"parameters,omitempty" nullable:"true" doc:"firmware/download takes uri, name, version and verifier."`
	Devices    []BulkDeviceName      `json:"devices" nullable:"false" doc:"1 to 5000, each managed and able to do it."`
	Timeout    *int                  `json:"timeout,omitempty" nullable:"true" minimum:"60" maximum:"604800" doc:"Seconds that the devices have for it; 3600 unless stated."`
}

// ManagementRequestID names a request that was made.
type ManagementRequestID struct {
	ReqID string `json:"reqId"`
}

// ManagementRequestObject is a request.
type ManagementRequestObject struct {
	ID         string             `json:"id"`
	Action     string             `json:"action"`
	Parameters []ledger.Parameter `json:"parameters" nullable:"false"`
	By         string             `json:"initiatedBy"`
	Began      timestamp          `json:"startTime"`
	Deadline   timestamp          `json:"timeoutDateTime"`
	Ended      *timestamp         `json:"endTime"`
	Complete   bool               `json:"complete"`
	Devices    int                `json:"deviceCount"`
	Open       int                `json:"openCount" doc:"Devices that are not done."`
	Failed     int                `json:"failedCount"`
}

// ManagementStatusObject is what became of a request at one device.
type ManagementStatusObject struct {
	TypeID   policy.ID `json:"typeId"`
	DeviceID policy.ID `json:"deviceId"`
	Status   int       `json:"status" enum:"0,1,2,3,4,5,6" doc:"0 success, 1 in progress, 2 rejected by the device, 3 failed after it began, 4 timed out, 5 the device is not managed any more, 6 withdrawn."`
	Complete bool      `json:"complete"`
	Code     *int      `json:"rc" doc:"Of the device's last answer."`
	Message  string    `json:"message"`
	Updated  timestamp `json:"updatedDateTime"`
}

// ActionBundleObject is a set of actions that the organisation made.
type ActionBundleObject struct {
	ID          string                  `json:"bundleId"`
	DisplayName map[string]string       `json:"displayName" nullable:"false"`
	Description map[string]string       `json:"description,omitempty"`
	Version     string                  `json:"version,omitempty"`
	Provider    string                  `json:"provider,omitempty"`
	Actions     map[string]BundleAction `json:"actions" nullable:"false"`
	Created     timestamp               `json:"created"`
	Updated     timestamp               `json:"updated"`
}

// NewActionBundle asks for a bundle.
type NewActionBundle struct {
	ID          *string                 `json:"bundleId,omitempty" nullable:"true" doc:"1 to 255 letters, digits, '-', '_' and '.'."`
	DisplayName map[string]string       `json:"displayName" nullable:"false" doc:"By language, such as en_US."`
	Description map[string]string       `json:"description,omitempty" nullable:"true"`
	Version     *string                 `json:"version,omitempty" nullable:"true"`
	Provider    *string                 `json:"provider,omitempty" nullable:"true"`
	Actions     map[string]BundleAction `json:"actions" nullable:"false"`
}

// BundleAction is one action of a bundle.
type BundleAction struct {
	DisplayName map[string]string `json:"actionDisplayName" nullable:"false"`
	Description map[string]string `json:"description,omitempty" nullable:"true"`
	Parameters  []BundleParameter `json:"parameters,omitempty" nullable:"true"`
}

// BundleParameter is what an action may be given.
type BundleParameter struct {
	Name     string  `json:"name"`
	Pattern  *string `json:"value,omitempty" nullable:"true" doc:"A regular expression (RE2) that a whole value has to match."`
	Required *bool   `json:"required,omitempty" nullable:"true"`
	Default  *string `json:"defaultValue,omitempty" nullable:"true"`
}

func (a *API) managementRoutes(s *surface) {
	const all, one = "/mgmt/requests", "/mgmt/requests/{requestId}"
	handle(s, operation{
		method: "GET", path: all, id: "listManagementRequests", summary: "Requests of device management, the newest first",
		status: http.StatusOK, list: true,
	}, a.listRequests)
	handle(s, operation{
		method: "POST", path: all, id: "initiateManagementRequest", summary: "Ask managed devices to do something",
		status: http.StatusAccepted, body: true, conflict: true, types: typesOfRequest,
	}, a.initiate)
	handle(s, operation{
		method: "GET", path: one, id: "readManagementRequest", summary: "One request",
		status: http.StatusOK,
	}, a.readRequest)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteManagementRequest", summary: "Remove a request; what devices did is not undone",
		status: http.StatusNoContent,
	}, a.deleteRequest)
	handle(s, operation{
		method: "GET", path: one + "/deviceStatus", id: "listManagementStatus", summary: "What became of a request at each device",
		status: http.StatusOK, list: true,
	}, a.listStatus)
	handle(s, operation{
		method: "GET", path: one + "/deviceStatus/{typeId}/{deviceId}", id: "readManagementStatus", summary: "What became of a request at one device",
		status: http.StatusOK,
	}, a.readStatus)
	a.bundleRoutes(s)
}

func (a *API) bundleRoutes(s *surface) {
	const all, one = "/mgmt/custom/bundle", "/mgmt/custom/bundle/{bundleId}"
	handle(s, operation{
		method: "GET", path: all, id: "listActionBundles", summary: "Bundles of actions that the organisation made",
		status: http.StatusOK, list: true,
	}, a.listBundles)
	handle(s, operation{
		method: "POST", path: all, id: "createActionBundle", summary: "Make a bundle of actions",
		status: http.StatusCreated, body: true, conflict: true,
	}, a.createBundle)
	handle(s, operation{
		method: "GET", path: one, id: "readActionBundle", summary: "One bundle",
		status: http.StatusOK,
	}, a.readBundle)
	handle(s, operation{
		method: "PUT", path: one, id: "replaceActionBundle", summary: "Put another bundle in its place",
		status: http.StatusOK, body: true,
	}, a.replaceBundle)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteActionBundle", summary: "Remove a bundle; requests that were made by it go on",
		status: http.StatusNoContent,
	}, a.deleteBundle)
}

// readManagement shows how a device manages itself; one that does not is not found.
func (a *API) readManagement(ctx context.Context, c *call, _ *none) (ManagementObject, error) {
	typ, id, err := c.device()
	if err == nil {
		_, err = a.registry.Device(ctx, c.org, typ, id)
	}
	if err != nil {
		return ManagementObject{}, err
	}
	m, err := a.registry.ManagedDevice(ctx, c.org, typ, id)
	o := ManagementObject{
		Dormant: m.Dormant(a.now()), DormantSince: instant(m.Ends()), LastActivity: timestamp{m.Activity},
		Supports: map[string]bool{registry.SupportsDeviceActions: false, registry.SupportsFirmwareActions: false},
	}
	for _, name := range m.Supports {
		o.Supports[name] = true
	}
	if f := m.Firmware; f != nil {
		o.Firmware = &FirmwareObject{
			Version: f.Version, Name: f.Name, URI: f.URI, Verifier: f.Verifier,
			State: f.State, UpdateStatus: f.UpdateStatus, Updated: instant(f.Updated),
		}
	}
	return o, err
}

// typesOfRequest are the types of the devices that a request names.
func typesOfRequest(t *target) ([]policy.ID, error) {
	var asked NewManagementRequest
	if len(t.body) == 0 {
		return nil, nil
	}
	if err := decode(t.body, &asked); err != nil {
		return nil, err
	}
	return distinctTypes(asked.Devices, func(e *BulkDeviceName) *string { return e.TypeID })
}

func (a *API) initiate(ctx context.Context, c *call, in *NewManagementRequest) (ManagementRequestID, error) {
	n := ledger.NewRequest{
		Action: value(in.Action), By: c.caller,
		Finds: func(typ, id policy.ID) (bool, error) { return a.finds(ctx, c, typ, id) },
	}
	if in.Action == nil {
		return ManagementRequestID{}, invalid("action", "is required")
	}
	for i := range in.Parameters {
		p := &in.Parameters[i]
		if p.Name == nil || p.Value == nil {
			return ManagementRequestID{}, invalid("parameters", "must each have a name and a value")
		}
		n.Parameters = append(n.Parameters, ledger.Parameter{Name: *p.Name, Value: *p.Value})
	}
	for i := range in.Devices {
		typ, err := c.bulkType(in.Devices[i].TypeID)
		if err != nil {
			return ManagementRequestID{}, err
		}
		id, err := bodyID("deviceId", in.Devices[i].DeviceID)
		if err != nil {
			return ManagementRequestID{}, err
		}
		n.Devices = append(n.Devices, ledger.Device{Type: typ, ID: id})
	}
	if in.Timeout != nil {
		if *in.Timeout < 60 || *in.Timeout > 7*24*3600 {
			return ManagementRequestID{}, invalid("timeout", "must be 60 to 604800 seconds")
		}
		n.Timeout = time.Duration(*in.Timeout) * time.Second
	}
	t, err := a.tenant(ctx, c)
	if err != nil {
		return ManagementRequestID{}, err
	}
	id, err := a.management.Initiate(ctx, t, n)
	return ManagementRequestID{id}, err
}

func showRequest(r *ledger.Request) ManagementRequestObject {
	return ManagementRequestObject{
		ID: r.ID, Action: r.Action, Parameters: append([]ledger.Parameter{}, r.Parameters...), By: r.By,
		Began: timestamp{r.Began}, Deadline: timestamp{r.Deadline}, Ended: instant(r.Ended),
		Complete: r.Open == 0, Devices: r.Devices, Open: r.Open, Failed: r.Failed,
	}
}

func (a *API) listRequests(ctx context.Context, c *call, _ *none) (List[ManagementRequestObject], error) {
	none := List[ManagementRequestObject]{}
	page, err := c.page()
	if err != nil {
		return none, err
	}
	t, err := a.tenant(ctx, c)
	if err != nil {
		return none, err
	}
	all, err := a.management.Requests(ctx, t)
	if err != nil {
		return none, err
	}
	all = slices.DeleteFunc(all, func(r ledger.Request) bool { return !c.sees(&r) })
	if page.After != "" {
		i := 0
		for i < len(all) && all[i].ID != page.After {
			i++
		}
		if i == len(all) {
			return none, invalid("_bookmark", "must be the bookmark of the page before")
		}
		all = all[i+1:]
	}
	next := ""
	if len(all) > page.Limit {
		all = all[:page.Limit]
		next = all[page.Limit-1].ID
	}
	return listed(all, next, nil, showRequest)
}

// maxRequestID is the longest identifier of a request that is looked for, in bytes.
const maxRequestID = 64

// sees reports whether a request is there for the call. Who reaches some devices
// alone sees what it asked itself: of the others it may not even know the number.
func (c *call) sees(r *ledger.Request) bool { return c.groups == nil || r.By == c.caller }

// pathRequest is the request that the path names.
func (a *API) pathRequest(ctx context.Context, c *call) (t ledger.Tenant, r ledger.Request, err error) {
	id := c.params("requestId")
	if id == "" || len(id) > maxRequestID {
		return t, r, notFound("request")
	}
	if t, err = a.tenant(ctx, c); err != nil {
		return t, r, err
	}
	r, err = a.management.Request(ctx, t, id)
	if err == nil && !c.sees(&r) {
		err = notFound("request")
	}
	return t, r, err
}

func (a *API) readRequest(ctx context.Context, c *call, _ *none) (ManagementRequestObject, error) {
	_, r, err := a.pathRequest(ctx, c)
	return showRequest(&r), err
}

func (a *API) deleteRequest(ctx context.Context, c *call, _ *none) (none, error) {
	t, r, err := a.pathRequest(ctx, c)
	if err != nil {
		return none{}, err
	}
	return none{}, a.management.Delete(ctx, t, r.ID)
}

func showStatus(t *ledger.Task) ManagementStatusObject {
	o := ManagementStatusObject{
		TypeID: t.Type, DeviceID: t.ID, Status: int(t.Status), Complete: t.Complete(), Message: t.Message, Updated: timestamp{t.Updated},
	}
	if t.Code != 0 {
		o.Code = &t.Code
	}
	return o
}

func (a *API) listStatus(ctx context.Context, c *call, _ *none) (List[ManagementStatusObject], error) {
	none := List[ManagementStatusObject]{}
	page, err := c.page()
	if err != nil {
		return none, err
	}
	var typ, device policy.ID
	if page.After != "" {
		first, second, _ := strings.Cut(page.After, "/")
		var typErr, idErr error
		typ, typErr = policy.ParseID("typeId", first)
		device, idErr = policy.ParseID("deviceId", second)
		if typErr != nil || idErr != nil {
			return none, invalid("_bookmark", "must be the bookmark of the page before")
		}
	}
	t, r, err := a.pathRequest(ctx, c)
	if err != nil {
		return none, err
	}
	tasks, err := a.management.Tasks(ctx, t, r.ID, typ, device, page.Limit+1)
	if err != nil {
		return none, err
	}
	next := ""
	if len(tasks) > page.Limit {
		tasks = tasks[:page.Limit]
		last := &tasks[page.Limit-1]
		next = string(last.Type) + "/" + string(last.ID)
	}
	var failed error
	tasks = slices.DeleteFunc(tasks, func(task ledger.Task) bool {
		ok, err := a.finds(ctx, c, task.Type, task.ID)
		failed = errors.Join(failed, err)
		return !ok
	})
	if failed != nil {
		return none, failed
	}
	return listed(tasks, next, nil, showStatus)
}

func (a *API) readStatus(ctx context.Context, c *call, _ *none) (ManagementStatusObject, error) {
	typ, device, err := c.device()
	if err != nil {
		return ManagementStatusObject{}, err
	}
	t, r, err := a.pathRequest(ctx, c)
	if err != nil {
		return ManagementStatusObject{}, err
	}
	task, err := a.management.Task(ctx, t, r.ID, typ, device)
	return showStatus(&task), err
}

func showBundle(b *registry.ActionBundle) ActionBundleObject {
	o := ActionBundleObject{
		ID: b.ID, DisplayName: b.DisplayName, Description: b.Description, Version: b.Version, Provider: b.Provider,
		Actions: map[string]BundleAction{}, Created: timestamp{b.Created}, Updated: timestamp{b.Updated},
	}
	for id, a := range b.Actions {
		shown := BundleAction{DisplayName: a.DisplayName, Description: a.Description}
		for i := range a.Parameters {
			p := &a.Parameters[i]
			sp := BundleParameter{Name: p.Name, Required: &p.Required, Default: p.Default}
			if p.Pattern != "" {
				sp.Pattern = &p.Pattern
			}
			shown.Parameters = append(shown.Parameters, sp)
		}
		o.Actions[id] = shown
	}
	return o
}

// record is the bundle that in asks for, of a name.
func (in *NewActionBundle) record(id string) registry.ActionBundle {
	b := registry.ActionBundle{
		ID: id, DisplayName: in.DisplayName, Description: in.Description, Version: value(in.Version), Provider: value(in.Provider),
		Actions: map[string]registry.BundleAction{},
	}
	for name, a := range in.Actions {
		made := registry.BundleAction{DisplayName: a.DisplayName, Description: a.Description}
		for i := range a.Parameters {
			p := &a.Parameters[i]
			made.Parameters = append(made.Parameters, registry.BundleParameter{
				Name: p.Name, Pattern: value(p.Pattern), Required: value(p.Required), Default: p.Default,
			})
		}
		b.Actions[name] = made
	}
	return b
}

func (a *API) listBundles(ctx context.Context, c *call, _ *none) (List[ActionBundleObject], error) {
	page, err := c.page()
	if err != nil {
		return List[ActionBundleObject]{}, err
	}
	found, next, err := a.registry.ActionBundles(ctx, c.org, page)
	return listed(found, next, err, showBundle)
}

func (a *API) createBundle(ctx context.Context, c *call, in *NewActionBundle) (ActionBundleObject, error) {
	if in.ID == nil {
		return ActionBundleObject{}, invalid("bundleId", "is required")
	}
	made, err := a.registry.CreateActionBundle(ctx, c.org, in.record(*in.ID))
	return showBundle(&made), err
}

func (a *API) readBundle(ctx context.Context, c *call, _ *none) (ActionBundleObject, error) {
	b, err := a.registry.ActionBundle(ctx, c.org, c.params("bundleId"))
	return showBundle(&b), err
}

func (a *API) replaceBundle(ctx context.Context, c *call, in *NewActionBundle) (ActionBundleObject, error) {
	id := c.params("bundleId")
	if in.ID != nil && *in.ID != id {
		return ActionBundleObject{}, invalid("bundleId", "must be that of the path: "+strconv.Quote(id))
	}
	made, err := a.registry.ReplaceActionBundle(ctx, c.org, in.record(id))
	return showBundle(&made), err
}

func (a *API) deleteBundle(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.registry.DeleteActionBundle(ctx, c.org, c.params("bundleId"))
}
