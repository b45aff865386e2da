"""What runs in a step's container.

- entrypoint: the container's command
- executor_input: what a launcher hands over, as TFX's executors take it, and back
- retrying: further tries after errors that may pass
- launching: a step on several hosts, by a JobSet
- exchange: the folder in which the step and its workers hand each other inputs and results
- tpu_worker, tpu_server: the command on each host, and TensorFlow's server that holds its chips
"""
