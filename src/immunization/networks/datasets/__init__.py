"""Image data sets, one file each (see `immunization.networks.contracts`)."""
