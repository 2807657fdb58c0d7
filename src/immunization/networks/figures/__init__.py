"""Figures of a study of networks, one file each, as in `immunization.linear.figures`."""
