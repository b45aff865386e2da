"""Makes a clean inference SavedModel of what a TPU training run left behind."""
