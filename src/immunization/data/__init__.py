"""Public data: downloads checked by their SHA-256, and the files of MNIST."""
