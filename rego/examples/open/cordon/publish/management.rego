package cordon.publish

# Everything may be published here already, device management among it.
