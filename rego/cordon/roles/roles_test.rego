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

test_a_role_of_the_organisation_adds_its_permissions if {
	speaker := {"principal": {"roles": ["fleet"], "permissions": ["events.publish", "commands.subscribe", "devices.view"]}}
	roles.publishes == {"evt"} with input as speaker
	roles.subscribes == {"cmd"} with input as speaker
	roles.permissions == {"events.publish", "commands.subscribe", "devices.view"} with input as speaker
}

test_it_adds_to_the_roles_of_the_table if {
	both := {"principal": {"roles": ["PD_VISUALIZATION_APP", "fleet"], "permissions": ["commands.publish"]}}
	roles.publishes == {"cmd"} with input as both
	roles.subscribes == {"evt"} with input as both
	"devices.view" in roles.permissions with input as both
}

# Whatever a role of messages is about has a word, by which a role of the
# organisation says the same.
test_every_kind_of_message_has_a_word if {
	every table in data.cordon.roles.messages {
		every act, kinds in table {
			every kind in kinds {
				data.cordon.roles.words[act][kind]
			}
		}
	}
}

test_gateway_without_roles_is_a_standard_one if {
	gateway := {"kind": "gateway", "type": "router", "id": "g1", "roles": []}
	roles.publishes == {"evt"} with input.principal as gateway
	roles.subscribes == {"cmd"} with input.principal as gateway
	not roles.registers with input.principal as gateway
	roles.publishes == set() with input.principal as {"kind": "application", "roles": []}
}

test_who_changes_devices_registers_them if {
	roles.registers with input.principal as {"kind": "gateway", "roles": ["PD_PRIVILEGED_GW_DEVICE"]}
	roles.registers with input.principal as {"kind": "gateway", "roles": ["fleet"], "permissions": ["devices.edit"]}
	not roles.registers with input.principal as {"kind": "gateway", "roles": ["PD_STANDARD_GW_DEVICE"]}
	roles.registers with input.principal as {"kind": "application", "roles": ["PD_ADMIN_APP"]}
}
