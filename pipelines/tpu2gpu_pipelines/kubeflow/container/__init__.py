"""What runs in a step's container.

- entrypoint: the container's command
- executor_input: what a launcher hands over, as TFX's executors take it, and back
- retrying: further tries after errors that may pass
"""
