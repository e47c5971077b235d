# METADATA
# title: Everybody may publish everything
# description: The topics below $SYS stay the broker's own, whatever a policy says.
package cordon.publish

# METADATA
# title: Whether one topic may be published to
decision := {"allow": true, "retain": "keep"}
