"""The `tpu2gpu` command: its sub-commands, what they print, and the machine that they find."""
