"""Turns a frozen model's weights back into variables.

- unfreezing: `unfreeze_model`, and `list_weights`
- options: the options and the result
- onto, code, matching: the checkpoint for model code, in a process of its own, or for readers of another
- component, command: the TFX component, and the command
"""
