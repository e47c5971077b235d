# METADATA
# title: Who may connect, and which topics become whose
package cordon.connect

# METADATA
# title: Which verifiers are asked, in this order
# description: A verifier that does not know a credential leaves it to the next.
verifiers := [{"verifier": "token"}]

# METADATA
# title: Whether a verified principal may connect
# description: >-
#   The mounts decide how its topics are written inside the organisation; roles
#   and groups are those the session keeps. The limits of each kind are in
#   data.json beside this file; what is not there has its default.
decision := {"allow": false, "reason": _refusal} if _refusal

else := object.union(_shared, {
	"allow": true,
	"mounts": _mounts[input.principal.kind],
	"roles": input.principal.roles,
	"groups": input.principal.groups,
	"limits": object.get(data.cordon.connect.limits, input.principal.kind, {}),
})

# The first that applies is the reason.
_refusal := "only devices, gateways and applications connect over MQTT" if {
	not _mounts[input.principal.kind]
} else := sprintf("this %s is not registered", [input.principal.kind]) if {
	not _known
} else := "this organisation requires TLS" if {
	not input.client.listener in {"mqtts", "wss", "https"}
	not input.org.connection_level == "tls_optional"
} else := sprintf("the client ID has to be %s", [concat(" or ", _own_ids)]) if {
	_claims_identity
	not _own_identity
}

# Applications A:… share what they subscribe to: all that name an instance, and
# all that do not, each in a group of their own.
default _shared := {}

_shared := {"share": sprintf("A:%s", [input.principal.app])} if {
	_class_and_parts == ["A", 3]
}

_shared := {"share": sprintf("A:%s:instances", [input.principal.app])} if {
	_class_and_parts == ["A", 4]
}

_class_and_parts := [parts[0], count(parts)] if {
	input.principal.kind == "application"
	parts := split(input.client.id, ":")
}

_known if input.principal.kind == "application"

_known if input.principal.registered

# Client IDs

# A client ID that begins like one of the platform says who its client is.
_claims_identity if {
	parts := split(input.client.id, ":")
	count(parts) > 1
	parts[0] in {"d", "g", "a", "A"}
}

_own_identity if input.client.id in _own_ids

# A:{org}:{app}:{instance}
_own_identity if {
	input.principal.kind == "application"
	["A", input.principal.org, input.principal.app, instance] = split(input.client.id, ":")
	instance != ""
}

_own_ids contains concat(":", ["d", input.principal.org, input.principal.type, input.principal.id]) if {
	input.principal.kind == "device"
}

_own_ids contains concat(":", ["g", input.principal.org, input.principal.type, input.principal.id]) if {
	input.principal.kind == "gateway"
}

_own_ids contains concat(":", [class, input.principal.org, input.principal.app]) if {
	input.principal.kind == "application"
	some class in ["a", "A"]
}

# Mounts

# A device writes short topics, with or without a slash in front; its own type
# and id are put in. They name it at levels 2 and 4.
_mounts["device"] := [{"client": prefix, "org": _own_prefix, "device": _device_levels} |
	some prefix in ["iot-2/", "/iot-2/"]
]

_mounts["gateway"] := _identity

_mounts["application"] := _identity

_own_prefix := sprintf("iot-2/type/%s/id/%s/", [input.principal.type, input.principal.id])

# Gateways and applications write the whole topic themselves.
_identity := [{"client": "", "org": "", "device": _device_levels}]

_device_levels := {"type": 2, "id": 4}
