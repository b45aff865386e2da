"""TensorFlow's V2 checkpoint files ("tensor bundles"), read and written directly and in bounded memory."""
