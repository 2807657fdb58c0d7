"""Deep networks: pre-train, immunize, measure and attack. Needs the extra `networks`."""
