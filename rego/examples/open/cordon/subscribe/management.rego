package cordon.subscribe

# Everything may be subscribed to here already, device management among it.
