"""Features and labels as a user has them, from Python or from files, and the pairs made of them."""
