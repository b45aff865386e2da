"""Turns a model's variables into constants, byte for byte.

- freezing: `freeze_model`
- options: the options and the result of a freeze
- component, command: the TFX component, and the command
"""
