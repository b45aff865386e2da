"""Examples for models: read from records, or synthetic."""
