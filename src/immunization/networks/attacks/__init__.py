"""Ways to fine-tune a released network, one file each (see `immunization.networks.contracts`)."""
