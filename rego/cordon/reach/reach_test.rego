package cordon.reach_test

import data.cordon.reach

_gateway(groups) := {"kind": "gateway", "type": "router", "id": "g1", "restricted": true, "groups": groups}

_device(groups) := {"type": "sensor", "id": "d1", "registered": true, "status": "enabled", "groups": groups}

test_a_shared_group_is_reach if {
	reach.within with input as {"principal": _gateway(["a", "b"]), "device": _device(["b", "c"])}
	not reach.within with input as {"principal": _gateway(["a"]), "device": _device(["b", "c"])}
	not reach.within with input as {"principal": _gateway([]), "device": _device([])}
	not reach.within with input as {"principal": _gateway(["a"])}
}

test_everybody_reaches_themselves if {
	reach.within with input as {"principal": _gateway([]), "device": {"type": "router", "id": "g1", "groups": []}}
	not reach.within with input as {"principal": _gateway([]), "device": {"type": "router", "id": "g2", "groups": []}}
	not reach.within with input as {"principal": _gateway([]), "device": {"type": "sensor", "id": "g1", "groups": []}}
	reach.itself with input as {"principal": _gateway([]), "levels": split("iot-2/type/router/id/g1/notify", "/")}
	not reach.itself with input as {"principal": _gateway([]), "levels": split("iot-2/type/router/id/+/notify", "/")}
}

test_what_is_disabled_or_unknown_is_not_served if {
	principal := object.union(_gateway([]), {"restricted": false})
	reach.serves with input as {"principal": principal, "device": _device([])}
	not reach.serves with input as {"principal": principal, "device": object.union(_device([]), {"status": "disabled"})}
	not reach.serves with input as {"principal": principal, "device": {"type": "sensor", "id": "d1", "registered": false, "groups": []}}
	not reach.serves with input as {"principal": principal}
}
