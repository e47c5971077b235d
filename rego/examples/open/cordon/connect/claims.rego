package cordon.connect

# Nobody has to be registered here, so there is nothing to claim.
