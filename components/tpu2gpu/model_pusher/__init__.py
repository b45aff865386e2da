"""The ModelPusher step: what was blessed becomes what servers serve.

- component: the TFX component
- options: its options
- command: `tpu2gpu promote`, `rollback` and `promoted`
"""
