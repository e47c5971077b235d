# METADATA
# title: Who may connect, and which topics become whose
package cordon.connect

# METADATA
# title: Which verifiers are asked, in this order
# description: >-
#   A verifier that does not know a credential leaves it to the next. The
#   username "use-plugin:NAME" chooses the plugin of that name and nobody else;
#   where NAME cannot be a plugin's, nobody is asked, and that refuses.
verifiers := [{"verifier": "token"}] if not _chooses_plugin

else := [{"verifier": "plugin", "name": name}] if {
	name := trim_prefix(input.client.username, "use-plugin:")
	regex.match(`^[A-Za-z0-9_.-]{1,36}$`, name)
}

else := []

_chooses_plugin if startswith(input.client.username, "use-plugin:")

# METADATA
# title: Whether a verified principal may connect
# description: >-
#   The mounts decide how its topics are written inside the organisation; the
#   levels that name a device are 2 and 4. Roles and groups are those the session
#   keeps. The limits of each kind are in data.json beside this file; what is not
#   there has its default. Rules called deny, in files beside this one, take away
#   and give nothing.
decision := {"allow": false, "reason": reason} if {
	reason := min(data.cordon.connect.deny)
}

else := {
	"allow": true,
	# A device writes short topics, with or without a slash in front.
	"mounts": [
		{"client": "iot-2/", "org": prefix, "device": {"type": 2, "id": 4}},
		{"client": "/iot-2/", "org": prefix, "device": {"type": 2, "id": 4}},
	],
	"roles": input.principal.roles,
	"groups": input.principal.groups,
	"limits": object.get(data.cordon.connect.limits, "device", {}),
} if {
	input.principal.kind == "device"
	input.principal.registered
	_permitted_listener
	_permitted_client_id
	prefix := concat("", ["iot-2/type/", input.principal.type, "/id/", input.principal.id, "/"])
}

else := {
	"allow": true,
	# A gateway writes the whole topic itself.
	"mounts": [{"client": "", "org": "", "device": {"type": 2, "id": 4}}],
	"roles": input.principal.roles,
	"groups": input.principal.groups,
	"limits": object.get(data.cordon.connect.limits, "gateway", {}),
} if {
	input.principal.kind == "gateway"
	input.principal.registered
	_permitted_listener
	_permitted_client_id
}

else := object.union(_shared, {
	"allow": true,
	# So does an application, which needs no registration.
	"mounts": [{"client": "", "org": "", "device": {"type": 2, "id": 4}}],
	"roles": input.principal.roles,
	"groups": input.principal.groups,
	"limits": object.get(data.cordon.connect.limits, "application", {}),
}) if {
	input.principal.kind == "application"
	_permitted_listener
	_permitted_client_id
}

else := {"allow": false, "reason": _refusal}

# Applications A:… share what they subscribe to: all that name an instance, and
# all that do not, each in a group of their own.
default _shared := {}

_shared := {"share": concat("", ["A:", input.principal.app])} if {
	["A", _, _] = split(input.client.id, ":")
}

_shared := {"share": concat("", ["A:", input.principal.app, ":instances"])} if {
	["A", _, _, _] = split(input.client.id, ":")
}

_permitted_listener if input.client.listener == "mqtts"

_permitted_listener if input.client.listener == "wss"

_permitted_listener if input.client.listener == "https"

_permitted_listener if input.org.connection_level == "tls_optional"

# A client ID that begins like one of the platform says who its client is, and
# has to say the truth. Any other says nothing.
_permitted_client_id if {
	input.principal.kind == "device"
	["d", input.principal.org, input.principal.type, input.principal.id] = split(input.client.id, ":")
}

_permitted_client_id if {
	input.principal.kind == "gateway"
	["g", input.principal.org, input.principal.type, input.principal.id] = split(input.client.id, ":")
}

_permitted_client_id if {
	input.principal.kind == "application"
	["a", input.principal.org, input.principal.app] = split(input.client.id, ":")
}

_permitted_client_id if {
	input.principal.kind == "application"
	["A", input.principal.org, input.principal.app] = split(input.client.id, ":")
}

_permitted_client_id if {
	input.principal.kind == "application"
	["A", input.principal.org, input.principal.app, instance] = split(input.client.id, ":")
	instance != ""
}

_permitted_client_id if not _names_somebody

_names_somebody if {
	parts := split(input.client.id, ":")
	count(parts) > 1
	parts[0] in {"d", "g", "a", "A"}
}

# The first that applies is the reason.
_refusal := "only devices, gateways and applications connect over MQTT" if {
	not _connects
} else := sprintf("this %s is not registered", [input.principal.kind]) if {
	input.principal.kind in {"device", "gateway"}
	not input.principal.registered
} else := "this organisation requires TLS" if {
	not _permitted_listener
} else := sprintf("the client ID has to be %s", [_own_client_id]) if {
	_own_client_id
} else := "the client ID says that the client is somebody else"

_connects if input.principal.kind in {"device", "gateway", "application"}

_own_client_id := concat(":", ["d", input.principal.org, input.principal.type, input.principal.id]) if {
	input.principal.kind == "device"
}

_own_client_id := concat(":", ["g", input.principal.org, input.principal.type, input.principal.id]) if {
	input.principal.kind == "gateway"
}

_own_client_id := sprintf("A:%s:%s or a:%s:%s", [org, app, org, app]) if {
	input.principal.kind == "application"
	org := input.principal.org
	app := input.principal.app
}
