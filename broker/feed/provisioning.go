package feed

import (
	"context"
	"encoding/json"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// credentials is what a device connects with from now on, in the words of CONNECT.
type credentials struct {
	ClientID string `json:"clientId"`
	Username string `json:"username"`
	Password string `json:"authToken"`
}

// provisioning is the token that the device p is to be given: on
// iotdm-1/provisioning/credentials, as the device writes it, or in an HTTP answer.
func provisioning(r *registry.Registry, p *policy.Principal) (broker.Handover, bool) {
	name, err := topic.ParseRoutedName("iotdm-1/type/" + string(p.Type) + "/id/" + string(p.ID) + "/provisioning/credentials")
	if err != nil {
		return broker.Handover{}, false // identifiers always make one
	}
	return broker.Handover{Topic: name, Make: func(ctx context.Context) ([]byte, error) {
		token, err := r.HandOver(ctx, p)
		if err != nil {
			return nil, err
		}
		return json.Marshal(credentials{ //nolint:gosec // it is what the device is to read
			ClientID: "d:" + p.Org.String() + ":" + string(p.Type) + ":" + string(p.ID), Username: registry.TokenUser, Password: token,
		})
	}}, true
}
