# From where an API key is used.
#
# The table is in addresses/data.json; a key that it does not know is used from
# anywhere. A broker behind a proxy has to be told the peer's address by it.
package cordon.connect

# METADATA
# title: Why a connect is refused, whatever would allow it
deny contains "this key is not used from this address" if {
	networks := data.cordon.connect.addresses.networks[input.principal.api_key]
	not _within(networks)
}

_within(networks) if {
	some network in networks
	net.cidr_contains(network, input.client.address)
}
