"""Families of networks, one file each: `build(parameters, size)` returns a `Backbone`."""
