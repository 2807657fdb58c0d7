"""The config of a study, without torch: read, checked, completed."""
