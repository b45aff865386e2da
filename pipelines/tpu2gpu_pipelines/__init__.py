"""The pipeline that turns a model trained on TPU into a promoted GPU serving model, and what runs it."""
