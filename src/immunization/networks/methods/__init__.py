"""Ways to immunize a network, one file each (see `immunization.networks.contracts`)."""
