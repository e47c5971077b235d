# Whose connection has to be how good.
#
# The level of the organisation is the least; this asks for more.
package cordon.connect

# METADATA
# title: Why a connect is refused, whatever would allow it
deny contains "gateways and applications connect over TLS" if {
	input.principal.kind in {"gateway", "application"}
	not _over_tls
}

deny contains "this gateway presents a client certificate" if {
	input.principal.kind == "gateway"
	"certified" in input.principal.member_of
	not input.client.tls.cert
}

_over_tls if input.client.listener in {"mqtts", "wss", "https"}
