"""Deep networks: pre-train, immunize, measure and attack. Needs timm (`pip install '.[networks]'`)."""
