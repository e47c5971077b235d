# METADATA
# title: What the decision log does not record
# description: >-
#   As in Open Policy Agent. The input is a record: what was decided about is
#   input.input, the answer input.result, and Cordon's own fields are input.custom.
package system.log

# METADATA
# title: What is taken out of each record
# description: >-
#   Claims may hold what a token says of a person, and the username whatever a
#   client writes there. A path that is not there is no error.
mask contains "/input/principal/claims"

mask contains "/input/client/username"

# METADATA
# title: What is replaced
# description: Of an application's address the log needs to know nothing.
mask contains {"op": "upsert", "path": "/input/client/address", "value": "-"} if {
	input.input.principal.kind == "application"
}

# METADATA
# title: Which records are not kept at all
# description: Permits only. A refusal is always worth a record.
drop if {
	input.custom.action == "receive"
	input.custom.allow
}
