"""Running any kind of model on examples, and comparing two of them."""
