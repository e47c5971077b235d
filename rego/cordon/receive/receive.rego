# METADATA
# title: Who is given what it subscribed to
# description: >-
#   A filter with a "+" for devices matches those that a restricted principal does
#   not reach, too. They are left out here. Nobody else is asked about, so nobody
#   else pays for it.
package cordon.receive

import data.cordon.reach

# METADATA
# title: Whose deliveries are decided
# description: >-
#   Asked once for each principal, so it may read neither the message nor the clock.
#   More rules of this name add to whom the decision is about.
applies if input.principal.restricted

# METADATA
# title: Whether one message may be delivered
# description: >-
#   Rules called deny, in files beside this one, take away and give nothing. Beside
#   them belongs a rule applies, for whom they are about.
decision := {"allow": false, "reason": reason} if {
	reason := min(data.cordon.receive.deny)
}

else := {"allow": true} if reach.within

else := {"allow": false, "reason": "this principal does not reach the device"}
