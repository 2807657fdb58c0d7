"""Image data sets, one file each.

`load(parameters, place, size)` returns `Images` (pixels in memory) or `Listing` (paths to decode
while training).
"""
