package cordon.publish_test

import data.cordon.publish

test_everything_is_allowed_and_stays_retained if {
	every topic in ["a", "/a", "a//b", "TopicA/C", "$TopicA/B", "iot-2/type/sensor/id/d1/cmd/reboot"] {
		publish.decision == {"allow": true, "retain": "keep"} with input as {
			"principal": {"org": "demo01", "kind": "user", "id": "anonymous"},
			"topic": topic, "levels": split(topic, "/"), "qos": 2, "retain": true, "size": 0,
		}
	}
}
