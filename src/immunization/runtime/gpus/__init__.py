"""Which GPU a job gets, and how much memory of it."""
