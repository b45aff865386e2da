"""Training functions for TFX's stock Trainer, which is given their module path."""
