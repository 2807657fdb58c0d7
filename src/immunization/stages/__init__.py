"""The stages of a study, one a rule of the workflow."""
