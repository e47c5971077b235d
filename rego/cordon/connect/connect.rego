# METADATA
# title: Who may connect, and which topics become whose
package cordon.connect

# METADATA
# title: Which verifiers are asked, in this order
# description: >-
#   A verifier that does not know a credential leaves it to the next. A client
#   certificate without a username is all there is to check, and so is one where the
#   organisation wants nothing else. Where it wants a token and a certificate, both are
#   asked, and have to be of the same client. The username "use-plugin:NAME" chooses
#   the plugin of that name in the place of a token, and nobody else; where NAME cannot
#   be a plugin's, nobody is asked, and that refuses. Nothing here denies for what is
#   missing: decision does, and says so to whom the rest was verified of.
verifiers := [{"verifier": "certificate"}] if _certificate_alone

else := [object.union(_secret, {"and": "certificate"})] if _certificate_beside

else := [_secret] if _secret

else := []

_certificate_alone if {
	input.client.tls.cert
	input.client.username == ""
}

_certificate_alone if {
	input.client.tls.cert
	input.org.connection_level == "tls_certificate"
}

_certificate_beside if {
	input.client.tls.cert
	input.org.connection_level == "tls_token_and_certificate"
}

# Who checks a password.
_secret := {"verifier": "token"} if {
	not _chooses_plugin
	not _shows_claim
}

_secret := {"verifier": "plugin", "name": name} if {
	_chooses_plugin
	name := trim_prefix(input.client.username, "use-plugin:")
	regex.match(`^[A-Za-z0-9_.-]{1,36}$`, name)
}

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

else := object.union({"allow": false}, _violation) if _connects

else := _by_claim if input.principal.verifier == "claim"

else := {
	"allow": true,
	# A device writes short topics, with or without a slash in front. It manages
	# itself on those of device management: it speaks on the first and hears on the
	# second.
	"mounts": [
		{"client": "iot-2/", "org": prefix, "device": {"type": 2, "id": 4}},
		{"client": "/iot-2/", "org": prefix, "device": {"type": 2, "id": 4}},
		{"client": "iotdevice-1/", "org": concat("", ["iotdevice-1/", own]), "device": {"type": 2, "id": 4}},
		{"client": "iotdm-1/", "org": concat("", ["iotdm-1/", own]), "device": {"type": 2, "id": 4}},
	],
	"roles": input.principal.roles,
	"groups": input.principal.groups,
	"limits": object.get(data.cordon.connect.limits, "device", {}),
} if {
	input.principal.kind == "device"
	input.principal.registered
	_permitted_client_id
	own := concat("", ["type/", input.principal.type, "/id/", input.principal.id, "/"])
	prefix := concat("", ["iot-2/", own])
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
	_permitted_client_id
}

# Its certificate says that there is such a device, and the organisation takes its
# word.
else := {"allow": false, "register": true, "reason": _refusal} if {
	input.org.certificate_registration
	_certified
	_unregistered
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

# What the connection violates of what the organisation demands. The first that applies
# is the reason, and what is counted.
_violation := {"violation": "address", "reason": "connections from this address are not allowed"} if {
	_refused_address
} else := {"violation": "connection_level", "reason": "this organisation requires TLS"} if {
	_level != "tls_optional"
	not _encrypted
} else := {"violation": "connection_level", "reason": _missing} if {
	not _sufficient
}

_refused_address if {
	input.org.address_list == "deny"
	input.org.address_listed
}

_refused_address if {
	input.org.address_list == "allow"
	not input.org.address_listed
}

_encrypted if input.client.listener == "mqtts"

_encrypted if input.client.listener == "wss"

_encrypted if input.client.listener == "https"

default _level := "tls"

_level := input.org.connection_level

# What each level wants beside TLS. Who chose none takes either.
_sufficient if _level == "tls"

_sufficient if _level == "tls_certificate_or_token"

_sufficient if {
	_level == "tls_token"
	not _without_token
}

_sufficient if {
	_level == "tls_optional"
	not _without_token
}

_sufficient if {
	_level == "tls_certificate"
	_certified
}

_sufficient if {
	_level == "tls_token_and_certificate"
	not _without_token
	_certified
}

_certified if input.principal.verifier == "certificate"

_certified if input.principal.also == "certificate"

# A plugin's token is one, too.
_without_token if input.principal.verifier == "certificate"

_without_token if input.principal.verifier == "anonymous"

_missing := "this organisation requires a client certificate beside the token" if {
	_level == "tls_token_and_certificate"
	not _without_token
} else := "this organisation requires a token beside the client certificate" if {
	_level == "tls_token_and_certificate"
	_certified
} else := "this organisation requires a client certificate" if {
	_level == "tls_certificate"
} else := "this organisation requires a token"

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
	_unregistered
} else := sprintf("the client ID has to be %s", [_own_client_id]) if {
	_own_client_id
} else := "the client ID says that the client is somebody else"

_unregistered if {
	input.principal.kind in {"device", "gateway"}
	not input.principal.registered
}

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
