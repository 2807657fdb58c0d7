"""Commands for people, beside the stages of a study."""
