package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// The demonstration organisation and what is in it.
const (
	demoOrg    = "demo01"
	demoType   = policy.ID("sensor")
	demoDevice = policy.ID("d1")
)

// tour is what the demonstration prints. Its tokens are empty at every start
// but the first: they cannot be read again.
type tour struct{ key, token, deviceToken string }

// demo makes the demonstration organisation, or with reset gives it new tokens.
func (n *node) demo(ctx context.Context, out io.Writer, reset bool) error {
	org, err := policy.ParseOrgID(demoOrg)
	if err != nil {
		return err
	}
	n.tour = &tour{}
	seed, err := n.registry.SeedOrganisation(ctx, org, "Demonstration")
	switch {
	case policy.KindOf(err) == policy.KindExists && !reset:
		return nil
	case policy.KindOf(err) == policy.KindExists:
		return n.resetDemo(ctx, org)
	case err != nil:
		return err
	}
	n.tour.key, n.tour.token = seed.APIKey.Key, seed.APIToken
	if _, err := n.registry.CreateType(ctx, org, registry.DeviceType{ID: demoType, Description: "Demonstration sensor"}); err != nil {
		return err
	}
	_, n.tour.deviceToken, err = n.registry.CreateDevice(ctx, org, registry.Device{Type: demoType, ID: demoDevice}, plugins.Secret{})
	return err
}

// resetDemo replaces the tokens of the first administrator's key and the device.
func (n *node) resetDemo(ctx context.Context, org policy.OrgID) error {
	keys, _, err := n.registry.APIKeys(ctx, org, registry.Page{Limit: 1000})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(keys, func(k registry.APIKey) bool { return slices.Contains(k.Roles, registry.RoleAdminApp) })
	if i < 0 {
		return fmt.Errorf("organisation %s has no API key with role %s left; delete the data folder to begin again", demoOrg, registry.RoleAdminApp)
	}
	n.tour.key = keys[i].Key
	if n.tour.token, err = n.registry.ReplaceAPIKeyToken(ctx, org, n.tour.key, 0); err != nil {
		return err
	}
	n.tour.deviceToken, err = n.registry.ReplaceDeviceToken(ctx, org, demoType, demoDevice, plugins.Secret{}, 0)
	return err
}

// printTour prints commands to paste, for the listeners that are open.
func (n *node) printTour(out io.Writer) {
	t := n.tour
	if t.token == "" {
		fmt.Fprintf(out, "Organisation %s is there already; its tokens were printed when they were made.\n", demoOrg)
		fmt.Fprint(out, "Start with --demo-reset for new ones.\n\n")
		return
	}
	fmt.Fprintf(out, `Organisation %[1]s is ready, with device d1 of type sensor. Tokens are shown this once.
In a second terminal, paste this line first; README.md goes on from there:

export CA='%[2]s' APP_KEY='%[3]s' APP_TOKEN='%[4]s' DEVICE_TOKEN='%[5]s'

`, demoOrg, n.caFile, t.key, t.token, t.deviceToken)
	mqttCA, curlCA := "", ""
	if n.caFile != "" { // else the operator's certificate is trusted as it is anywhere
		mqttCA, curlCA = " --cafile '"+n.caFile+"'", " --cacert '"+n.caFile+"'"
	}
	if n.mqtts != nil {
		server := "-h localhost -p " + portOf(n.mqtts.Addr()) + mqttCA
		fmt.Fprintf(out, `An application hears every device of its organisation:

mosquitto_sub %[1]s -i a:%[2]s:tour -u '%[3]s' -P '%[4]s' -v -t 'iot-2/type/+/id/+/evt/+/fmt/+'

The device writes a short topic; who it is comes from its token:

mosquitto_pub %[1]s -i d:%[2]s:sensor:d1 -u use-token-auth -P '%[5]s' -q 1 -t iot-2/evt/status/fmt/json -m '{"temp":21}'

`, server, demoOrg, t.key, t.token, t.deviceToken)
	}
	if n.https != nil {
		fmt.Fprintf(out, `The REST interface:

curl%s -u '%s:%s' https://localhost:%s/api/v0002/device/types/sensor/devices/d1

`, curlCA, t.key, t.token, portOf(n.https.Addr()))
	}
}
