package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// APIKeys is what the API key routes work on. A key of another organisation is
// unknown to it.
type APIKeys interface {
	CreateAPIKey(ctx context.Context, org policy.OrgID, k registry.APIKey) (registry.APIKey, string, error)
	APIKey(ctx context.Context, org policy.OrgID, key string) (registry.APIKey, error)
	APIKeys(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.APIKey, string, error)
	UpdateAPIKey(ctx context.Context, org policy.OrgID, key string, edit func(*registry.APIKey) error) (registry.APIKey, error)
	DeleteAPIKey(ctx context.Context, org policy.OrgID, key string) error
	ReplaceAPIKeyToken(ctx context.Context, org policy.OrgID, key string, grace time.Duration) (string, error)
}

// APIKeyObject is an API key without its token.
type APIKeyObject struct {
	Key     string     `json:"key"`
	Comment string     `json:"comment"`
	Roles   []string   `json:"roles" nullable:"false"`
	Status  int        `json:"status" enum:"0,1" doc:"0 disabled, 1 enabled."`
	Created timestamp  `json:"createdDateTime"`
	Updated timestamp  `json:"updatedDateTime"`
	Expires *timestamp `json:"expires,omitempty"`
}

func showAPIKey(k *registry.APIKey) APIKeyObject {
	o := APIKeyObject{
		Key: k.Key, Comment: k.Comment, Roles: append([]string{}, k.Roles...), Status: status(k.Disabled),
		Created: timestamp{k.Created}, Updated: timestamp{k.Updated},
	}
	if !k.Expires.IsZero() {
		o.Expires = &timestamp{k.Expires}
	}
	return o
}

// status is 0 for what is disabled and 1 for what is enabled.
func status(disabled bool) int {
	if disabled {
		return 0
	}
	return 1
}

// NewAPIKey asks for an API key.
type NewAPIKey struct {
	Comment *string  `json:"comment,omitempty" nullable:"true"`
	Roles   []string `json:"roles,omitempty" nullable:"true" doc:"PD_STANDARD_APP, unless given."`
	Expires *string  `json:"expires,omitempty" nullable:"true" format:"date-time" doc:"Never, unless given."`
}

// CreatedAPIKey is the only answer that holds a new key's token.
type CreatedAPIKey struct {
	Key     string     `json:"key"`
	Token   string     `json:"token"`
	Comment string     `json:"comment"`
	Roles   []string   `json:"roles" nullable:"false"`
	Expires *timestamp `json:"expires,omitempty"`
}

// APIKeyTokenRequest asks for another token. Its body may be absent.
type APIKeyTokenRequest struct {
	GraceSeconds *int `json:"graceSeconds,omitempty" nullable:"true" minimum:"0" maximum:"86400" doc:"How long the token so far stays good; 0 unless given."`
}

// APIKeyToken is the only answer that holds a key's new token.
type APIKeyToken struct {
	Key   string `json:"key"`
	Token string `json:"token"`
}

func (a *API) apiKeyRoutes(s *surface) {
	const all, one = "/authorization/apikeys", "/authorization/apikeys/{key}"
	handle(s, operation{
		method: "GET", path: all, id: "listAPIKeys", summary: "API keys",
		status: http.StatusOK, list: true,
	}, a.listAPIKeys)
	handle(s, operation{
		method: "POST", path: all, id: "createAPIKey", summary: "Add an API key; the answer holds its token, once",
		status: http.StatusOK, body: true, roles: rolesAsked,
	}, a.createAPIKey)
	handle(s, operation{
		method: "GET", path: one, id: "readAPIKey", summary: "One API key",
		status: http.StatusOK,
	}, a.readAPIKey)
	handle(s, operation{
		method: "PUT", path: one, id: "updateAPIKey", summary: "Change an API key, or disable it and disconnect what uses it",
		status: http.StatusOK, body: true, roles: a.rolesOfEdit,
	}, a.updateAPIKey)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteAPIKey", summary: "Remove an API key and disconnect what uses it",
		status: http.StatusOK,
	}, a.deleteAPIKey)
	handle(s, operation{
		method: "POST", path: one + "/token", id: "replaceAPIKeyToken", summary: "Replace a key's token; the answer holds the new one, once",
		status: http.StatusOK, body: true, optional: true, roles: a.rolesOfKey,
	}, a.replaceAPIKeyToken)
}

// rolesAsked are those that a new key is to have: whoever makes a key holds its
// token, and could so get more than they have.
func rolesAsked(_ context.Context, t *target) ([]string, error) {
	var asked NewAPIKey
	if len(t.body) == 0 {
		return nil, nil
	}
	err := decode(t.body, &asked)
	if len(asked.Roles) == 0 {
		return []string{registry.RoleStandardApp}, err // what the registry gives it
	}
	return asked.Roles, err
}

