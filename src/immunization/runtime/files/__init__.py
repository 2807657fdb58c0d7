"""Files: atomic writes, checksums, reads that explain what is wrong."""
