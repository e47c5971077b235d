package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Request is one of device management: what devices were asked to do.
type Request struct {
	ID         string      `json:"id"`
	Action     string      `json:"action"` // such as device/reboot
	Parameters []Parameter `json:"parameters,omitempty"`
	By         string      `json:"by,omitempty"` // public name of who asked
	Began      time.Time   `json:"began"`
	Deadline   time.Time   `json:"deadline"`
	Ended      time.Time   `json:"ended,omitzero"` // zero: not yet
	Devices    int         `json:"devices"`
	Open       int         `json:"open"` // devices that are not done
	Failed     int         `json:"failed,omitempty"`
	// Unfinished: not all of its tasks are stored, and nobody was told of it.
	Unfinished bool `json:"unfinished,omitempty"`
}

// Parameter is one of an action.
type Parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// NewRequest asks devices to do something.
type NewRequest struct {
	Action     string
	Parameters []Parameter
	Devices    []Device      // their incarnations are not looked at
	Timeout    time.Duration // how long they have for it; 0: what is usual
	By         string        // public name of who asks
	// Finds reports whether there is such a device for whoever asks; nil: it is the
	// registry that knows.
	Finds func(typ, id policy.ID) (bool, error)
}

// TaskStatus is what became of a request at one device.
type TaskStatus int

// The closed set of them.
const (
	TaskSucceeded   TaskStatus = 0
	TaskOpen        TaskStatus = 1 // under way
	TaskRejected    TaskStatus = 2 // the device answered with an error
	TaskFailed      TaskStatus = 3 // it began and failed
	TaskTimedOut    TaskStatus = 4
	TaskUnmanaged   TaskStatus = 5 // the device is not managed any more, or does not support the action any more
	TaskWithdrawn   TaskStatus = 6 // the request was deleted
	lastOfTaskState            = TaskWithdrawn
)

// Task is what a request asks of one device.
type Task struct {
	Type   policy.ID  `json:"typeId"`
	ID     policy.ID  `json:"deviceId"`
	Device uint64     `json:"device"` // its incarnation
	Status TaskStatus `json:"status"`
	// Step is what it was asked last.
	Step string `json:"step,omitempty"`
	// Sent: somebody heard that. Kept: it waits in a session that outlives the process.
	Sent bool `json:"sent,omitempty"`
	Kept bool `json:"kept,omitempty"`
	// Accepted: the device answered that it does it.
	Accepted bool      `json:"accepted,omitempty"`
	Code     int       `json:"rc,omitempty"` // of its last answer
	Message  string    `json:"message,omitempty"`
	Updated  time.Time `json:"updated"`
}

// Complete reports whether nothing more happens.
func (t *Task) Complete() bool { return t.Status != TaskOpen }

func requestKey(t Tenant, id string) store.Key {
	return t.scope().Key(store.KindManagementRequest, id)
}

func taskKey(t Tenant, request string, typ, id policy.ID) store.Key {
	return t.scope().Key(store.KindManagementTask, request, string(typ), string(id))
}

func openKey(t Tenant, request string, typ, id policy.ID) store.Key {
	return t.scope().Key(store.KindManagementOpen, string(typ), string(id), request)
}

// Requests are those of an organisation, the oldest first.
func (l *Ledger) Requests(t Tenant) (all []Request, err error) {
	err = l.store.Scan(t.scope().Prefix(store.KindManagementRequest), store.Key{}, func(_ store.Key, value []byte) bool {
		if r, err := decode[Request](value); err == nil {
			all = append(all, r)
		}
		return true
	})
	slices.SortFunc(all, func(a, b Request) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID)) })
	return all, err
}

// Request is one of them; ok is false where there is none.
func (l *Ledger) Request(t Tenant, id string) (_ Request, ok bool, err error) {
	return read[Request](l.store, requestKey(t, id))
}

// Tasks are those of a request after a device, in the order of types and IDs, n at
// most.
func (l *Ledger) Tasks(t Tenant, request string, typ, id policy.ID, n int) (all []Task, err error) {
	after := store.Key{}
	if typ != "" {
		after = taskKey(t, request, typ, id)
	}
	err = l.store.Scan(t.scope().Prefix(store.KindManagementTask, request), after, func(_ store.Key, value []byte) bool {
		if task, err := decode[Task](value); err == nil {
			all = append(all, task)
		}
		return len(all) < n
	})
	return all, err
}

// Task is that of one device; ok is false where there is none.
func (l *Ledger) Task(t Tenant, request string, typ, id policy.ID) (_ Task, ok bool, err error) {
	return read[Task](l.store, taskKey(t, request, typ, id))
}

// OpenRequests are those with a task for a device that is not complete, n at most.
func (l *Ledger) OpenRequests(t Tenant, typ, id policy.ID, n int) (requests []string, err error) {
	err = l.store.Scan(t.scope().Prefix(store.KindManagementOpen, string(typ), string(id)), store.Key{}, func(key store.Key, _ []byte) bool {
		if parts := key.Parts(); len(parts) == 3 {
			requests = append(requests, parts[2])
		}
		return len(requests) < n
	})
	return requests, err
}

// PutRequest keeps r.
func (b *Batch) PutRequest(t Tenant, r *Request) error { return b.put(requestKey(t, r.ID), r) }

// DropRequest removes a request. Its tasks go by DropTask.
func (b *Batch) DropRequest(t Tenant, id string) { b.add(store.Delete(requestKey(t, id))) }

// PutTask keeps task, and where its device leads to it as long as it is not
// complete.
func (b *Batch) PutTask(t Tenant, request string, task *Task) error {
	if task.Status < 0 || task.Status > lastOfTaskState {
		return errDamaged
	}
	if err := b.put(taskKey(t, request, task.Type, task.ID), task); err != nil {
		return err
	}
	open := openKey(t, request, task.Type, task.ID)
	if !task.Complete() {
		b.add(store.Put(open, []byte{formatJSON}))
		return nil
	}
	b.add(store.Delete(open))
	return nil
}

// DropTask removes a task.
func (b *Batch) DropTask(t Tenant, request string, typ, id policy.ID) {
	b.add(store.Delete(taskKey(t, request, typ, id)))
	b.add(store.Delete(openKey(t, request, typ, id)))
}