// rolesOfKey are those of the key whose token is replaced, for the same reason.
// A key that does not exist has none; the handler says so.
func (a *API) rolesOfKey(ctx context.Context, t *target) ([]string, error) {
	k, err := a.registry.APIKey(ctx, t.org, t.params("key"))
	if policy.KindOf(err) == policy.KindNotFound {
		return nil, nil
	}
	return k.Roles, err
}

// APIKeyPatch is what can be changed of an API key.
type APIKeyPatch struct {
	Comment *string  `json:"comment,omitempty" nullable:"true"`
	Roles   []string `json:"roles,omitempty" nullable:"true"`
	Status  *int     `json:"status,omitempty" nullable:"true" enum:"0,1" doc:"0 disables and disconnects, 1 enables."`
	Expires *string  `json:"expires,omitempty" nullable:"true" format:"date-time"`
}

// rolesOfEdit are those that the key has and those that it is to have: nobody
// raises a key beyond themselves, or takes anything from one that is beyond them.
func (a *API) rolesOfEdit(ctx context.Context, t *target) ([]string, error) {
	var asked APIKeyPatch
	if len(t.body) > 0 {
		if err := decode(t.body, &asked); err != nil {
			return nil, err
		}
	}
	if asked.Roles != nil && len(asked.Roles) == 0 {
		asked.Roles = []string{registry.RoleStandardApp} // what the registry gives it
	}
	had, err := a.rolesOfKey(ctx, t)
	return union(asked.Roles, had), err
}

func (a *API) updateAPIKey(ctx context.Context, c *call, in *APIKeyPatch) (APIKeyObject, error) {
	if s := in.Status; s != nil && *s != 0 && *s != 1 {
		return APIKeyObject{}, invalid("status", "must be 0 or 1")
	}
	expires := time.Time{}
	if in.Expires != nil {
		var err error
		if expires, err = parseTime("expires", *in.Expires); err != nil {
			return APIKeyObject{}, err
		}
	}
	k, err := a.registry.UpdateAPIKey(ctx, c.org, c.params("key"), func(k *registry.APIKey) error {
		keep(&k.Comment, in.Comment)
		if in.Roles != nil {
			k.Roles = in.Roles
		}
		if in.Status != nil {
			k.Disabled = *in.Status == 0
		}
		if in.Expires != nil {
			k.Expires = expires
		}
		return nil
	})
	return showAPIKey(&k), err
}

func (a *API) listAPIKeys(ctx context.Context, c *call, _ *none) (List[APIKeyObject], error) {
	page, err := c.page()
	if err != nil {
		return List[APIKeyObject]{}, err
	}
	found, next, err := a.registry.APIKeys(ctx, c.org, page)
	return listed(found, next, err, showAPIKey)
}

func (a *API) createAPIKey(ctx context.Context, c *call, in *NewAPIKey) (CreatedAPIKey, error) {
	k := registry.APIKey{Comment: value(in.Comment), Roles: in.Roles}
	if in.Expires != nil {
		expires, err := parseTime("expires", *in.Expires)
		if err != nil {
			return CreatedAPIKey{}, err
		}
		k.Expires = expires
	}
	made, token, err := a.registry.CreateAPIKey(ctx, c.org, k)
	if err != nil {
		return CreatedAPIKey{}, err
	}
	shown := showAPIKey(&made)
	return CreatedAPIKey{
		Key: shown.Key, Token: token, Comment: shown.Comment, Roles: shown.Roles, Expires: shown.Expires,
	}, nil
}

func (a *API) readAPIKey(ctx context.Context, c *call, _ *none) (APIKeyObject, error) {
	k, err := a.registry.APIKey(ctx, c.org, c.params("key"))
	return showAPIKey(&k), err
}

func (a *API) deleteAPIKey(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.registry.DeleteAPIKey(ctx, c.org, c.params("key"))
}

func (a *API) replaceAPIKeyToken(ctx context.Context, c *call, in *APIKeyTokenRequest) (APIKeyToken, error) {
	grace, err := parseGrace(in.GraceSeconds)
	if err != nil {
		return APIKeyToken{}, err
	}
	key := c.params("key")
	token, err := a.registry.ReplaceAPIKeyToken(ctx, c.org, key, grace)
	if err != nil {
		return APIKeyToken{}, err
	}
	return APIKeyToken{Key: key, Token: token}, nil
}
