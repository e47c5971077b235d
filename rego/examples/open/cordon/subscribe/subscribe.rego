# METADATA
# title: Everybody may subscribe to everything but one filter
# description: >-
#   The one is for clients that want to see a refusal. It keeps no secret: a
#   filter such as "test/+" gets the same messages.
package cordon.subscribe

# METADATA
# title: Whether one filter may be subscribed to
decision := {"allow": false, "reason": "test/nosubscribe is here to be refused"} if {
	input.levels == ["test", "nosubscribe"]
}

else := {"allow": true, "qos": 2}
