package cordon.roles_test

import data.cordon.roles

test_roles_add_up if {
	both := {"principal": {"roles": ["PD_OPERATOR_APP", "PD_STANDARD_APP"]}}
	roles.publishes == {"evt", "cmd"} with input as both
	roles.subscribes == {"evt", "cmd"} with input as both
	"apikeys.edit" in roles.permissions with input as both
}

test_operator_publishes_commands_and_reads_events if {
	operator := {"principal": {"roles": ["PD_OPERATOR_APP"]}}
	roles.publishes == {"cmd"} with input as operator
	roles.subscribes == {"evt"} with input as operator
}

test_unknown_role_adds_nothing if {
	stranger := {"principal": {"roles": ["Nobody"]}}
	count(roles.publishes) == 0 with input as stranger
	count(roles.subscribes) == 0 with input as stranger
	count(roles.permissions) == 0 with input as stranger
}
