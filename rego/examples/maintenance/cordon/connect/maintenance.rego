# Who may connect during maintenance.
#
# The switch is maintenance in the data of the organisation.
package cordon.connect

# METADATA
# title: Why a connect is refused, whatever would allow it
deny contains "this organisation is under maintenance; try again later" if {
	input.org.data.maintenance
	not _maintains
}

_maintains if "PD_ADMIN_APP" in input.principal.roles
